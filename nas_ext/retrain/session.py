"""One call of a study: open it, go on with it here or in several processes, and return it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import optuna
from filelock import FileLock
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage

from nas_ext.retrain.database import is_in_memory
from nas_ext.retrain.loop import TURN_SECONDS, Callback, Loop
from nas_ext.retrain.objective import Objective
from nas_ext.retrain.presence import Worker, present
from nas_ext.retrain.resume import prepare, requeue_stale
from nas_ext.retrain.stopping import Stop, stop_on_sigterm, stops_are_no_failures
from nas_ext.retrain.storage import Storage, open_storage
from nas_ext.retrain.workers import run_workers


@dataclass(frozen=True, kw_only=True)
class Session:
    """Hold what each process needs to work on a study; pickled for those that are started.

    `owned` says that the storage is the folder's own, of no other folder's workers. `deadline`
    is in `time.monotonic`'s seconds, which the processes of a machine share.
    """

    objective: Objective
    storage: Storage
    owned: bool
    study_name: str
    sampler: BaseSampler
    pruner: BasePruner
    grace: int
    n_trials: int
    deadline: float | None
    callbacks: Sequence[Callback]
    quiet: bool

    def run(
        self,
        fingerprint: dict[str, Any],
        attributes: dict[str, Any],
        queue: list[dict[str, Any]],
        *,
        n_jobs: int,
        load_if_exists: bool,
    ) -> optuna.Study:
        """Create the study or check the old one, work on it, and return it."""
        if n_jobs > 1 and (isinstance(self.storage, BaseStorage) or is_in_memory(self.storage)):
            raise ValueError(
                "n_jobs above 1 needs the path or URL of a storage on a disk or a server, "
                f"got {self.storage}"
            )
        with self._at_work() as (stop, me, turn):
            with turn.acquire(timeout=TURN_SECONDS):
                opened = self._create(load_if_exists)
                prepare(opened, fingerprint, attributes, queue)
                loop = self._loop(opened, me, turn, stop)
                loop.begin()
            if n_jobs > 1:
                run_workers(self.join, n_jobs, stop)
            else:
                loop.run()
        return opened

    def join(self) -> None:
        """Work on the study that another process has opened."""
        with self._at_work() as (stop, me, turn):
            with turn.acquire(timeout=TURN_SECONDS):
                opened = optuna.load_study(
                    study_name=self.study_name,
                    storage=self._open(),
                    sampler=self.sampler,
                    pruner=self.pruner,
                )
            self._loop(opened, me, turn, stop).run()

    @contextmanager
    def _at_work(self) -> Iterator[tuple[Stop, Worker, FileLock]]:
        out = self.objective.out
        out.mkdir(parents=True, exist_ok=True)
        quiet = _quiet(self.quiet)
        with stop_on_sigterm() as stop, quiet, stops_are_no_failures(), present(out) as me:
            yield stop, me, FileLock(out / "turn.lock")

    def _create(self, load_if_exists: bool) -> optuna.Study:
        directions = self.objective.goals.directions
        opened = optuna.create_study(
            study_name=self.study_name,
            storage=self._open(),
            sampler=self.sampler,
            pruner=self.pruner,
            directions=directions,
            load_if_exists=load_if_exists,
        )
        found = [direction.name.lower() for direction in opened.directions]
        if "fingerprint" not in opened.user_attrs and found != directions:
            raise ValueError(
                f"study {self.study_name!r} was not made by nas-ext: it has the directions "
                f"{found} instead of {directions}: use another name"
            )
        return opened

    def _open(self) -> BaseStorage:
        interval = max(1, self.grace // 4)
        return open_storage(
            self.storage, on_stale=requeue_stale, interval=interval, grace=self.grace
        )

    def _loop(self, opened: optuna.Study, me: Worker, turn: FileLock, stop: Stop) -> Loop:
        return Loop(
            study=opened,
            objective=self.objective,
            me=me,
            turn=turn,
            stop=stop,
            owned=self.owned,
            grace=self.grace,
            n_trials=self.n_trials,
            deadline=self.deadline,
            callbacks=self.callbacks,
        )


@contextmanager
def _quiet(quiet: bool) -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    if quiet:
        optuna.logging.set_verbosity(max(before, optuna.logging.WARNING))
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)

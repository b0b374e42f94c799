"""A journal whose trials give signs of life, so that the trials of a dead machine are noticed."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.trial import FrozenTrial, TrialState

from nas_ext.retrain.journal import JournalFile, heartbeat_folder
from nas_ext.retrain.presence import machine

INTERVAL_SECONDS = 30
GRACE_SECONDS = 120

OnStale = Callable[[optuna.Study, FrozenTrial], None]

_logger = logging.getLogger(__name__)


class HeartbeatJournal(JournalStorage, BaseHeartbeat):
    """Be Optuna's journal storage with the heartbeat that Optuna gives only to databases.

    A running trial touches a file in the folder `<journal>.hb` every `interval` seconds. Optuna's
    loop fails the trials whose file is older than `grace` seconds, by the clock of the file
    server, and hands them to `on_stale`. Optuna does not export the base class, which is one
    reason why its version is bounded.
    """

    def __init__(
        self,
        journal: JournalFile,
        path: Path,
        *,
        on_stale: OnStale | None = None,
        interval: int = INTERVAL_SECONDS,
        grace: int = GRACE_SECONDS,
    ) -> None:
        self._folder = heartbeat_folder(path).absolute()
        self._on_stale = on_stale
        self._interval, self._grace = interval, grace
        self._beating: dict[int, Path] = {}
        super().__init__(journal)

    def record_heartbeat(self, trial_id: int) -> None:
        """Give a sign of life of a trial; a file system that fails is tried again next time."""
        if trial_id not in self._beating:
            self._beating[trial_id] = self._file(self.get_trial(trial_id))
        try:
            self._beating[trial_id].touch()
        except OSError as error:
            _logger.warning("no sign of life of trial id %d: %s", trial_id, error)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """Set a trial's state; an ended trial needs no sign of life any more."""
        done = super().set_trial_state_values(trial_id, state, values)
        if state.is_finished():
            self._beating.pop(trial_id, None)
            self._file(self.get_trial(trial_id)).unlink(missing_ok=True)
        return done

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        running = self.get_all_trials(study_id, deepcopy=False, states=(TrialState.RUNNING,))
        if not running:
            return []
        now = self._now()
        return [trial._trial_id for trial in running if now - self._last(trial) > self._grace]

    def get_heartbeat_interval(self) -> int:
        """Return the seconds between two signs of life."""
        return self._interval

    def get_heartbeat_stale_trial_callback(self) -> OnStale | None:
        """Return what is called with each trial that was failed for want of them."""
        return self._on_stale

    def _now(self) -> float:
        clock = self._folder / f"{machine()}.clock"
        clock.touch()
        return os.stat(clock).st_mtime

    def _last(self, trial: FrozenTrial) -> float:
        """Return when a trial was last alive, the start of an attempt included."""
        begun = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
        try:
            return max(begun, os.stat(self._file(trial)).st_mtime)
        except FileNotFoundError:
            return begun

    def _file(self, trial: FrozenTrial) -> Path:
        # The start tells apart trials of the same id: those of a journal that was deleted.
        begun = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
        return self._folder / f"{trial._trial_id}-{round(begun * 1e6)}"

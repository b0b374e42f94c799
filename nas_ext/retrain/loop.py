"""What a worker of a study does until enough trials are done: repeat the lost, run the next."""

from __future__ import annotations

import errno
import logging
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import optuna
from filelock import FileLock
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from nas_ext.retrain.objective import DISK_FAULTS, OUT_OF_MEMORY, Objective
from nas_ext.retrain.presence import Worker, tidy
from nas_ext.retrain.resume import COUNTED, may_be_running, requeue_interrupted
from nas_ext.retrain.stopping import Stop, Stopped

Callback = Callable[[optuna.Study, FrozenTrial], None]

TURN_SECONDS = 600
WAIT_SECONDS = 0.2
MOST_OUT_OF_MEMORY = 5

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loop:
    """Run the trials of a study in this process, one after the other, beside other processes.

    Workers of one folder take turns (`turn`) to look for the next trial and to claim it, so that
    exactly `n_trials` are run; workers on other machines, with other folders, may add one each.
    `deadline` is in `time.monotonic`'s seconds.
    """

    study: optuna.Study
    objective: Objective
    me: Worker
    turn: FileLock
    stop: Stop
    owned: bool
    grace: float
    n_trials: int
    deadline: float | None
    callbacks: Sequence[Callback]

    def begin(self) -> None:
        """Repeat what an earlier call left unfinished. The caller holds the turn."""
        self._requeue(at_start=True)
        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        workers = [trial.user_attrs.get("worker") for trial in running]
        tidy(self.objective.out, [self.me.file, *(w["file"] for w in workers if w is not None)])

    def run(self) -> None:
        """Run trials until enough are done, the time is up, or a callback stops the study.

        Trials that other workers run count as done; when one of them dies its trial is repeated
        here. Raises SystemExit after SIGTERM, when the trial is saved and queued again, and
        RuntimeError after five trials in a row that ran out of memory.
        """
        without_memory = 0
        while not self._over():
            with ExitStack() as mine:
                mine.enter_context(self.turn.acquire(timeout=TURN_SECONDS))
                self._requeue(at_start=False)
                missing = self.n_trials - self._count(*COUNTED)
                if missing <= 0:
                    return
                trial = None
                if missing > may_be_running(self.study):
                    trial = self._one(mine.close)
            if trial is None:
                time.sleep(WAIT_SECONDS)
                continue
            if self.study._stop_flag:  # by a callback: study.stop() is for one optimize only
                return
            reason = str(trial.user_attrs.get("error", ""))
            without_memory = without_memory + 1 if reason.startswith(OUT_OF_MEMORY) else 0
            if without_memory == MOST_OUT_OF_MEMORY:
                raise RuntimeError(f"{without_memory} trials in a row ran {reason}")
        if self.stop.asked:
            with self.turn.acquire(timeout=TURN_SECONDS):
                self._requeue(at_start=False)
            raise SystemExit(0)

    def _one(self, begun: Callable[[], None]) -> FrozenTrial | None:
        """Run one trial; return it, or None when it was lost to another worker."""
        ended: list[FrozenTrial] = []

        def objective(trial: optuna.Trial) -> float | tuple[float, ...]:
            trial.set_user_attr("worker", self.me.to_json())
            begun()
            return self.objective(trial, self.stop)

        def clean(_: optuna.Study, trial: FrozenTrial) -> None:
            ended.append(trial)
            if trial.state in COUNTED:
                self.objective.clean(trial)

        try:
            self.study.optimize(
                objective, n_trials=1, catch=(Stopped,), callbacks=[clean, *self.callbacks]
            )
        except (UpdateFinishedTrialError, ValueError) as error:
            if not _is_lost(error):
                raise
            _logger.warning(
                "a trial was given up as dead while it ran here, and is repeated: %s", error
            )
            return None
        except (OSError, AssertionError) as error:
            if (fault := _disk_fault(error)) is None:
                raise
            raise OSError(
                fault.errno,
                f"study {self.study.study_name!r} cannot be saved "
                f"({errno.errorcode[fault.errno or 0]}); nothing was overwritten: free space and "
                "repeat the same call",
                fault.filename or str(self.objective.out),
            ) from error
        return ended[0]

    def _requeue(self, *, at_start: bool) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            optuna.storages.fail_stale_trials(self.study)
        requeue_interrupted(
            self.study,
            self.me,
            self.objective.out,
            owned=self.owned,
            grace=self.grace,
            at_start=at_start,
        )

    def _over(self) -> bool:
        late = self.deadline is not None and time.monotonic() >= self.deadline
        return late or self.stop.asked

    def _count(self, *states: TrialState) -> int:
        return len(self.study.get_trials(deepcopy=False, states=states))


def _is_lost(error: Exception) -> bool:
    """Recognise what Optuna raises about a trial that somebody else ended meanwhile."""
    lost = isinstance(error, UpdateFinishedTrialError)
    return lost or str(error) == "Cannot tell a FAIL trial."


def _disk_fault(error: BaseException | None) -> OSError | None:
    """Find the disk's error; Optuna's loop asserts over it where it could not even note it."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in DISK_FAULTS:
            return error
        error = error.__context__
    return None

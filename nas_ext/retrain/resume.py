"""Beginning a study, going on with it, and what it leaves to read."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
import timm
import torch
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages._heartbeat import is_heartbeat_enabled
from optuna.trial import FrozenTrial, TrialState

from nas_ext.retrain.presence import Worker, is_alone, is_gone

COUNTED = (TrialState.COMPLETE, TrialState.PRUNED)
RESERVED = ("confirmed", "environment", "fingerprint")


def prepare(
    study: optuna.Study,
    fingerprint: Mapping[str, Any],
    attributes: Mapping[str, Any],
    queue: Sequence[dict[str, Any]],
) -> None:
    """Set up a new study, or check that an old one was made with the same settings."""
    name = study.study_name
    if "fingerprint" in study.user_attrs:
        made_with = study.user_attrs["fingerprint"]
        for key in {**made_with, **fingerprint}:
            before, now = made_with.get(key), fingerprint.get(key)
            if before != now:
                raise ValueError(
                    f"study {name!r} must go on with the {key} it was made with, "
                    f"{before}, got {now}: use another folder or name"
                )
        return
    if study.get_trials(deepcopy=False, states=(*COUNTED, TrialState.RUNNING, TrialState.FAIL)):
        raise ValueError(f"study {name!r} was not made by nas-ext: use another name")
    for params in queue:  # a call that died before the fingerprint was set has enqueued some
        study.enqueue_trial(params, skip_if_exists=True)
    for key, value in {**attributes, "environment": environment()}.items():
        study.set_user_attr(key, value)
    study.set_user_attr("fingerprint", dict(fingerprint))


def requeue_interrupted(
    study: optuna.Study, me: Worker, out: Path, *, owned: bool, grace: float, at_start: bool
) -> None:
    """Queue again, each once, the trials that never came to an end.

    Those are the ones that Ctrl-C, SIGTERM or the death of their process interrupted, which go
    on from their checkpoint, and, `at_start` of a call, enqueued recipes that failed, which start
    anew. The caller holds the lock under which workers of a folder take turns. A trial whose
    process died before it said who it is counts as dead when nobody else works in the folder of
    an `owned` journal, or after `grace` seconds.
    """
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        worker = trial.user_attrs.get("worker")
        dead = is_gone(worker)
        if worker is None:
            dead = (owned and is_alone(out, me)) or _age(trial) > grace
        if dead:
            _fail(study, trial)
    trials = study.get_trials(deepcopy=False)
    retried = _retried(trials)
    for trial in trials:
        if trial.state == TrialState.FAIL and trial.number not in retried:
            stopped = "interrupted" in trial.user_attrs
            if stopped or (at_start and "fixed_params" in trial.system_attrs):
                enqueue_again(study, trial, go_on=stopped)


def requeue_stale(study: optuna.Study, trial: FrozenTrial) -> None:
    """Queue again a trial that Optuna failed because it gave no sign of life."""
    if trial.number not in _retried(study.get_trials(deepcopy=False)):
        enqueue_again(study, trial, go_on=True)


def enqueue_again(study: optuna.Study, trial: FrozenTrial, *, go_on: bool) -> None:
    """Queue a failed trial's twin, which may `go_on` from its checkpoint.

    One that had not begun to train draws its parameters anew, and the same ones: those that were
    drawn already would shift the random numbers of the others. Every attempt writes a checkpoint
    of its own, so that a process which was thought dead and wakes up cannot touch that of the
    next attempt.
    """
    # Optuna's own names, as its RetryHeartbeatStaleTrialCallback writes them
    history = [*trial.system_attrs.get("retry_history", []), trial.number]
    origin = {k: v for k, v in trial.system_attrs.items() if not k.startswith("constraints")}
    kept, begun = {}, "run" in trial.user_attrs
    if go_on and begun:
        kept = {k: v for k, v in trial.user_attrs.items() if k in ("recipe", "run")}
        kept["attempt"] = trial.user_attrs.get("attempt", 0) + 1
    study.add_trial(
        optuna.create_trial(
            state=TrialState.WAITING,
            params=trial.params if begun else {},
            distributions=trial.distributions if begun else {},
            user_attrs=kept,
            system_attrs={**origin, "failed_trial": history[0], "retry_history": history},
        )
    )


def may_be_running(study: optuna.Study) -> int:
    """Count the running trials that may yet end, as their process lives or may be living.

    A trial of another machine counts where the storage has heartbeats, by which it is failed if
    it is dead.
    """
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    watched = is_heartbeat_enabled(study._storage)
    living = [is_gone(trial.user_attrs.get("worker")) for trial in running]
    return sum(gone is False or (gone is None and watched) for gone in living)


def _fail(study: optuna.Study, trial: FrozenTrial) -> None:
    # The mark comes first: whoever finds a marked, failed trial without a twin makes the twin.
    with suppress(UpdateFinishedTrialError):  # another machine was quicker
        study._storage.set_trial_user_attr(trial._trial_id, "interrupted", True)
        study._storage.set_trial_state_values(trial._trial_id, state=TrialState.FAIL)


def _retried(trials: Sequence[FrozenTrial]) -> set[int]:
    return {n for trial in trials for n in trial.system_attrs.get("retry_history", [])}


def _age(trial: FrozenTrial) -> float:
    begun = trial.datetime_start
    return 0.0 if begun is None else (datetime.now() - begun).total_seconds()


def best_trial(study: optuna.Study) -> FrozenTrial:
    """Return the best complete trial.

    Raises ValueError when no trial is complete, and for a study of several objectives, which has
    no single best one.
    """
    if len(study.directions) > 1:
        raise ValueError(
            f"study {study.study_name!r} must have one objective, got {len(study.directions)}: "
            "choose one of its best_trials"
        )
    if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        raise ValueError(f"study {study.study_name!r} must have a complete trial, got none")
    return study.best_trial


def environment() -> dict[str, Any]:
    """Describe what the numbers may depend on: versions, threads, kind of CPU."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "timm": timm.__version__,
        "optuna": optuna.__version__,
        "threads": torch.get_num_threads(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
    }

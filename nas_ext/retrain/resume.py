"""Beginning a study, going on with it, and what it leaves to read."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
import timm
import torch
from optuna.trial import FrozenTrial, TrialState

COUNTED = (TrialState.COMPLETE, TrialState.PRUNED)
RESERVED = ("environment", "fingerprint")


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
        for key, value in fingerprint.items():
            if made_with.get(key) != value:
                raise ValueError(
                    f"study {name!r} must go on with the {key} it was made with, "
                    f"{made_with.get(key)}, got {value}: use another folder or name"
                )
        return
    if study.get_trials(deepcopy=False, states=(*COUNTED, TrialState.RUNNING, TrialState.FAIL)):
        raise ValueError(f"study {name!r} was not made by nas-ext: use another name")
    for params in queue:  # a call that died before the fingerprint was set has enqueued some
        study.enqueue_trial(params, skip_if_exists=True)
    for key, value in {**attributes, "environment": environment()}.items():
        study.set_user_attr(key, value)
    study.set_user_attr("fingerprint", dict(fingerprint))


def requeue_interrupted(study: optuna.Study, *, running_are_dead: bool) -> None:
    """Queue again, each once, the trials that never came to an end.

    Those are the ones that Ctrl-C or the death of an earlier process interrupted, which go on
    from their checkpoint, and enqueued recipes that failed, which start anew.
    """
    trials = study.get_trials(deepcopy=False)
    retried = {n for trial in trials for n in trial.system_attrs.get("retry_history", [])}
    for trial in trials:
        dead = trial.state == TrialState.RUNNING and running_are_dead
        stopped = trial.state == TrialState.FAIL and "interrupted" in trial.user_attrs
        failed = trial.state == TrialState.FAIL and "fixed_params" in trial.system_attrs
        if (dead or stopped or failed) and trial.number not in retried:
            # Optuna's own names, as its RetryHeartbeatStaleTrialCallback writes them
            history = [*trial.system_attrs.get("retry_history", []), trial.number]
            origin = {**trial.system_attrs, "failed_trial": history[0], "retry_history": history}
            kept = {k: v for k, v in trial.user_attrs.items() if k in ("recipe", "run")}
            study.add_trial(
                optuna.create_trial(
                    state=TrialState.WAITING,
                    params=trial.params,
                    distributions=trial.distributions,
                    user_attrs=kept if dead or stopped else {},
                    system_attrs=origin,
                )
            )
        if dead:
            study.tell(trial.number, state=TrialState.FAIL)


def best_trial(study: optuna.Study) -> FrozenTrial:
    """Return the best complete trial.

    Raises ValueError when no trial is complete.
    """
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

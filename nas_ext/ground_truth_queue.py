"""Ground truth by any number of workers, which take trainings from one Optuna storage."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from nas_ext.ground_truth import GroundTruth, record, remaining, train_one, write_table
from nas_ext.retrain.storage import open_storage

__all__ = ["STUDY", "collect", "fill", "storage_of", "work"]

STUDY = "ground-truth"
"""The usual name of the study."""

HEARTBEAT = 60
"""Seconds between two signs of life of a worker; after four of silence its training is given to
another one."""

MOST_TRIES = 3
"""How often a training is begun that its worker does not survive."""

MOST = 10**6
"""The range of both parameters; more architectures are not enumerated."""

TRAINING, QUEUED, TRIES, SETTINGS = "training", "queued", "tries", "settings"

Storage = str | BaseStorage


def storage_of(url: Storage) -> BaseStorage:
    """Return the storage behind a database URL, or the path of a journal file.

    In it the training of a dead worker is redone, and no training is taken by two workers. Any
    other storage stays as it is.
    """
    return open_storage(url, on_stale=_again, interval=HEARTBEAT, grace=4 * HEARTBEAT)


def _again(study: optuna.Study, trial: FrozenTrial) -> None:
    """Queue the training of a dead worker, unless it was that of several."""
    tries = trial.user_attrs.get(TRIES, 1)
    if QUEUED in trial.user_attrs and tries < MOST_TRIES:
        _enqueue(study, *trial.user_attrs[QUEUED], tries=tries + 1)


def _enqueue(study: optuna.Study, place: int, seed: int, *, tries: int = 1) -> None:
    attributes = {QUEUED: [place, seed], TRIES: tries}
    study.enqueue_trial({"place": place, "seed": seed}, user_attrs=attributes)


def fill(
    truth: GroundTruth, *, out: str | Path, storage: Storage, name: str = STUDY
) -> optuna.Study:
    """Queue the trainings that are neither in a folder nor in the study, and return the study.

    `out` is a folder of `nas_ext.ground_truth.measure`. A training that failed is queued again.
    Raises ValueError for a study with other settings, and as `measure` does.
    """
    missing = remaining(truth, out=out)
    study = optuna.create_study(
        study_name=name,
        storage=storage_of(storage),
        direction="maximize",
        load_if_exists=True,
    )
    settings = json.loads(json.dumps(truth.to_json()))
    known = study.user_attrs.get(SETTINGS)
    if known is None:
        study.set_user_attr(SETTINGS, settings)
    elif known != settings:
        raise ValueError(f"settings of study {name!r} must be {settings}, got {known}")
    states = (TrialState.WAITING, TrialState.RUNNING, TrialState.COMPLETE)
    there = {tuple(t.user_attrs[QUEUED]) for t in study.get_trials(deepcopy=False, states=states)}
    for place, seed in missing:
        if (place, seed) not in there:
            _enqueue(study, place, seed)
    return study


def work(
    storage: Storage, *, name: str = STUDY, say: Callable[[str], None] = lambda text: None
) -> int:
    """Train what is queued until nothing is, and return how many trainings this worker did.

    The settings are those of the study, so that a worker needs the storage, the images and no
    folder. A worker that is killed leaves its training to the others; one that fails ends here,
    with the error. One that was given up as dead while it trained (it was suspended, or the
    clock of the storage was set forward) says so and goes on with others: its training is done
    twice then, to the same bits, and counts once.
    """
    study = optuna.load_study(
        study_name=name, storage=storage_of(storage), sampler=optuna.samplers.RandomSampler()
    )
    truth = GroundTruth.from_json(study.user_attrs[SETTINGS])
    done = 0

    def objective(trial: optuna.Trial) -> float:
        if QUEUED not in trial.user_attrs:  # another worker took the last one meanwhile
            raise optuna.TrialPruned
        place, seed = trial.user_attrs[QUEUED]
        for parameter in ("place", "seed"):  # as they were queued: a study shows them
            trial.suggest_int(parameter, 0, MOST)
        cell = train_one(truth, place, seed)
        trial.set_user_attr(TRAINING, cell)
        say(f"{cell['name']}, seed {seed}: {100 * cell['accuracy']:.2f} %")
        return float(cell["accuracy"])

    def count(study: optuna.Study, trial: FrozenTrial) -> None:
        nonlocal done
        done += trial.state == TrialState.COMPLETE
        if not _waiting(study):
            study.stop()

    while _waiting(study):
        try:
            study.optimize(objective, callbacks=[count])
        except (UpdateFinishedTrialError, ValueError) as error:
            if not _is_lost(error):
                raise
            say("a training was given up as dead while it ran here, and is left to another worker")
    return done


def _is_lost(error: Exception) -> bool:
    """Recognise what Optuna raises about a trial that somebody else ended meanwhile."""
    lost = isinstance(error, UpdateFinishedTrialError)
    return lost or str(error) == "Cannot tell a FAIL trial."


def _waiting(study: optuna.Study) -> bool:
    return bool(study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))


def collect(truth: GroundTruth, *, out: str | Path, storage: Storage, name: str = STUDY) -> Path:
    """Write what the workers trained into the folder, and the table; return its path.

    Raises ValueError while trainings are missing: `fill` queues them again.
    """
    missing = set(remaining(truth, out=out))
    study = optuna.load_study(study_name=name, storage=storage_of(storage))
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        if tuple(trial.user_attrs[QUEUED]) in missing:
            record(trial.user_attrs[TRAINING], out=out)
    return write_table(truth, out=out)

"""Ground truth by workers that share an Optuna storage."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from nas_ext.ground_truth import GroundTruth, measure
from nas_ext.ground_truth_queue import STUDY, collect, fill, storage_of, work
from nas_ext.retrain import Recipe
from nas_ext.workers import finished

SPACE = {"name": "pooling-resnet", "widths": (2, 2, 2), "poolings": 1}


def truth(seeds: int = 2) -> GroundTruth:
    recipe = Recipe(epochs=1, batch_size=256)
    return GroundTruth(space=SPACE, data="digits", seeds=seeds, recipe=recipe)


def trials(url: str, *states: TrialState) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name=STUDY, storage=url).get_trials(states=states or None)


def test_two_workers_leave_the_table_of_one_process(tmp_path: Path) -> None:
    alone = measure(truth(), out=tmp_path / "alone")
    url = f"sqlite:///{tmp_path}/queue.db"
    fill(truth(), out=tmp_path / "queue", storage=url)
    ended = list(finished(work, [(url,), (url,)], workers=2))
    assert sum(count for _, count in ended) == 4
    table = collect(truth(), out=tmp_path / "queue", storage=url)
    assert table.read_bytes() == alone.read_bytes()
    assert len(trials(url, TrialState.COMPLETE)) == 4


def test_only_what_is_missing_is_queued_and_only_once(tmp_path: Path) -> None:
    out, url = tmp_path / "out", f"sqlite:///{tmp_path}/queue.db"
    measure(truth(), out=out)
    (out / "trainings" / "00001-01.json").unlink()
    for _ in range(2):
        fill(truth(), out=out, storage=url)
        (queued,) = trials(url)
        assert queued.user_attrs["queued"] == [1, 1]
    with pytest.raises(ValueError, match="must be complete, 1 are missing"):
        collect(truth(), out=out, storage=url)
    said: list[str] = []
    assert work(url, say=said.append) == 1
    assert len(said) == 1
    assert work(url) == 0
    assert trials(url)[0].params == {"place": 1, "seed": 1}
    before = (out / "ground-truth.csv").read_bytes()
    assert collect(truth(), out=out, storage=url).read_bytes() == before


def test_a_training_that_failed_is_queued_again(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/queue.db"
    study = fill(truth(), out=tmp_path, storage=url)
    lost = study.ask()
    study.tell(lost, state=TrialState.FAIL)
    assert len(trials(url, TrialState.WAITING)) == 3
    fill(truth(), out=tmp_path, storage=url)
    waiting = [trial.user_attrs["queued"] for trial in trials(url, TrialState.WAITING)]
    assert sorted(waiting) == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_the_training_of_a_dead_worker_is_queued_again_but_not_for_ever(tmp_path: Path) -> None:
    storage = storage_of(f"sqlite:///{tmp_path}/queue.db")
    assert isinstance(storage, optuna.storages.RDBStorage)
    study = fill(truth(), out=tmp_path, storage=storage)
    stale = storage.get_heartbeat_stale_trial_callback()
    assert stale is not None
    for _ in range(5):  # Optuna calls this with a trial whose worker has fallen silent
        trial = study.ask()
        study.tell(trial, state=TrialState.FAIL)
        stale(study, study.trials[trial.number])
    queued = [trial.user_attrs["queued"] for trial in study.trials]
    assert queued == [[0, 0], [1, 0], [0, 1], [1, 1], [0, 0], [1, 0], [0, 1], [1, 1], [0, 0]]
    tries = [trial.user_attrs["tries"] for trial in study.trials]
    assert tries == [1, 1, 1, 1, 2, 2, 2, 2, 3]
    last = study.trials[-1]
    stale(study, last)
    assert len(study.trials) == 9


def test_a_study_with_other_settings_is_refused(tmp_path: Path) -> None:
    storage = optuna.storages.InMemoryStorage()
    fill(truth(), out=tmp_path / "one", storage=storage)
    with pytest.raises(ValueError, match="settings of study 'ground-truth' must be"):
        fill(truth(seeds=3), out=tmp_path / "two", storage=storage)

"""Studies that are killed, asked to end, thought dead, or run by several processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from optuna.trial import TrialState
from torch import nn

from nas_ext.data import ImageData
from nas_ext.retrain import Recipe, study
from nas_ext.retrain.resume import requeue_stale
from nas_ext.retrain.storage import open_storage

PROGRAM = Path(__file__).with_name("study_program.py")
BASE = Recipe(epochs=2, batch_size=50)
BATCHES = 6  # of a trial: two epochs of three
DONE = (TrialState.COMPLETE, TrialState.PRUNED)

BuildFrom = Callable[[Recipe], nn.Module]


def start(out: Path, *options: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, str(PROGRAM), str(out), *options])


def finish(out: Path, *options: str) -> int:
    return start(out, *options).wait(timeout=240)


def record(found: optuna.Study) -> list[tuple[Any, ...]]:
    """What trials that came to an end were and brought, in the order of their ends."""
    return [
        (trial.state, trial.params, trial.values, trial.intermediate_values)
        for trial in found.get_trials(states=DONE)
    ]


def load(storage: str) -> optuna.Study:
    return optuna.load_study(study_name="retrain", storage=open_storage(storage))


def place(kind: str, folder: Path) -> str:
    return str(folder / "x.log") if kind == "journal" else f"sqlite:///{folder / 'x.db'}"


@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_a_study_killed_twice_brings_what_an_uninterrupted_one_brings(
    build_from: BuildFrom, data: ImageData, tmp_path: Path, kind: str
) -> None:
    storage = place(kind, tmp_path)
    # kill -9 in the second epoch of trial 0, and, the first epoch being saved, of trial 1
    for at in (5, 3 + 5):
        assert finish(tmp_path, "--storage", storage, "--kill-at", str(at)) == -signal.SIGKILL
    torch.set_num_threads(1)
    found = study(build_from, data, out=tmp_path, recipe=BASE, n_trials=4, storage=storage)
    whole = study(build_from, data, out=tmp_path / "whole", recipe=BASE, n_trials=4)
    assert record(found) == record(whole)
    assert found.best_value == whole.best_value
    # every trial is accounted for: two attempts failed, each has its repetition
    states = [trial.state.name for trial in found.trials]
    assert states == ["FAIL", "COMPLETE", "FAIL", "COMPLETE", "COMPLETE", "COMPLETE"]
    history = [trial.system_attrs.get("retry_history") for trial in found.trials]
    assert history == [None, [0], None, [2], None, None]
    assert list((tmp_path / "ckpt").glob("*")) == []


@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_two_processes_finish_20_trials_with_none_lost_or_run_twice(
    tmp_path: Path, kind: str
) -> None:
    storage, go = place(kind, tmp_path), tmp_path / "go"
    options = ["--storage", storage, "--trials", "20", "--wait-for", str(go)]
    both = [start(tmp_path / "out", *options) for _ in range(2)]
    while len(list(tmp_path.glob("ready-*"))) < 2:
        assert [process.poll() for process in both] == [None, None]
        time.sleep(0.05)
    go.touch()
    assert [process.wait(timeout=240) for process in both] == [0, 0]
    trials = load(storage).trials
    assert [trial.number for trial in trials] == list(range(20))
    assert {trial.state for trial in trials} <= set(DONE)
    assert len({trial.user_attrs["run"] for trial in trials}) == 20
    assert len({trial.user_attrs["worker"]["process"] for trial in trials}) == 2
    enqueued = [trial for trial in trials if "fixed_params" in trial.system_attrs]
    assert [trial.number for trial in enqueued] == [0]


def test_sigterm_ends_the_epoch_and_the_next_call_goes_on(
    build_from: BuildFrom, data: ImageData, tmp_path: Path
) -> None:
    # asked in the first batch of trial 1: its first epoch is finished and saved
    assert finish(tmp_path, "--term-at", str(BATCHES + 1)) == 0
    left = load(str(tmp_path / "study.log"))
    states = [trial.state.name for trial in left.trials]
    assert states == ["COMPLETE", "FAIL", "WAITING"]
    assert list(left.trials[1].intermediate_values) == [0]
    found = study(build_from, data, out=tmp_path, recipe=BASE, n_trials=4)
    whole = study(build_from, data, out=tmp_path / "whole", recipe=BASE, n_trials=4)
    assert record(found) == record(whole)


def test_of_two_workers_of_one_call_one_is_killed_and_the_other_repeats_its_trial(
    tmp_path: Path,
) -> None:
    # in the second epoch of its second trial
    killed_at = str(BATCHES + 5)
    assert finish(tmp_path, "--jobs", "2", "--trials", "6", "--kill-at", killed_at) == 0
    assert (tmp_path / f"signalled-{killed_at}").exists()
    trials = load(str(tmp_path / "study.log")).trials
    states = [trial.state for trial in trials]
    assert sum(state in DONE for state in states) == 6
    assert states.count(TrialState.FAIL) == 1
    assert len(trials) == 7
    [killed] = [trial for trial in trials if trial.state == TrialState.FAIL]
    [again] = [trial for trial in trials if "retry_history" in trial.system_attrs]
    assert again.user_attrs["recipe"] == killed.user_attrs["recipe"]
    assert again.user_attrs["worker"]["process"] != killed.user_attrs["worker"]["process"]


def test_n_jobs_needs_what_other_processes_can_have(
    build_from: BuildFrom, data: ImageData, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"out": tmp_path, "recipe": BASE, "n_trials": 2, "n_jobs": 2}
    with pytest.raises(ValueError, match="n_jobs above 1 needs arguments that can be pickled"):
        study(build_from, data, **options)
    memory = optuna.storages.InMemoryStorage()
    for storage in (memory, "sqlite://", "sqlite:///:memory:"):
        with pytest.raises(ValueError, match="n_jobs above 1 needs the path or URL of a storage"):
            study(build_from, data, storage=storage, **options)


class GivenUp:
    """Fail the running trial from outside in the n-th batch, as one that gave no sign of life."""

    def __init__(self, path: Path, at: int) -> None:
        self.path, self.at, self.batches = path, at, 0

    def watch(self, build: BuildFrom) -> BuildFrom:
        def watched(recipe: Recipe) -> nn.Module:
            network = build(recipe)
            network.register_forward_pre_hook(self._count)
            return network

        return watched

    def _count(self, module: nn.Module, inputs: object) -> None:
        self.batches += module.training
        if module.training and self.batches == self.at:
            other = load(str(self.path))
            [running] = other.get_trials(states=(TrialState.RUNNING,))
            other.tell(running.number, state=TrialState.FAIL)
            requeue_stale(other, other.trials[running.number])


@pytest.mark.parametrize("at", [BATCHES + 2, BATCHES + 5])  # Optuna's two ways to report it
def test_a_worker_whose_trial_was_given_up_goes_on_with_others(
    build_from: BuildFrom,
    data: ImageData,
    tmp_path: Path,
    at: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    build = GivenUp(tmp_path / "study.log", at).watch(build_from)
    found = study(build, data, out=tmp_path, recipe=BASE, n_trials=4)
    assert "was given up as dead while it ran here" in caplog.text
    whole = study(build_from, data, out=tmp_path / "whole", recipe=BASE, n_trials=4)
    assert record(found) == record(whole)
    assert [trial.state.name for trial in found.trials].count("FAIL") == 1


def test_optunas_own_program_reads_the_journal(
    build_from: BuildFrom, data: ImageData, tmp_path: Path
) -> None:
    found = study(build_from, data, out=tmp_path, recipe=BASE, n_trials=2)
    command = [sys.executable, "-c", "from optuna.cli import main; main()", "trials"]
    place = ["--storage", str(tmp_path / "study.log"), "--study-name", "retrain", "-f", "json"]
    shown = subprocess.run([*command, *place], capture_output=True, text=True, check=True)
    values = [trial["value"] for trial in json.loads(shown.stdout)]
    assert values == [trial.value for trial in found.trials]

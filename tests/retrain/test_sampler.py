"""Draws that do not depend on restarts."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from nas_ext.retrain import SeededTPE


@pytest.fixture(autouse=True)
def silent() -> Any:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)


def objective(trial: optuna.Trial) -> float:
    """A function with a branch, as an optimizer's own learning rate makes one."""
    kind = trial.suggest_categorical("kind", ["a", "b"])
    x = trial.suggest_float(f"x_{kind}", 1e-3, 1.0, log=True)
    y = trial.suggest_float("y", 0.0, 1.0, step=0.05)
    return -((x - 0.1) ** 2) - (y - 0.4) ** 2 - (kind == "b")


def draws(path: Path, rounds: list[int], seed: int = 0) -> list[dict[str, Any]]:
    """Run the study in several rounds, each with new objects, as new processes have."""
    found = []
    for count in rounds:
        study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(path))),
            study_name="s",
            sampler=SeededTPE(seed),
            direction="maximize",
            load_if_exists=True,
        )
        study.optimize(objective, n_trials=count)
        found = [trial.params for trial in study.trials]
    return found


def test_a_study_run_in_pieces_draws_what_one_run_draws(tmp_path: Path) -> None:
    # 10 random trials come first; the model draws the other 10
    whole = draws(tmp_path / "whole", [20])
    assert draws(tmp_path / "pieces", [4, 4, 6, 6]) == whole
    assert len({str(params) for params in whole}) == 20
    assert draws(tmp_path / "other", [3], seed=1) != whole[:3]


def test_a_retry_takes_no_place_in_the_sequence(tmp_path: Path) -> None:
    whole = draws(tmp_path / "whole", [13])
    draws(tmp_path / "x", [11])
    study = optuna.load_study(
        study_name="s",
        storage=JournalStorage(JournalFileBackend(str(tmp_path / "x"))),
        sampler=SeededTPE(0),
    )
    # a trial that draws one parameter and dies; Optuna's callback would queue it like this
    lost = study.ask()
    lost.suggest_categorical("kind", ["a", "b"])
    study.tell(lost, state=TrialState.FAIL)
    origin = {"failed_trial": lost.number, "retry_history": [lost.number]}
    study.add_trial(
        optuna.create_trial(
            state=TrialState.WAITING,
            params=lost.params,
            distributions=lost.distributions,
            system_attrs=origin,
        )
    )
    study.optimize(objective, n_trials=2)
    complete = study.get_trials(states=[TrialState.COMPLETE])
    assert [trial.params for trial in complete] == whole


def test_it_warns_of_nothing_and_silences_nothing_else() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        study = optuna.create_study(sampler=SeededTPE(0))
        study.optimize(objective, n_trials=2)
        with pytest.raises(optuna.exceptions.ExperimentalWarning):
            optuna.samplers.TPESampler(group=True)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="seed must not be negative, got -1"):
        SeededTPE(-1)

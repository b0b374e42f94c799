"""The best trial of another study as a first guess: what a sibling architecture has learnt."""

from __future__ import annotations

import warnings
from os import PathLike, fspath
from pathlib import Path
from typing import Any, cast

import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend

from nas_ext.retrain.database import open_database
from nas_ext.retrain.recipe import Recipe
from nas_ext.retrain.resume import best_trial
from nas_ext.retrain.space import Suggest

Sibling = optuna.Study | str | PathLike[str]


def open_sibling(sibling: Sibling) -> optuna.Study:
    """Return a study from itself, its folder, its journal, or the URL of its database.

    A journal is only read. Raises ValueError for a place without exactly one study.
    """
    if isinstance(sibling, optuna.Study):
        return sibling
    name = fspath(sibling)
    storage: BaseStorage
    if "://" in name:
        storage = open_database(name)
    else:
        path = Path(name) / "study.log" if Path(name).is_dir() else Path(name)
        if not path.is_file():
            raise ValueError(f"warm_start must be a study, its folder or URL, got {name}")
        backend = JournalFileBackend(str(path))
        storage = JournalStorage(backend)
    names = optuna.get_all_study_names(storage)
    if len(names) != 1:
        raise ValueError(f"warm_start must name a place with one study, got {name} with {names}")
    return optuna.load_study(study_name=names[0], storage=storage)


def warm_parameters(sibling: Sibling, suggest: Suggest, base: Recipe) -> dict[str, Any]:
    """Return the parameters of a sibling's best trial, checked against this study's space.

    Raises ValueError when the sibling has no complete trial, or its parameters are not ones that
    `suggest` can propose.
    """
    study = open_sibling(sibling)
    trial = best_trial(study)
    what = f"warm_start's best trial {trial.number} must be one that suggest can propose"
    given = optuna.trial.FixedTrial(dict(trial.params))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of values outside their range: refused below
            suggest(cast(optuna.Trial, given), base)  # FixedTrial: Optuna's stand-in for one
        # refuses values outside their range, which enqueue_trial would take
        optuna.create_trial(
            value=0.0, params=dict(given.params), distributions=dict(given.distributions)
        )
    except ValueError as error:
        raise ValueError(f"{what}, got {trial.params}: {error}") from error
    return dict(given.params)

"""What retraining one architecture left in its folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from nas_ext.field_types import clause
from nas_ext.files import naming, read_json
from nas_ext.retrain.final import check_final


@dataclass(frozen=True, kw_only=True, eq=False)
class Retraining:
    """Hold what retraining one architecture left in its folder.

    `accuracies` are the shares right of the test set, one a seed, with the recipe of the study's
    trial `trial`; all three are empty before the test. `study` is None where its journal is gone.
    """

    name: str
    macs: int | None = None
    study: optuna.Study | None = None
    accuracies: tuple[float, ...] = ()
    seeds: tuple[int, ...] = ()
    recipe: Mapping[str, Any] | None = None
    trial: int | None = None


def read_retraining(folder: str | Path) -> Retraining:
    """Read `final.json` and the Optuna journal `study.log` of a retraining, whichever exist.

    The name is the one that the study has for its architecture, else the folder's. The journal is
    not changed, so a study may be running. Raises ValueError when neither file exists, or
    `final.json` is not what `nas_ext.retrain.final` writes.
    """
    place = Path(folder)
    journal, tested = place / "study.log", place / "final.json"
    if not journal.exists() and not tested.exists():
        raise ValueError(f"folder must hold final.json or study.log, got {place}")
    study = _load_study(journal) if journal.exists() else None
    attributes = {} if study is None else study.user_attrs
    architecture = attributes.get("architecture")
    known = architecture.get("name") if isinstance(architecture, Mapping) else None
    name, macs = str(known or place.name), attributes.get("macs")
    if not tested.exists():
        return Retraining(name=name, macs=macs, study=study)
    values = read_json(tested)
    check_final(values, tested)
    try:
        accuracies = tuple(float(value) for value in values["accuracies"])
        seeds = tuple(int(seed) for seed in values["seeds"])
        recipe, trial = dict(values["recipe"]), values["trial"]
        trial = None if trial is None else int(trial)
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"{tested} must be the result of a retraining: {error!r}") from error
    if not accuracies or len(accuracies) != len(seeds) or not all(map(_is_share, accuracies)):
        raise ValueError(f"{tested} must have one share a seed, got {clause(accuracies)}")
    return Retraining(
        name=name,
        macs=macs,
        study=study,
        accuracies=accuracies,
        seeds=seeds,
        recipe=recipe,
        trial=trial,
    )


def _is_share(value: float) -> bool:
    return 0.0 <= value <= 1.0


def _load_study(journal: Path) -> optuna.Study | None:
    """Open the one study of a journal, None while it has none yet."""
    if not journal.is_file():
        raise ValueError(f"{journal} must be a journal, it is no file")
    with naming(journal):
        storage = JournalStorage(JournalFileBackend(str(journal)))
        names = optuna.get_all_study_names(storage)
        if len(names) > 1:
            raise ValueError(f"{journal} must hold one study, got {names}")
        return optuna.load_study(study_name=names[0], storage=storage) if names else None

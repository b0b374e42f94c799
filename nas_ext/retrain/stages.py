"""The three stages for one or several networks: tune, confirm, train on everything and test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna
import torch
from optuna.pruners import BasePruner
from optuna.trial import TrialState

from nas_ext.data import ImageData
from nas_ext.field_types import check_fields
from nas_ext.retrain.candidates import Candidate
from nas_ext.retrain.confirm import confirm
from nas_ext.retrain.confirmation import Confirmation
from nas_ext.retrain.final import FILE, FinalResult, check_unused, final
from nas_ext.retrain.recipe import Recipe
from nas_ext.retrain.space import DefaultSpace, Suggest
from nas_ext.retrain.storage import Storage
from nas_ext.retrain.study import study

COMPLETE = TrialState.COMPLETE

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Stages:
    """Say how much the stages compute, and where.

    Every network gets a study of `trials` trials that begin with `recipe`; then the `confirm_top`
    best recipes of each are trained with `confirm_seeds` seeds (0 leaves this stage out), and at
    last the chosen one with `seeds` seeds on train and val. `suggest` is the search space, by
    default the one for the images. A study begins with the `published` recipe, which `suggest`
    must then be able to propose, and with `warm_start` goes on with the best one of the study of
    the network before. `timeout` are seconds for each study. `storage` is a journal,
    the URL of a database or Optuna's, for all studies; without it each has the journal of its
    folder. `study_name` tells studies of one storage apart, together with the network's name.
    `workers` are processes of one thread each.

    Raises ValueError for numbers out of range.
    """

    recipe: Recipe
    trials: int
    seeds: int
    confirm_top: int = 3
    confirm_seeds: int = 5
    seed: int = 0
    suggest: Suggest | None = None
    published: bool = True
    warm_start: bool = True
    pruner: str | BasePruner | None = "percentile"
    timeout: float | None = None
    storage: Storage | None = None
    study_name: str = "retrain"
    workers: int = 1
    device: str | torch.device = "cpu"

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("trials", "seeds", "confirm_top", "workers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.confirm_seeds < 0:
            raise ValueError(f"confirm_seeds must not be negative, got {self.confirm_seeds}")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")
        if self.timeout is not None and self.timeout <= 0:
            raise ValueError(f"timeout must be positive, got {self.timeout}")


@dataclass(frozen=True)
class Retrained:
    """Hold what retraining one architecture left: its study, its test accuracies, its folder.

    `confirmation` is that of all networks that were retrained together, None without one.
    """

    name: str
    study: optuna.Study
    final: FinalResult
    folder: Path
    confirmation: Confirmation | None = None


def run_stages(
    candidates: Sequence[Candidate],
    data: ImageData,
    *,
    out: str | Path,
    stages: Stages,
    say: Say = lambda text: None,
) -> list[Retrained]:
    """Tune the recipe of every candidate, confirm the best ones, and test each network.

    `out` receives a folder for each candidate, and `confirm.json`. Everything is chosen by
    validation images; the test images then judge each network once. The same call goes on where
    an earlier one ended: what is tested already is read, not tested again. `say` is told what
    begins.

    Raises ValueError for candidates of the same name, and when all of them were tested already.
    """
    folder = Path(out)
    folders = [folder / candidate.folder for candidate in candidates]
    if not candidates or len(set(folders)) < len(folders):
        raise ValueError(
            f"candidates must have different names, got {[c.name for c in candidates]}"
        )
    if all((place / FILE).exists() for place in folders):
        check_unused(folders[0], seeds=stages.seeds)
    studies: dict[str, optuna.Study] = {}
    sibling: optuna.Study | None = None
    for candidate, place in zip(candidates, folders, strict=True):
        say(f"Tuning the training of {candidate.name}: {stages.trials} trials")
        sibling = tune(candidate, data, out=place, stages=stages, sibling=sibling)
        studies[candidate.name] = sibling
    confirmation = None
    if stages.confirm_seeds:
        say(f"Confirming the best recipes with {stages.confirm_seeds} seeds")
        confirmation = confirm(
            {c.name: (studies[c.name], c.build) for c in candidates},
            data,
            out=folder,
            top=stages.confirm_top,
            seeds=stages.confirm_seeds,
            device=stages.device,
            workers=stages.workers,
        )
    found = []
    for candidate, place in zip(candidates, folders, strict=True):
        if (place / FILE).exists():
            tested = FinalResult.load(place)
        else:
            say(f"Training {candidate.name} on train and val: {stages.seeds} seeds, tested once")
            tested = final(
                studies[candidate.name],
                candidate.build,
                data,
                out=place,
                seeds=stages.seeds,
                device=stages.device,
                timm=candidate.timm,
                workers=stages.workers,
            )
        found.append(
            Retrained(candidate.name, studies[candidate.name], tested, place, confirmation)
        )
    return found


def tune(
    candidate: Candidate,
    data: ImageData,
    *,
    out: Path,
    stages: Stages,
    sibling: optuna.Study | None = None,
) -> optuna.Study:
    """Run or go on with the study of one candidate; a `sibling` without a complete trial is none.

    Raises as `study` does.
    """
    shared = stages.storage is not None
    done = () if sibling is None else sibling.get_trials(deepcopy=False, states=(COMPLETE,))
    return study(
        candidate.build,
        data,
        out=out,
        recipe=stages.recipe,
        n_trials=stages.trials,
        seed=stages.seed,
        suggest=DefaultSpace.of(data) if stages.suggest is None else stages.suggest,
        enqueue=None if stages.published else (),
        warm_start=sibling if stages.warm_start and done else None,
        pruner=stages.pruner,
        storage=stages.storage,
        study_name=f"{stages.study_name}-{candidate.folder}" if shared else stages.study_name,
        timeout=stages.timeout,
        n_jobs=stages.workers,
        device=stages.device,
        user_attrs={
            "architecture": dict(candidate.architecture),
            "macs": candidate.macs,
            "parameters": candidate.parameters,
        },
    )

"""The search for a training recipe of one architecture: an ordinary, resumable Optuna study."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.pruners import BasePruner, NopPruner, PercentilePruner
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial
from torch import nn

from nas_ext.data import Augmentation, ImageData, default_augmentation
from nas_ext.retrain.objective import Objective
from nas_ext.retrain.recipe import Recipe
from nas_ext.retrain.resume import COUNTED, RESERVED, best_trial, prepare, requeue_interrupted
from nas_ext.retrain.sampler import SeededTPE
from nas_ext.retrain.space import Suggest, default_suggest, parameters
from nas_ext.retrain.storage import locked, open_journal

WARM_START = "resnet20-pooling"


def study(
    build: Callable[[Recipe], nn.Module],
    data: ImageData,
    *,
    out: Path,
    recipe: Recipe,
    n_trials: int,
    seed: int = 0,
    suggest: Suggest = default_suggest,
    enqueue: Sequence[Recipe] | None = None,
    augmentation: Augmentation | None = None,
    pruner: str | BasePruner | None = "percentile",
    sampler: BaseSampler | None = None,
    storage: str | BaseStorage | None = None,
    study_name: str = "retrain",
    timeout: float | None = None,
    device: str | torch.device = "cpu",
    user_attrs: Mapping[str, Any] | None = None,
    verbose: bool = False,
) -> optuna.Study:
    """Tune the recipe of a network on `data.train`, judged by the last epoch on `data.val`.

    Every trial builds a fresh network and trains it for `recipe.epochs` epochs with the same
    seed. `suggest` changes the base recipe; `enqueue` holds recipes to try first, by default the
    published one with the base's settings wherever `suggest` leaves them alone. The study ends
    when `n_trials` are complete or pruned, those of earlier calls included, or `timeout` seconds
    have passed at the end of a trial. The test set is not touched.

    Calling again with the same arguments goes on: an interrupted trial is repeated from its last
    saved epoch, and the draws are those of an uninterrupted study. `out` holds the trials
    (`study.log`, unless `storage` names another place) and the checkpoints of running trials;
    one process at a time works in it. An error in a trial ends the call; the next call repeats
    the trial if its recipe was enqueued, otherwise draws another. Diverged trainings count as
    pruned, with accuracy 0 in the epoch where it happened.

    `pruner="percentile"` stops the worst quarter of the trials, after five full ones and not in
    the first quarter of the epochs; None stops none. Each trial has the attributes `recipe` and,
    when complete, `result`. Put what identifies the network into `user_attrs["architecture"]`:
    it is stored with the study, and going on with another one is refused.

    Raises ValueError for arguments out of range, enqueued recipes that `suggest` cannot propose
    and a study made with other settings; RuntimeError when another process works in `out`.
    """
    attributes = {"architecture": None, **(user_attrs or {})}
    _check(n_trials, attributes, data, (recipe, *(enqueue or ())))
    varied = default_augmentation(data) if augmentation is None else augmentation
    fingerprint = {
        "architecture": _digest(attributes["architecture"]),
        "data": data.digest,
        "epochs": recipe.epochs,
        "seed": seed,
        "space": _name(suggest),
        "base recipe": recipe.to_json(),
        "augmentation": asdict(varied),
    }
    queue = _queue(enqueue, suggest, recipe)
    objective = Objective(build, data, recipe, suggest, Path(out), seed, varied, device)
    with _quiet(not verbose), locked(Path(out)):
        owned = storage is None
        opened = optuna.create_study(
            study_name=study_name,
            storage=open_journal(Path(out) / "study.log") if storage is None else storage,
            sampler=SeededTPE(seed) if sampler is None else sampler,
            pruner=_pruner(pruner, recipe.epochs),
            direction="maximize",
            load_if_exists=True,
        )
        prepare(opened, fingerprint, attributes, queue)
        requeue_interrupted(opened, running_are_dead=owned)
        _run(opened, objective, n_trials, timeout)
    return opened


def best_recipe(study: optuna.Study) -> Recipe:
    """Return the recipe of the best complete trial.

    Raises ValueError when no trial is complete.
    """
    return Recipe.from_json(best_trial(study).user_attrs["recipe"])


def _check(
    n_trials: int, attributes: Mapping[str, Any], data: ImageData, recipes: Sequence[Recipe]
) -> None:
    if n_trials < 1:
        raise ValueError(f"n_trials must be positive, got {n_trials}")
    if taken := [name for name in RESERVED if name in attributes]:
        raise ValueError(f"user_attrs must not contain {taken}, which are the study's own")
    for recipe in recipes:
        if recipe.batch_size > len(data.train):
            raise ValueError(
                f"batch_size must be at most the number of training images {len(data.train)}, "
                f"got {recipe.batch_size}"
            )


def _run(study: optuna.Study, objective: Objective, n_trials: int, timeout: float | None) -> None:
    def clean(_: optuna.Study, trial: FrozenTrial) -> None:
        if trial.state in COUNTED:
            objective.checkpoint(trial).unlink(missing_ok=True)

    start = time.monotonic()
    # One trial at a time: Optuna's own n_trials does not know of earlier calls.
    while len(study.get_trials(deepcopy=False, states=COUNTED)) < n_trials:
        if timeout is not None and time.monotonic() - start >= timeout:
            break
        study.optimize(objective, n_trials=1, callbacks=[clean])


def _queue(
    enqueue: Sequence[Recipe] | None, suggest: Suggest, base: Recipe
) -> list[dict[str, Any]]:
    if enqueue is None:
        published = Recipe.published(WARM_START, epochs=base.epochs)
        return [parameters(published, suggest, base, exact=False)]
    return [parameters(recipe, suggest, base, exact=True) for recipe in enqueue]


def _pruner(pruner: str | BasePruner | None, epochs: int) -> BasePruner:
    if pruner is None:
        return NopPruner()
    if isinstance(pruner, BasePruner):
        return pruner
    if pruner != "percentile":
        raise ValueError(f"pruner must be 'percentile', None or Optuna's, got {pruner!r}")
    return PercentilePruner(75, n_startup_trials=5, n_warmup_steps=epochs // 4)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def _name(suggest: Suggest) -> str:
    kind = suggest if hasattr(suggest, "__qualname__") else type(suggest)
    return f"{kind.__module__}:{kind.__qualname__}"


@contextmanager
def _quiet(quiet: bool) -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    if quiet:
        optuna.logging.set_verbosity(max(before, optuna.logging.WARNING))
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)

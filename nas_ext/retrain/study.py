"""The search for a training recipe of one architecture: an ordinary, resumable Optuna study."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from torch import nn

from nas_ext.data import Augmentation, ImageData, default_augmentation
from nas_ext.retrain.fit import Device
from nas_ext.retrain.heartbeat import GRACE_SECONDS
from nas_ext.retrain.loop import Callback
from nas_ext.retrain.measures import Goals, Limit
from nas_ext.retrain.objective import Objective
from nas_ext.retrain.pruning import choose_pruner
from nas_ext.retrain.recipe import Recipe
from nas_ext.retrain.resume import RESERVED, best_trial
from nas_ext.retrain.sampler import SeededTPE
from nas_ext.retrain.session import Session
from nas_ext.retrain.siblings import Sibling, warm_parameters
from nas_ext.retrain.space import Suggest, default_suggest, parameters
from nas_ext.retrain.storage import Storage

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
    warm_start: Sibling | None = None,
    augmentation: Augmentation | None = None,
    objectives: Sequence[str] = ("accuracy",),
    constraints: Mapping[str, Limit] | None = None,
    pruner: str | BasePruner | None = "percentile",
    sampler: BaseSampler | None = None,
    storage: Storage | None = None,
    study_name: str = "retrain",
    load_if_exists: bool = True,
    timeout: float | None = None,
    n_jobs: int = 1,
    callbacks: Sequence[Callback] = (),
    grace: int = GRACE_SECONDS,
    device: Device | Sequence[Device] = "cpu",
    amp: bool | str = False,
    user_attrs: Mapping[str, Any] | None = None,
    verbose: bool = False,
) -> optuna.Study:
    """Tune the recipe of a network on `data.train`, judged by the last epoch on `data.val`.

    Every trial builds a fresh network and trains it for `recipe.epochs` epochs with the same
    seed. `suggest` changes the base recipe; `enqueue` holds recipes to try first, by default the
    published one with the base's settings wherever `suggest` leaves them alone. Then comes the
    best trial of `warm_start`, the study of a sibling architecture (or its folder, its journal,
    the URL of its database). The study ends when `n_trials` are complete or pruned, those of
    earlier calls included, or `timeout` seconds have passed at the end of a trial. The test set
    is not touched.

    Going on. Calling again with the same arguments goes on, unless `load_if_exists` is false: an
    interrupted trial is repeated from its last saved epoch, and the draws are those of an
    uninterrupted study. This holds for Ctrl-C, for a killed process, and for SIGTERM, after
    which the epoch is finished and SystemExit(0) raised. An error in a trial ends the call; the
    next call repeats the trial if its recipe was enqueued, otherwise draws another.

    Where. `out` holds the checkpoints of running trials and `study.log`, an Optuna journal,
    unless `storage` names another journal, the URL of a database or an Optuna storage. On one
    machine SQLite will do (`sqlite:///study.db`), for several without a common file system take
    a server (`postgresql+psycopg://...`), and start the first worker alone.

    Workers. The same call in another process, at the same time, is one more worker on the same
    trials; `n_jobs` starts so many at once, with one torch thread each, for which the arguments
    are pickled. They are processes because threads would share torch's random numbers. With
    several, the draws depend on who finishes first. The trial of a worker that died is repeated
    by the others: at once on the same machine, otherwise when there was no sign of life for
    `grace` seconds.

    `objectives` are `"accuracy"`, `"loss"`, `"seconds"` (of the training), `"macs"` and
    `"parameters"`; the best of several are `study.best_trials`, and nothing is pruned (Optuna
    cannot). `constraints` limit `"macs"` and `"parameters"`, or, as a pair, a measure of one's own
    and its limit: `{"latency": (my_latency, 0.005)}`. These costs are the network's before it is
    trained. Those of one fixed architecture do not depend on the recipe, so both make sense where
    `build` heeds something that `suggest` varies. A trial over a limit is pruned untrained.

    `pruner="percentile"` stops the worst quarter of the trials, after five full ones and not in
    the first quarter of the epochs; `"median"` the worse half, `"hyperband"` by brackets, None
    none. Diverged trainings count as pruned, with accuracy 0 in the epoch where it happened, and
    so do those that run out of memory; five of these in a row end the call. The reason is the
    trial's attribute `error`.

    Each trial has the attributes `recipe` and, when complete, `result` (with macs, parameters,
    seed and versions). Put what identifies the network into `user_attrs["architecture"]`: it is
    stored with the study, and going on with another one is refused. `callbacks` are called
    after every trial, in its process. `device` and `amp` are `fit`'s.

    Raises ValueError for arguments out of range, enqueued recipes that `suggest` cannot propose,
    a study made with other settings and a damaged storage; RuntimeError for an error in one of
    several workers; OSError when the disk is full, with all that was saved before intact.
    """
    attributes = {"architecture": None, **(user_attrs or {})}
    goals = Goals(tuple(objectives), dict(constraints or {}))
    _check(n_trials, n_jobs, grace, attributes, data, (recipe, *(enqueue or ())))
    varied = default_augmentation(data) if augmentation is None else augmentation
    fingerprint = {
        "architecture": _digest(attributes["architecture"]),
        "data": data.digest,
        "epochs": recipe.epochs,
        "seed": seed,
        "space": _name(suggest),
        "base recipe": recipe.to_json(),
        "augmentation": asdict(varied),
        "amp": amp or None,
        **goals.fingerprint(),
    }
    queue = _queue(enqueue, suggest, recipe)
    if warm_start is not None:
        queue.append(warm_parameters(warm_start, suggest, recipe))
    session = Session(
        objective=Objective(
            build, data, recipe, suggest, Path(out), seed, varied, device, amp, goals
        ),
        storage=Path(out) / "study.log" if storage is None else storage,
        owned=storage is None,
        study_name=study_name,
        sampler=SeededTPE(seed) if sampler is None else sampler,
        pruner=choose_pruner(pruner, recipe.epochs, several=goals.several),
        grace=grace,
        n_trials=n_trials,
        deadline=None if timeout is None else time.monotonic() + timeout,
        callbacks=tuple(callbacks),
        quiet=not verbose,
    )
    return session.run(
        fingerprint, attributes, queue, n_jobs=n_jobs, load_if_exists=load_if_exists
    )


def best_recipe(study: optuna.Study) -> Recipe:
    """Return the recipe of the best complete trial.

    Raises ValueError when no trial is complete, and for a study of several objectives.
    """
    return Recipe.from_json(best_trial(study).user_attrs["recipe"])


def _check(
    n_trials: int,
    n_jobs: int,
    grace: int,
    attributes: Mapping[str, Any],
    data: ImageData,
    recipes: Sequence[Recipe],
) -> None:
    for name, value in (("n_trials", n_trials), ("n_jobs", n_jobs), ("grace", grace)):
        if value < 1:
            raise ValueError(f"{name} must be positive, got {value}")
    if taken := [name for name in RESERVED if name in attributes]:
        raise ValueError(f"user_attrs must not contain {taken}, which are the study's own")
    for recipe in recipes:
        if recipe.batch_size > len(data.train):
            raise ValueError(
                f"batch_size must be at most the number of training images {len(data.train)}, "
                f"got {recipe.batch_size}"
            )


def _queue(
    enqueue: Sequence[Recipe] | None, suggest: Suggest, base: Recipe
) -> list[dict[str, Any]]:
    if enqueue is None:
        published = Recipe.published(WARM_START, epochs=base.epochs)
        return [parameters(published, suggest, base, exact=False)]
    return [parameters(recipe, suggest, base, exact=True) for recipe in enqueue]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def _name(suggest: Suggest) -> str:
    kind = suggest if hasattr(suggest, "__qualname__") else type(suggest)
    return f"{kind.__module__}:{kind.__qualname__}"

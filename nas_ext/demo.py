"""The demonstration: search digits three ways, retrain what was found, and report honestly."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from nas_ext.architecture import Architecture
from nas_ext.compare import difference, mean_interval, rank_correlation, verdict
from nas_ext.data import ImageData, digits
from nas_ext.field_types import check_fields
from nas_ext.files import write_json
from nas_ext.manifest import manifest
from nas_ext.random_oneshot import random_oneshot
from nas_ext.results import RankedArchitecture, SearchResult
from nas_ext.retrain import Recipe, fit
from nas_ext.runs import (
    Retrained,
    Training,
    builder,
    new_folder,
    retrain_images,
    search_images,
    slug,
)
from nas_ext.spaces import create
from nas_ext.strategies import LearnedTree, Uniform

__all__ = ["Demo", "Settings", "run_demo"]

SPACE = "mini-pooling"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Say how much the demonstration computes.

    `steps` are training passes of each search; `trials` and `epochs` the retraining studies';
    `seeds` the trainings behind every test accuracy. The strategies have their defaults.
    `threads` are torch's: images of 8 x 8 pixels are too small to share, and more threads only
    wait for each other on a busy machine.
    """

    steps: int = 800
    trials: int = 6
    epochs: int = 15
    batch_size: int = 64
    seeds: int = 5
    threads: int = 1
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        check_fields(self)
        if self.seeds < 2:
            raise ValueError(f"seeds must be at least 2 for an interval, got {self.seeds}")
        if self.threads < 1:
            raise ValueError(f"threads must be at least 1, got {self.threads}")


@dataclass(frozen=True)
class Demo:
    """Hold everything the demonstration found, for its report."""

    settings: Settings
    searches: Mapping[str, SearchResult]
    picks: Mapping[str, RankedArchitecture]
    alone: Mapping[str, tuple[float, ...]]
    retrained: Mapping[str, Retrained]
    sentences: tuple[str, ...]
    correlations: Mapping[str, float]
    seconds: float


def run_demo(
    out: str | Path, settings: Settings, *, say: Callable[[str], None] = lambda text: None
) -> Demo:
    """Search, retrain, compare; leave `result.json` and every search and study under `out`.

    Every search has the same number of training passes on the same images. What each one picked,
    the default architecture and the costliest one are trained alone with the published recipe,
    and tested once per seed; then Optuna tunes the recipe of the found and of the default
    architecture. Nothing is chosen by a test accuracy. `say` is told what begins.
    """
    start = time.monotonic()
    torch.set_num_threads(settings.threads)
    folder = new_folder(out)
    if (folder / "result.json").exists():
        raise ValueError(f"out must not hold a demonstration already, got {folder}")
    data = digits(seed=settings.seed)
    searches = _searches(folder, data, settings, say)
    picks = _picks(searches, data)
    alone = _train_alone(searches["learned-tree"], picks, data, settings, say)
    retrained: dict[str, Retrained] = {}
    for name in ("learned-tree", "default"):
        say(f"Tuning the training of {picks[name].name} ({name}) with Optuna")
        if picks[name].name not in {r.name for r in retrained.values()}:
            retrained[name] = retrain_images(
                searches["learned-tree"],
                picks[name],
                data,
                out=folder,
                epochs=settings.epochs,
                batch_size=settings.batch_size,
                trials=settings.trials,
                seeds=settings.seeds,
                seed=settings.seed,
                device=settings.device,
            )
    demo = Demo(
        settings=settings,
        searches=searches,
        picks=picks,
        alone=alone,
        retrained=retrained,
        sentences=_sentences(picks, alone, retrained),
        correlations=_correlations(searches),
        seconds=time.monotonic() - start,
    )
    write_json(folder / "result.json", _summary(demo, data))
    return demo


def _searches(
    folder: Path, data: ImageData, settings: Settings, say: Callable[[str], None]
) -> dict[str, SearchResult]:
    training = Training(
        steps=settings.steps, batch_size=settings.batch_size, device=settings.device
    )
    source = {"source": "digits", "seed": settings.seed, "image_size": None}
    found = {}
    for name, strategy in (
        ("learned-tree", LearnedTree(seed=settings.seed)),
        ("uniform", Uniform(seed=settings.seed)),
    ):
        say(f"Searching with {type(strategy).__name__}, inside an NNI experiment")
        found[name] = search_images(
            strategy, SPACE, data, out=folder / name, training=training, data_source=source
        )
    say("Searching with NNI's own RandomOneShot")
    found["nni-random-oneshot"] = random_oneshot(
        SPACE,
        data,
        out=folder / "nni-random-oneshot",
        training=training,
        seed=settings.seed,
        data_source=source,
    )
    return found


def _picks(searches: Mapping[str, SearchResult], data: ImageData) -> dict[str, RankedArchitecture]:
    """Return what each competitor says is best; the last three did not search."""
    model = create(SPACE, num_classes=data.num_classes, in_chs=data.in_chs)
    line = {r.architecture: r for r in searches["uniform"].ranking}
    default = model.default_architecture
    exported = searches["nni-random-oneshot"].settings["exported"]
    if default is None:
        raise RuntimeError(f"space {SPACE} has no default architecture")
    return {
        "learned-tree": searches["learned-tree"].best,
        "uniform": searches["uniform"].best,
        "nni-random-oneshot, ranked by us": searches["nni-random-oneshot"].best,
        "nni-random-oneshot, as exported": line[tuple(exported)],
        "most macs": max(line.values(), key=lambda r: r.macs or 0),
        "default": line[default],
    }


def _train_alone(
    result: SearchResult,
    picks: Mapping[str, RankedArchitecture],
    data: ImageData,
    settings: Settings,
    say: Callable[[str], None],
) -> dict[str, tuple[float, ...]]:
    """Train every picked architecture alone and return its test accuracies, by its name."""
    recipe = replace(
        Recipe.published("resnet20-pooling", epochs=settings.epochs),
        batch_size=settings.batch_size,
    )
    alone: dict[str, tuple[float, ...]] = {}
    for found in picks.values():
        if found.name in alone:
            continue
        say(f"Training {found.name} alone, {settings.seeds} seeds")
        build = partial(builder(result, found), recipe)
        runs = [
            fit(
                build,
                recipe,
                data.train_and_val(),
                data.test,
                data,
                seed=seed,
                device=settings.device,
                evaluate_every_epoch=False,
            )
            for seed in range(settings.seeds)
        ]
        alone[found.name] = tuple(run.accuracy for run in runs)
    return alone


def _sentences(
    picks: Mapping[str, RankedArchitecture],
    alone: Mapping[str, tuple[float, ...]],
    retrained: Mapping[str, Retrained],
) -> tuple[str, ...]:
    """Say of every comparison whether it is more than seed noise."""
    found = picks["learned-tree"].name
    sentences = []
    for name, pick in picks.items():
        if name == "learned-tree":
            continue
        if pick.name == found:
            sentences.append(f"{name} picked the same architecture as learned-tree, {found}.")
        else:
            sentence = verdict(found, alone[found], f"{pick.name} ({name})", alone[pick.name])
            sentences.append(f"Same recipe: {sentence}")
    if "default" in retrained:
        first, second = retrained["learned-tree"], retrained["default"]
        tuned = verdict(
            f"{first.name} (found)",
            first.final.accuracies,
            f"{second.name} (default)",
            second.final.accuracies,
        )
        sentences.append(f"Recipes tuned by Optuna: {tuned}")
    return tuple(sentences)


def _correlations(searches: Mapping[str, SearchResult]) -> dict[str, float]:
    """Return how alike the two exhaustive rankings are, both of uniformly trained supernets."""
    ours = {r.architecture: r.accuracy for r in searches["uniform"].ranking}
    theirs = {r.architecture: r.accuracy for r in searches["nni-random-oneshot"].ranking}
    order: list[Architecture] = sorted(ours)
    tau = rank_correlation([ours[a] for a in order], [theirs[a] for a in order])
    return {"uniform ~ nni-random-oneshot": tau}


def _summary(demo: Demo, data: ImageData) -> dict[str, Any]:
    def interval(values: tuple[float, ...]) -> dict[str, Any]:
        found = mean_interval(values)
        return {"mean": found.mean, "low": found.low, "high": found.high, "values": list(values)}

    tuned = {name: r for name, r in demo.retrained.items()}
    summary: dict[str, Any] = {
        "format": "nas-ext/demo-1",
        "data": {"name": data.name, "digest": data.digest},
        "settings": vars(demo.settings),
        "found": demo.picks["learned-tree"].name,
        "picks": {name: pick.name for name, pick in demo.picks.items()},
        "test_accuracy_same_recipe": {name: interval(v) for name, v in demo.alone.items()},
        "test_accuracy_tuned": {
            r.name: {**interval(r.final.accuracies), "recipe": r.final.recipe.to_json()}
            for r in tuned.values()
        },
        "conclusions": list(demo.sentences),
        "rank_correlations": dict(demo.correlations),
        "searches": {name: f"{name}/search.json" for name in demo.searches},
        "retrained": {r.name: f"retrain/{slug(r.name)}" for r in tuned.values()},
        "seconds": demo.seconds,
        "manifest": manifest(seeds=[demo.settings.seed], data=data.digest),
    }
    if "default" in tuned:
        first, second = tuned["learned-tree"].final, tuned["default"].final
        gap = difference(first.accuracies, second.accuracies)
        summary["tuned_difference"] = {
            "mean": gap.mean,
            "low": gap.low,
            "high": gap.high,
            "exceeds_noise": gap.exceeds_noise,
        }
    return summary

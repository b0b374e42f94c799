"""One search of a comparison: begun, gone on with after a stop, and scored."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nas_ext.architecture import Architecture
from nas_ext.comparison.competitor import NNI_RANDOM, Competitor
from nas_ext.comparison.left import FORMAT
from nas_ext.comparison.nni_darts import log_products, nni_darts
from nas_ext.data import ImageData
from nas_ext.files import check_format, naming, read_json, write_json
from nas_ext.interrupts import Stopped
from nas_ext.manifest import manifest
from nas_ext.oneshot import DifferentiableStrategy, SampledStrategy, SearchModule
from nas_ext.oneshot.resuming import CHECKPOINT
from nas_ext.random_oneshot import random_oneshot
from nas_ext.results import SearchResult
from nas_ext.run_settings import RUN
from nas_ext.runs import WEIGHTS, Training, search_images
from nas_ext.samplers.weighted import WeightedSampler
from nas_ext.second_stage import select
from nas_ext.strategies.registry import AnyStrategy

__all__ = ["CHECKPOINT_MINUTES", "run_search", "unfinished_checkpoint"]

CHECKPOINT_MINUTES = 0.5
"""How often a search is saved: what a stop costs at most. Writing takes some milliseconds."""

_LEFT = "left.json"
"""What the scores need of a strategy that has searched, from its end until it is scored."""

Scores = Mapping[Architecture, float]


def run_search(
    competitor: Competitor,
    strategy: AnyStrategy | None,
    *,
    seed: int,
    place: Path,
    space: Mapping[str, Any],
    data: ImageData,
    data_source: Mapping[str, Any],
    training: Training,
) -> None:
    """Run one search, and leave what its supernet says of every architecture in `scores.json`.

    `strategy` is the one that the competitor builds, None for NNI's own. A search that was
    stopped goes on from its last checkpoint, to the same bits, and one that had ended is only
    scored. NNI's own strategies keep no checkpoint: they begin anew, but for a random one that
    had ended. Raises `nas_ext.interrupts.Stopped` where Ctrl-C or SIGTERM stops it, and
    ValueError where the folder was begun with other settings, or what it holds is damaged.
    """
    given: dict[str, Any] = {
        "out": place,
        "training": training,
        "arguments": {key: value for key, value in space.items() if key != "name"},
    }
    if strategy is None:
        scores, left = _of_nni(competitor, str(space["name"]), data, seed, data_source, given)
    else:
        given["data_source"] = data_source
        scores, left = _of_ours(strategy, str(space["name"]), data, given)
    write_json(
        place / "scores.json",
        {
            "format": FORMAT,
            "competitor": competitor.described(),
            "steps": training.steps,
            "scores": [[list(a), value] for a, value in scores.items()],
            **left,
            "manifest": manifest(seeds=[seed], data=data.digest),
        },
    )
    for name in (WEIGHTS, _LEFT, CHECKPOINT):
        (place / name).unlink(missing_ok=True)
    shutil.rmtree(place / "nni", ignore_errors=True)


def unfinished_checkpoint(place: Path) -> Path | None:
    """Return the checkpoint that the search of a folder goes on from, None where there is none."""
    begun = (place / RUN).exists() and not (place / "search.json").exists()
    return place / CHECKPOINT if begun and (place / CHECKPOINT).exists() else None


def _of_nni(
    competitor: Competitor,
    space: str,
    data: ImageData,
    seed: int,
    data_source: Mapping[str, Any],
    given: Mapping[str, Any],
) -> tuple[Scores, dict[str, Any]]:
    """Run a strategy of NNI; return a score for every architecture, and what else is kept."""
    place = Path(given["out"])
    if competitor.strategy == NNI_RANDOM:
        if (place / "search.json").exists():
            result = SearchResult.load(place)
        else:
            shutil.rmtree(place, ignore_errors=True)
            result = random_oneshot(space, data, seed=seed, data_source=data_source, **given)
        return {tuple(line.architecture): line.accuracy for line in result.ranking}, {}
    shutil.rmtree(place, ignore_errors=True)
    mixture = nni_darts(space, data, seed=seed, **given, **competitor.settings)
    rows = {label: [list(i) for i in row.items()] for label, row in mixture.probabilities.items()}
    kept = {"pick": list(mixture.pick), "probabilities": rows, "seconds": mixture.seconds}
    return mixture.scores, kept


def _of_ours(
    strategy: AnyStrategy, space: str, data: ImageData, given: Mapping[str, Any]
) -> tuple[Scores, dict[str, Any]]:
    """Run, or go on with, a registered strategy; return the scores, and what else is kept."""
    place, training = Path(given["out"]), given["training"]
    if isinstance(strategy, DifferentiableStrategy):
        # the architecture's batches are as large as the weights', as passes are counted
        training = replace(training, validation_batch_size=training.batch_size)
    ended = (place / "search.json").exists()
    if not (place / RUN).exists() or (ended and not (place / _LEFT).exists()):
        shutil.rmtree(place, ignore_errors=True)  # nothing to go on from
    try:
        search_images(
            strategy,
            space,
            data,
            **{**given, "training": training},
            resume=True,
            checkpoint_minutes=CHECKPOINT_MINUTES,
            ended=lambda done: write_json(place / _LEFT, {"format": FORMAT, **_left(done)}),
        )
    except Stopped as stop:
        said = "stopped; what is finished is kept, the same command goes on"
        raise Stopped(said, stop.exit_code - 128) from stop
    left = dict(check_format(read_json(place / _LEFT), FORMAT, place / _LEFT))
    del left["format"]
    if isinstance(strategy, DifferentiableStrategy):
        with naming(place / _LEFT):
            return {tuple(a): float(value) for a, value in left["scores"]}, {}
    selection = select(place, "exhaustive")
    return {tuple(line.architecture): line.accuracy for line in selection.ranking}, left


def _left(strategy: SampledStrategy | DifferentiableStrategy) -> dict[str, Any]:
    """Return what only a strategy that has just searched can tell, as JSON values."""
    if isinstance(strategy, DifferentiableStrategy):
        scores = log_products(strategy.search_space, strategy.probabilities)
        return {"scores": [[list(a), value] for a, value in scores.items()]}
    return _law(strategy)


def _law(strategy: SampledStrategy) -> dict[str, Any]:
    """Return the shares by which the last phase drew, where they were fixed."""
    module = strategy.oneshot_module
    sampler = module.search.sampler if isinstance(module, SearchModule) else None
    if not isinstance(sampler, WeightedSampler):
        return {}
    shares = zip(sampler.space.enumerate(), sampler.probabilities.tolist(), strict=True)
    return {"law": [[list(a), share] for a, share in shares]}

"""Run competitors on the same images, weights and data order, resumably."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from nas_ext.benchmarks import Table
from nas_ext.comparison.competitor import (
    NNI_DARTS,
    NNI_RANDOM,
    RANDOM_SEARCH,
    Competitor,
    steps_within,
)
from nas_ext.comparison.left import FORMAT, judged_search, search_folder
from nas_ext.comparison.metrics import Judged
from nas_ext.comparison.one_search import run_search, unfinished_checkpoint
from nas_ext.comparison.random_search import random_search, trainings_within
from nas_ext.data import ImageData, load
from nas_ext.field_types import check_fields
from nas_ext.files import check_format, read_json, write_json
from nas_ext.manifest import manifest
from nas_ext.oneshot.checkpoints import position
from nas_ext.runs import Training
from nas_ext.spaces import create as create_space
from nas_ext.workers import finished

__all__ = ["Comparison", "compare", "run_searches", "search_folder"]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Say what is compared: competitors, on which space, images and seeds, with what budget.

    `space` are arguments of `nas_ext.spaces.create` without the numbers of classes and channels.
    `training.steps` is the budget in training passes of one architecture on one batch, the same
    for all: a strategy that trains several on a batch, or all options at once, gets fewer steps
    (see `Competitor` for other ways to be equal, and `passes_of_mixture`). Rewards and rankings
    read validation batches beside it; the results say how many. Runs of one seed share the
    initial weights, the order of the training images and the draws of a uniform warm-up.
    """

    space: Mapping[str, Any]
    data: str
    image_size: int | None
    competitors: tuple[Competitor, ...]
    seeds: tuple[int, ...]
    training: Training

    def __post_init__(self) -> None:
        check_fields(self)
        if not isinstance(self.training, Training):
            raise ValueError(f"training must be a Training, got {self.training!r}")
        if len(self.seeds) < 2 or len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds must be at least 2 and differ, got {list(self.seeds)}")
        if not self.competitors:
            raise ValueError("competitors must not be empty, got ()")

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        return asdict(self)


def compare(
    comparison: Comparison,
    table: Table,
    *,
    out: str | Path,
    workers: int = 1,
    say: Callable[[str], None] = lambda text: None,
) -> list[Judged]:
    """Run every competitor with every seed, and judge each search by the table.

    A finished search is a folder below `out`, so that the same call goes on where an earlier one
    was stopped; competitors and seeds may be added later. Searches that were stopped themselves go
    on from their last checkpoint, at most half a minute back, to the same bits; those of NNI's
    own strategies, which keep none, begin anew. `workers` processes share the work with
    one thread each; the numbers do not depend on how many there are, but for NNI's strategy,
    which draws without a seed.

    Raises ValueError for a table of another space, for a competitor that cannot search it, and
    for a folder whose searches were made with another space, images or budget.
    """
    folder = Path(out)
    _check_space(comparison, table)
    for competitor in comparison.competitors:
        if (why := competitor.misfit(comparison.space)) is not None:
            raise ValueError(why)
        if competitor.strategy == RANDOM_SEARCH:
            _random_search(comparison, table, competitor, seed=comparison.seeds[0])
    searches = [
        (competitor, seed)
        for seed in comparison.seeds
        for competitor in comparison.competitors
        if competitor.strategy != RANDOM_SEARCH
    ]
    run_searches(comparison, searches, out=folder, workers=workers, say=say)
    return [
        _random_search(comparison, table, competitor, seed=seed)
        if competitor.strategy == RANDOM_SEARCH
        else judged_search(folder, table, competitor, seed)
        for competitor in comparison.competitors
        for seed in comparison.seeds
    ]


def run_searches(
    comparison: Comparison,
    searches: Sequence[tuple[Competitor, int]],
    *,
    out: str | Path,
    workers: int = 1,
    say: Callable[[str], None] = lambda text: None,
) -> None:
    """Run those searches, a competitor and a seed each, that `compare` would find unfinished.

    Nothing is judged, so no table is needed. Raises ValueError for a folder whose searches were
    made with another space, images or budget.
    """
    folder = Path(out)
    _begin(folder, comparison)
    tasks = [
        (comparison, competitor, seed, folder)
        for competitor, seed in searches
        if not _finished(folder, competitor, seed)
    ]
    say(f"{len(tasks)} searches to run")
    for _, competitor, seed, _ in tasks:
        if last := unfinished_checkpoint(search_folder(folder, competitor, seed)):
            say(f"{competitor.label}, seed {seed}: going on from {position(last)}")
    ended = finished(
        _search, tasks, workers=workers, named=lambda t: f"{t[1].label} with seed {t[2]}"
    )
    for done, (task, _) in enumerate(ended, 1):
        say(f"{done} of {len(tasks)}: {task[1].label}, seed {task[2]}")


def _check_space(comparison: Comparison, table: Table) -> None:
    space = create_space(num_classes=2, in_chs=1, **comparison.space).search_space
    if tuple(space) != tuple(table.space):
        raise ValueError(
            f"table must be of space {space.name!r}, got {table.name!r} of {table.space.name!r}"
        )


def _begin(folder: Path, comparison: Comparison) -> None:
    """Write what all searches of the folder share, or check that it is the same."""
    file, shared = folder / "comparison.json", _shared(comparison)
    if not file.exists():
        digest = _loaded(comparison.data, comparison.image_size).digest
        made_by = manifest(seeds=comparison.seeds, data=digest, threads=1)
        write_json(file, {"format": FORMAT, **shared, "manifest": made_by})
        return
    known = read_json(file)
    for name, value in {"format": FORMAT, **shared}.items():
        found = known.get(name) if isinstance(known, Mapping) else None
        if found != value:
            raise ValueError(f"{name} of {file} must be {value}, got {found}")


def _shared(comparison: Comparison) -> dict[str, Any]:
    training = asdict(comparison.training)
    del training["progress"]
    shared = {
        "space": dict(comparison.space),
        "data": comparison.data,
        "image_size": comparison.image_size,
        "training": training,
    }
    return dict(json.loads(json.dumps(shared)))  # as a file gives it back: tuples are lists


def _finished(folder: Path, competitor: Competitor, seed: int) -> bool:
    """Say whether a search is done; ValueError when its folder was made with other settings."""
    file = search_folder(folder, competitor, seed) / "scores.json"
    if not file.exists():
        return False
    found = check_format(read_json(file), FORMAT, file).get("competitor")
    if found != json.loads(json.dumps(competitor.described())):
        raise ValueError(f"competitor of {file} must be {asdict(competitor)}, got {found}")
    return True


@cache
def _loaded(data: str, image_size: int | None) -> ImageData:
    """Return the images of a worker, read once."""
    return load(data, image_size=image_size)


def _search(comparison: Comparison, competitor: Competitor, seed: int, folder: Path) -> None:
    """Run one search, or go on with it, and leave what its supernet says of every architecture."""
    data = _loaded(comparison.data, comparison.image_size)
    registered = competitor.strategy not in (NNI_RANDOM, NNI_DARTS)
    strategy = competitor.build(seed) if registered else None
    budget = comparison.training.steps
    steps = steps_within(competitor, strategy, budget, space=comparison.space, data=data)
    run_search(
        competitor,
        strategy,
        seed=seed,
        place=search_folder(folder, competitor, seed),
        space=comparison.space,
        data=data,
        data_source={"source": comparison.data, "seed": 0, "image_size": comparison.image_size},
        training=replace(comparison.training, steps=steps, progress=False),
    )


def _random_search(
    comparison: Comparison, table: Table, competitor: Competitor, *, seed: int
) -> Judged:
    training = comparison.training
    trainings = competitor.settings.get("trainings")
    if trainings is None:
        images = training.steps * training.batch_size * competitor.times
        trainings = trainings_within(table, images)
    return random_search(table, competitor=competitor.label, seed=seed, trainings=trainings)

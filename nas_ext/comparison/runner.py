"""Run competitors on the same images, weights and data order, resumably."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from nas_ext.architecture import SearchSpace
from nas_ext.benchmarks import Table
from nas_ext.comparison.metrics import Judged, judge
from nas_ext.data import ImageData, load
from nas_ext.files import read_json, write_json
from nas_ext.oneshot import SampledStrategy
from nas_ext.random_oneshot import random_oneshot
from nas_ext.results import SearchResult, installed_versions
from nas_ext.runs import Training, search_images, slug
from nas_ext.second_stage import select
from nas_ext.spaces import create as create_space
from nas_ext.strategies.registry import create as create_strategy
from nas_ext.workers import finished

__all__ = ["NNI_RANDOM", "Comparison", "Competitor", "compare"]

FORMAT = "nas-ext/comparison-1"
NNI_RANDOM = "nni-random-oneshot"


@dataclass(frozen=True, kw_only=True)
class Competitor:
    """Name a strategy with its settings; `strategy` is the registry's name, or NNI's."""

    label: str
    strategy: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.strategy == NNI_RANDOM:
            if self.settings:
                raise ValueError(f"settings of {NNI_RANDOM} must be none, got {self.settings}")
            return
        self.build(0)

    def build(self, seed: int) -> SampledStrategy:
        """Return the strategy with a seed; ValueError for one that does not sample."""
        made = create_strategy(self.strategy, **{**self.settings, "seed": seed})
        if not isinstance(made, SampledStrategy):
            raise ValueError(
                f"strategy must sample architectures, {self.strategy} mixes all options"
            )
        return made


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Say what is compared: competitors, on which space, images and seeds, with what budget.

    `space` are arguments of `nas_ext.spaces.create` without the numbers of classes and channels.
    `training.steps` is the budget in training passes of one architecture on one batch, the same
    for all: a strategy that trains several on a batch gets fewer steps. Rewards and rankings read
    validation batches beside it; the results say how many. Runs of one seed share the initial
    weights, the order of the training images and the draws of a uniform warm-up.
    """

    space: Mapping[str, Any]
    data: str
    image_size: int | None
    competitors: tuple[Competitor, ...]
    seeds: tuple[int, ...]
    training: Training

    def __post_init__(self) -> None:
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
    was stopped; competitors and seeds may be added later. `workers` processes share the work with
    one thread each; the numbers do not depend on how many there are, but for NNI's strategy,
    which draws without a seed.

    Raises ValueError for a table of another space, and for a folder whose searches were made with
    another space, images or budget.
    """
    folder = Path(out)
    _check_space(comparison, table)
    _begin(folder, comparison)
    tasks = [
        (comparison, competitor, seed, folder)
        for seed in comparison.seeds
        for competitor in comparison.competitors
        if not _finished(folder, competitor, seed)
    ]
    say(f"{len(tasks)} searches to run")
    for done, (task, _) in enumerate(finished(_search, tasks, workers=workers), 1):
        say(f"{done} of {len(tasks)}: {task[1].label}, seed {task[2]}")
    return [
        _judged(folder, table, competitor, seed)
        for competitor in comparison.competitors
        for seed in comparison.seeds
    ]


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
        write_json(file, {"format": FORMAT, **shared, "versions": dict(installed_versions())})
        return
    known = read_json(file)
    for name, value in {"format": FORMAT, **shared}.items():
        found = known.get(name) if isinstance(known, Mapping) else None
        if found != value:
            raise ValueError(f"{name} of {file} must be {value}, got {found}")


def _shared(comparison: Comparison) -> dict[str, Any]:
    training = asdict(comparison.training)
    del training["progress"]
    return {
        "space": dict(comparison.space),
        "data": comparison.data,
        "image_size": comparison.image_size,
        "training": training,
    }


def _folder(folder: Path, competitor: Competitor, seed: int) -> Path:
    return folder / "searches" / slug(competitor.label) / f"seed{seed}"


def _finished(folder: Path, competitor: Competitor, seed: int) -> bool:
    """Say whether a search is done; ValueError when its folder was made with other settings."""
    file = _folder(folder, competitor, seed) / "scores.json"
    if not file.exists():
        return False
    found = read_json(file)["competitor"]
    if found != {"strategy": competitor.strategy, "settings": dict(competitor.settings)}:
        raise ValueError(f"competitor of {file} must be {asdict(competitor)}, got {found}")
    return True


@cache
def _loaded(data: str, image_size: int | None) -> ImageData:
    """Return the images of a worker, read once."""
    return load(data, image_size=image_size)


def _search(comparison: Comparison, competitor: Competitor, seed: int, folder: Path) -> None:
    """Run one search, and leave what its supernet says of every architecture."""
    place = _folder(folder, competitor, seed)
    shutil.rmtree(place, ignore_errors=True)  # a search that was stopped in the middle
    data = _loaded(comparison.data, comparison.image_size)
    source = {"source": comparison.data, "seed": 0, "image_size": comparison.image_size}
    arguments = {k: v for k, v in comparison.space.items() if k != "name"}
    given: dict[str, Any] = {"out": place, "data_source": source, "arguments": arguments}
    name = str(comparison.space["name"])
    training = replace(comparison.training, progress=False)
    if competitor.strategy == NNI_RANDOM:
        result = random_oneshot(name, data, training=training, seed=seed, **given)
        scores = {tuple(line.architecture): line.accuracy for line in result.ranking}
    else:
        strategy = competitor.build(seed)
        space = create_space(num_classes=data.num_classes, in_chs=data.in_chs, **comparison.space)
        steps = training.steps // _passes(strategy, space.search_space)
        search_images(strategy, name, data, training=replace(training, steps=steps), **given)
        selection = select(place, "exhaustive")
        scores = {tuple(line.architecture): line.accuracy for line in selection.ranking}
        (place / "supernet.safetensors").unlink()
    write_json(
        place / "scores.json",
        {
            "format": FORMAT,
            "competitor": {
                "strategy": competitor.strategy,
                "settings": dict(competitor.settings),
            },
            "scores": [[list(a), value] for a, value in scores.items()],
        },
    )
    shutil.rmtree(place / "nni", ignore_errors=True)


def _passes(strategy: SampledStrategy, space: SearchSpace) -> int:
    """Return how many training passes a step of the strategy costs."""
    count: Callable[[SearchSpace], int] | None = getattr(strategy, "passes_per_step", None)
    return 1 if count is None else count(space)


def _judged(folder: Path, table: Table, competitor: Competitor, seed: int) -> Judged:
    place = _folder(folder, competitor, seed)
    result = SearchResult.load(place)
    drawn: dict[tuple[int, ...], int] = {}
    for draw in result.draws:
        drawn[draw.architecture] = drawn.get(draw.architecture, 0) + 1
    return judge(
        table,
        competitor=competitor.label,
        seed=seed,
        scores={tuple(a): float(v) for a, v in read_json(place / "scores.json")["scores"]},
        ranking=[line.architecture for line in result.ranking],
        draws=drawn,
    )

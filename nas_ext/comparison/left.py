"""What the searches of a comparison leave in its folder, and how it is judged."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nas_ext.architecture import Architecture
from nas_ext.benchmarks import Table
from nas_ext.comparison.competitor import RANDOM_SEARCH, Competitor
from nas_ext.comparison.metrics import Judged, judge
from nas_ext.files import naming, read_json
from nas_ext.results import SearchResult
from nas_ext.runs import slug

__all__ = [
    "FORMAT",
    "judged_search",
    "law_of",
    "scores_of",
    "search_folder",
    "seconds_of",
]

FORMAT = "nas-ext/comparison-1"
BY_DENSITY = ("density-aware", "prototype-density")
"""Who draws the less dense more often."""


def search_folder(folder: Path, competitor: Competitor, seed: int) -> Path:
    """Return where a comparison keeps the search of a competitor with a seed."""
    return folder / "searches" / slug(competitor.label) / f"seed{seed}"


def scores_of(folder: Path, competitor: Competitor, seed: int) -> dict[Architecture, float] | None:
    """Return what a finished search says of every architecture; None of random search."""
    if competitor.strategy == RANDOM_SEARCH:
        return None
    file = search_folder(folder, competitor, seed) / "scores.json"
    left = read_json(file)
    with naming(file):
        return {tuple(a): float(value) for a, value in left["scores"]}


def law_of(folder: Path, competitor: Competitor, seed: int) -> Mapping[Architecture, float] | None:
    """Return the shares by which a density-aware search drew, None for every other.

    Where the law itself moved, as with prototypes, the shares of its last phase's draws.
    """
    if competitor.strategy not in BY_DENSITY:
        return None
    place = search_folder(folder, competitor, seed)
    left = read_json(place / "scores.json")
    with naming(place / "scores.json"):
        if "law" in left:
            return {tuple(a): float(share) for a, share in left["law"]}
        result = SearchResult.load(place)
        last = [d.architecture for d in result.draws if d.phase == len(result.phases) - 1]
        return {tuple(a): last.count(tuple(a)) / len(last) for a, _ in left["scores"]}


def seconds_of(folder: Path, competitor: Competitor, seed: int) -> float:
    """Return how long a finished search took, its rankings included but not that of all."""
    if competitor.strategy == RANDOM_SEARCH:
        return 0.0
    place = search_folder(folder, competitor, seed)
    left = read_json(place / "scores.json")
    return float(left["seconds"] if "seconds" in left else SearchResult.load(place).budget.seconds)


def judged_search(folder: Path, table: Table, competitor: Competitor, seed: int) -> Judged:
    """Return what a finished search is worth by a table."""
    place = search_folder(folder, competitor, seed)
    left = read_json(place / "scores.json")
    with naming(place / "scores.json"):
        drawn: dict[Architecture, int] = {}
        if "pick" in left:
            ranking = [tuple(left["pick"])]
        else:
            result = SearchResult.load(place)
            ranking = [line.architecture for line in result.ranking]
            for draw in result.draws:
                drawn[draw.architecture] = drawn.get(draw.architecture, 0) + 1
        return judge(
            table,
            competitor=competitor.label,
            seed=seed,
            scores={tuple(a): float(v) for a, v in left["scores"]},
            ranking=ranking,
            draws=drawn,
            law=law_of(folder, competitor, seed),
        )

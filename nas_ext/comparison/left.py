"""What the searches of a comparison leave in its folder, and how it is judged."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas_ext.architecture import Architecture
from nas_ext.benchmarks import Table
from nas_ext.comparison.competitor import RANDOM_SEARCH, Competitor
from nas_ext.comparison.metrics import Judged, judge
from nas_ext.field_types import clause
from nas_ext.files import check_format, naming, read_json
from nas_ext.results import SearchResult
from nas_ext.runs import slug

__all__ = [
    "FORMAT",
    "SCORES",
    "by_architecture",
    "judged_search",
    "law_of",
    "read_scores",
    "scores_of",
    "search_folder",
    "seconds_of",
]

FORMAT = "nas-ext/comparison-1"
SCORES = "scores.json"
"""The file of a finished search of a comparison: what its supernet says of all architectures."""

BEYOND = 1e300
"""No score, share or time is as large as this."""

BY_DENSITY = ("density-aware", "prototype-density")
"""Who draws the less dense more often."""


def search_folder(folder: Path, competitor: Competitor, seed: int) -> Path:
    """Return where a comparison keeps the search of a competitor with a seed."""
    return folder / "searches" / slug(competitor.label) / f"seed{seed}"


def read_scores(file: Path) -> Mapping[str, Any]:
    """Return what a search left; ValueError, with the file's name, for another format."""
    return check_format(read_json(file), FORMAT, file)


def by_architecture(left: Mapping[str, Any], name: str, file: Path) -> dict[Architecture, float]:
    """Return the numbers of a list of architectures, each once.

    Raises ValueError, with the file's name, for a list that is none of those.
    """
    rows = left.get(name)
    if not isinstance(rows, list) or not all(map(_is_row, rows)):
        raise ValueError(
            f"{name} of {file} must be architectures with a number, got {clause(rows)}"
        )
    found = {tuple(architecture): float(value) for architecture, value in rows}
    if len(found) < len(rows):
        raise ValueError(f"{name} of {file} must have every architecture once, one is double")
    return found


def _is_row(row: object) -> bool:
    if not (isinstance(row, list) and len(row) == 2 and isinstance(row[0], list)):
        return False
    return all(type(option) is int for option in row[0]) and _is_number(row[1])


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < BEYOND


def _result(place: Path, name: str) -> SearchResult:
    """Return the result of a search whose scores do not say something themselves."""
    if not (place / "search.json").exists():
        raise ValueError(f"{place / SCORES} must have a {name}, or a search.json beside it")
    return SearchResult.load(place)


def scores_of(folder: Path, competitor: Competitor, seed: int) -> dict[Architecture, float] | None:
    """Return what a finished search says of every architecture; None of random search."""
    if competitor.strategy == RANDOM_SEARCH:
        return None
    file = search_folder(folder, competitor, seed) / SCORES
    return by_architecture(read_scores(file), "scores", file)


def law_of(folder: Path, competitor: Competitor, seed: int) -> Mapping[Architecture, float] | None:
    """Return the shares by which a density-aware search drew, None for every other.

    Where the law itself moved, as with prototypes, the shares of its last phase's draws.
    """
    if competitor.strategy not in BY_DENSITY:
        return None
    place = search_folder(folder, competitor, seed)
    left = read_scores(place / SCORES)
    if "law" in left:
        return by_architecture(left, "law", place / SCORES)
    result = _result(place, "law")
    last = [d.architecture for d in result.draws if d.phase == len(result.phases) - 1]
    if not last:
        raise ValueError(f"draws of {place} must have some in the last phase, it has none")
    known = by_architecture(left, "scores", place / SCORES)
    return {a: last.count(a) / len(last) for a in known}


def seconds_of(folder: Path, competitor: Competitor, seed: int) -> float:
    """Return how long a finished search took, its rankings included but not that of all."""
    if competitor.strategy == RANDOM_SEARCH:
        return 0.0
    place = search_folder(folder, competitor, seed)
    left = read_scores(place / SCORES)
    seconds = left["seconds"] if "seconds" in left else _result(place, "seconds").budget.seconds
    if not _is_number(seconds) or seconds < 0:
        raise ValueError(f"seconds of {place / SCORES} must be a number from 0, got {seconds!r}")
    return float(seconds)


def judged_search(folder: Path, table: Table, competitor: Competitor, seed: int) -> Judged:
    """Return what a finished search is worth by a table."""
    place = search_folder(folder, competitor, seed)
    left = read_scores(place / SCORES)
    result = None if "pick" in left else _result(place, "pick")
    with naming(place / SCORES):
        if result is None:
            ranking = [tuple(left["pick"])]
        else:
            ranking = [line.architecture for line in result.ranking]
        drawn: dict[Architecture, int] = {}
        for draw in () if result is None else result.draws:
            drawn[draw.architecture] = drawn.get(draw.architecture, 0) + 1
        return judge(
            table,
            competitor=competitor.label,
            seed=seed,
            scores=by_architecture(left, "scores", place / SCORES),
            ranking=ranking,
            draws=drawn,
            law=law_of(folder, competitor, seed),
        )

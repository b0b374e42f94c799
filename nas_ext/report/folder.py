"""The report of a search's folder, with the retrainings in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from nas_ext.architecture import SearchSpace
from nas_ext.files import naming, read_json
from nas_ext.report.page import Section, write
from nas_ext.report.reading import read_retraining
from nas_ext.report.retraining import retrain_sections
from nas_ext.report.search import search_sections
from nas_ext.results import SearchResult
from nas_ext.retrain.confirmation import Confirmation


def write_search_report(folder: str | Path) -> Path:
    """Write `report.html` for the folder of a search, and return its path.

    Read are `search.json` and, where they exist, `confirm.json` of `retrain` and `final.json` and
    `study.log` in its folders. Raises ValueError when there is no `search.json`, or a file is
    broken.
    """
    place = Path(folder)
    if not (place / "search.json").is_file():
        raise ValueError(f"folder must hold the search.json of a search, got {place}")
    result = SearchResult.load(place / "search.json")
    with naming(place / "search.json"):
        sections = search_sections(result, space=_space(result))
    order = {line.name: rank for rank, line in enumerate(result.ranking)}
    sections[1:1] = _retrain_sections(place, order, images=result.data.get("images"))
    report = place / "report.html"
    write(report, f"{result.strategy} on {result.space.get('name')}", sections)
    return report


def write_retrain_report(folder: str | Path) -> Path:
    """Write `report.html` for networks that were retrained without a search, and return its path.

    Raises ValueError when there are none in the folder's `retrain`, or a file is broken.
    """
    place = Path(folder)
    sections = _retrain_sections(place, {}, images=None)
    if not sections:
        raise ValueError(f"folder must hold retrainings, got {place}")
    report = place / "report.html"
    write(report, f"Retrained networks of {place.resolve().name}", sections)
    return report


def _retrain_sections(
    place: Path, ranks: Mapping[str, int], *, images: Mapping[str, int] | None
) -> list[Section]:
    """Return what the folders in `retrain` hold, by the ranks of the networks' names."""
    files = [*place.glob("retrain/*/final.json"), *place.glob("retrain/*/study.log")]
    found = {path: read_retraining(path) for path in {file.parent for file in files}}
    if not found:
        return []
    order = sorted(found, key=lambda path: (ranks.get(found[path].name, len(ranks)), path))
    names = Counter(r.name for r in found.values())
    return retrain_sections(
        [
            replace(r, name=r.name if names[r.name] == 1 else f"{r.name} ({path.name})")
            for path, r in ((path, found[path]) for path in order)
        ],
        images=images,
        confirmation=_confirmation(place / "retrain" / "confirm.json"),
    )


def _confirmation(path: Path) -> Confirmation | None:
    """Read a finished confirmation; None for one that is missing or not finished."""
    if not path.is_file():
        return None
    left = read_json(path)
    if isinstance(left, Mapping) and not left.get("recipes"):
        return None
    return Confirmation.load(path)


def _space(result: SearchResult) -> SearchSpace | None:
    """Rebuild a registered space where a figure needs names that the ranking does not have."""
    arguments = result.space.get("arguments") or {}
    leaves = (result.tree or {}).get("architectures", ())
    shown = {*(draw.architecture for draw in result.draws), *map(tuple, leaves)}
    if not arguments or shown <= {line.architecture for line in result.ranking}:
        return None
    from nas_ext.spaces import SPACES, create

    return create(**arguments).search_space if arguments.get("name") in SPACES else None

"""The report of a search's folder, with the retrainings in it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from nas_ext.architecture import SearchSpace
from nas_ext.report.page import write
from nas_ext.report.reading import read_retraining
from nas_ext.report.retraining import retrain_sections
from nas_ext.report.search import search_sections
from nas_ext.results import SearchResult


def write_search_report(folder: str | Path) -> Path:
    """Write `report.html` for the folder of a search, and return its path.

    Read are `search.json` and, where they exist, `final.json` and `study.log` in the folders of
    `retrain`. Raises ValueError when there is no `search.json`, or a file is broken.
    """
    place = Path(folder)
    if not (place / "search.json").is_file():
        raise ValueError(f"folder must hold the search.json of a search, got {place}")
    result = SearchResult.load(place / "search.json")
    sections = search_sections(result, space=_space(result))
    files = [*place.glob("retrain/*/final.json"), *place.glob("retrain/*/study.log")]
    retrainings = {path: read_retraining(path) for path in {file.parent for file in files}}
    if retrainings:
        ranks = {line.name: rank for rank, line in enumerate(result.ranking)}
        order = sorted(retrainings, key=lambda p: (ranks.get(retrainings[p].name, len(ranks)), p))
        names = Counter(r.name for r in retrainings.values())
        sections[1:1] = retrain_sections(
            [
                replace(r, name=r.name if names[r.name] == 1 else f"{r.name} ({path.name})")
                for path, r in ((path, retrainings[path]) for path in order)
            ],
            images=result.data.get("images"),
        )
    report = place / "report.html"
    write(report, f"{result.strategy} on {result.space.get('name')}", sections)
    return report


def _space(result: SearchResult) -> SearchSpace | None:
    """Rebuild a registered space where a figure needs names that the ranking does not have."""
    arguments = result.space.get("arguments") or {}
    leaves = (result.tree or {}).get("architectures", ())
    shown = {*(draw.architecture for draw in result.draws), *map(tuple, leaves)}
    if not arguments or shown <= {line.architecture for line in result.ranking}:
        return None
    from nas_ext.spaces import SPACES, create

    return create(**arguments).search_space if arguments.get("name") in SPACES else None

"""Comparisons, ground truths and benches, run again and compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nas_ext.agreement import Check, numbers, things
from nas_ext.bench_record import FORMAT as BENCH
from nas_ext.bench_record import bench_record
from nas_ext.comparison import Comparison, Competitor
from nas_ext.comparison.competitor import NNI_RANDOM
from nas_ext.comparison.left import FORMAT as COMPARISON
from nas_ext.comparison.left import SCORES, by_architecture, read_scores, search_folder
from nas_ext.comparison.runner import run_searches
from nas_ext.files import check_format, naming, read_json, write_json
from nas_ext.ground_truth import FORMAT as GROUND_TRUTH
from nas_ext.ground_truth import MANIFEST, TABLE, GroundTruth, measure
from nas_ext.reproduce_searches import images_again, search_checks
from nas_ext.results import SearchResult
from nas_ext.runs import Training

__all__ = ["again_bench", "again_comparison", "again_ground_truth", "comparison_of", "same_search"]

Say = Callable[[str], None]


def again_ground_truth(
    folder: Path,
    out: Path,
    values: Mapping[str, Any],
    *,
    source: str | None,
    within: float,
    workers: int,
    say: Say,
) -> list[Check]:
    """Train everything again, and compare every training and the table.

    Raises ValueError for a ground truth that is not finished, and for other images.
    """
    check_format(values, GROUND_TRUTH, folder / MANIFEST)
    with naming(folder / MANIFEST):
        truth = GroundTruth.from_json(values["settings"])
        digest = str(values["data"]["digest"])
    if not (folder / TABLE).is_file():
        raise ValueError(f"{folder} must hold a finished ground truth, {TABLE} is missing")
    truth = truth if source is None else replace(truth, data=source)
    known = {"source": truth.data, "image_size": truth.image_size}
    images_again(known, digest, source=source)
    measure(truth, out=out, workers=workers, say=say)
    before, after = _cells(folder), _cells(out)
    checks = [
        numbers(
            label,
            {name: cell[field] for name, cell in before.items()},
            {name: cell[field] for name, cell in after.items()},
            within=within,
        )
        for label, field in (("accuracies", "accuracy"), ("losses", "loss"))
        if before
    ]
    lines = [(place / TABLE).read_text(encoding="utf-8").splitlines() for place in (folder, out)]
    return [*checks, things("lines of the table", *lines)] if not within else checks


def _cells(folder: Path) -> dict[Any, Mapping[str, Any]]:
    found = {}
    for file in sorted((folder / "trainings").glob("*.json")):
        cell = read_json(file)
        if not isinstance(cell, Mapping) or not {"name", "seed", "accuracy", "loss"} <= set(cell):
            raise ValueError(f"{file} must be a whole training")
        found[f"{cell['name']} seed {cell['seed']}"] = cell
    return found


def again_comparison(
    folder: Path,
    out: Path,
    values: Mapping[str, Any],
    *,
    source: str | None,
    within: float,
    workers: int,
    say: Say,
) -> list[Check]:
    """Run every search of a comparison again, and compare it and the scores of its supernet.

    What the comparison says of them follows from both and from the table. NNI's RandomOneShot
    draws without a seed, and is left out. Raises ValueError for a folder without a finished
    search, and for other images.
    """
    comparison, searches = comparison_of(folder, values, source=source)
    run_searches(comparison, searches, out=out, workers=workers, say=say)
    checks = []
    for competitor, seed in searches:
        checks += same_search(folder, out, competitor, seed, within=within)
    return checks


def comparison_of(
    folder: Path, values: Mapping[str, Any], *, source: str | None
) -> tuple[Comparison, list[tuple[Competitor, int]]]:
    """Return what a comparison was, and its finished searches that have a seed.

    Raises ValueError, with the file's name, for a damaged one, and as `again_comparison` does.
    """
    file = folder / "comparison.json"
    check_format(values, COMPARISON, file)
    searches = _searches(folder)
    if not searches:
        raise ValueError(f"{folder} must hold a finished search that has a seed, it has none")
    with naming(file):
        comparison = Comparison(
            space=dict(values["space"]),
            data=values["data"] if source is None else source,
            image_size=values["image_size"],
            competitors=tuple({c.label: c for c, _ in searches}.values()),
            seeds=_seeds(searches),
            training=Training(**values["training"], progress=False),
        )
        for competitor in comparison.competitors:
            if (why := competitor.misfit(comparison.space)) is not None:
                raise ValueError(why)
        known = {"source": comparison.data, "image_size": comparison.image_size}
        images_again(known, _digest(folder, values, searches), source=source)
    return comparison, searches


def _searches(folder: Path) -> list[tuple[Competitor, int]]:
    """Return the finished searches with a seed, by the folders that they left."""
    found = []
    for file in sorted(folder.glob(f"searches/*/seed*/{SCORES}")):
        left = read_scores(file)
        with naming(file):
            described = dict(left["competitor"])
            seed = int(file.parent.name.removeprefix("seed"))
            if described["strategy"] != NNI_RANDOM:
                found.append((Competitor(label=file.parent.parent.name, **described), seed))
    return sorted(found, key=lambda one: (one[1], one[0].label))


def _seeds(searches: list[tuple[Competitor, int]]) -> tuple[int, ...]:
    """Return the seeds; a comparison has at least two, an unfinished one may have fewer."""
    seeds = sorted({seed for _, seed in searches})
    return tuple(seeds) if len(seeds) > 1 else (seeds[0], seeds[0] + 1)


def _digest(
    folder: Path, values: Mapping[str, Any], searches: list[tuple[Competitor, int]]
) -> str:
    made_by = values.get("manifest")
    if isinstance(made_by, Mapping) and made_by.get("data"):
        return str(made_by["data"])
    for competitor, seed in searches:  # comparisons from before there were manifests
        place = search_folder(folder, competitor, seed)
        if (place / "search.json").is_file():
            return str(SearchResult.load(place).data.get("digest"))
    raise ValueError(f"{folder} must say which images it was made with, it does not")


def same_search(
    folder: Path, out: Path, competitor: Competitor, seed: int, *, within: float
) -> list[Check]:
    """Compare what two searches found, and what their supernets say of all architectures."""
    places = [search_folder(base, competitor, seed) for base in (folder, out)]
    label = f"{competitor.label} seed {seed}"
    checks = []
    if all((place / "search.json").is_file() for place in places):
        before, after = (SearchResult.load(place) for place in places)
        checks = search_checks(before, after, within=within)
    files = [place / SCORES for place in places]
    rows = [by_architecture(read_scores(file), "scores", file) for file in files]
    checks.append(numbers("scores of all architectures", *rows, within=within))
    return [replace(check, what=f"{label}: {check.what}") for check in checks]


def again_bench(
    file: Path,
    out: Path,
    values: Mapping[str, Any],
    *,
    source: str | None,
    within: float,
    **others: Any,
) -> list[Check]:
    """Run the strategies of a bench against its table again, and compare every search.

    Raises ValueError for a bench without a manifest, and for another table.
    """
    made_by = values.get("manifest")
    settings = made_by.get("made_with") if isinstance(made_by, Mapping) else None
    if not isinstance(made_by, Mapping) or not isinstance(settings, Mapping):
        raise ValueError(f"{file} must have a manifest to be run again, older ones have none")
    check_format(values, BENCH, file)
    with naming(file):
        before = _rows(values)
        given = {**settings, "data": settings["data"] if source is None else source}
        table = str(values["table"])
    after = bench_record(table, **given)[2]
    if after["manifest"]["data"] != made_by.get("data"):
        raise ValueError("table must be the one of the bench, it has other numbers")
    write_json(out / "bench.json", after)
    now = _rows(after)
    names = [[(key, row["found"]) for key, row in rows.items()] for rows in (before, now)]
    regrets = [{key: row["regret"] for key, row in rows.items()} for rows in (before, now)]
    return [things("found", *names), numbers("regrets", *regrets, within=within)]


def _rows(values: Mapping[str, Any]) -> dict[Any, Mapping[str, Any]]:
    """Return the searches of a bench by who made them with which seed."""
    return {
        f"{score['strategy']} seed {row['seed']}": {"found": row["found"], "regret": row["regret"]}
        for part in ("scores", "baselines")
        for score in values[part]
        for row in score["runs"]
    }

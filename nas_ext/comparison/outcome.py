"""What a comparison leaves: its numbers as JSON, and a line for every search as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nas_ext.benchmarks import Table
from nas_ext.comparison.metrics import NUMBERS, Judged
from nas_ext.comparison.statistics import average_ranks, contrasts, having, summaries
from nas_ext.files import write_text
from nas_ext.references import interval_values, noise_ceiling, references

__all__ = ["TESTED", "outcome", "write_runs"]

TESTED = ("tau", "regret")
"""The metrics that are tested against the reference: fixed beforehand, one family each."""


def outcome(table: Table, judged: Sequence[Judged], *, reference: str) -> dict[str, Any]:
    """Return means, differences, average ranks, what needs no search, and the ceiling, as JSON.

    Competitors without a tested number, such as random search without tau, are not in its tests.
    """
    found, ceiling = summaries(judged), noise_ceiling(table)
    with_it = {metric: having(judged, metric) for metric in TESTED}
    names = {metric: {one.competitor for one in runs} for metric, runs in with_it.items()}
    return {
        "table": table.name,
        "reference": reference,
        "means": {
            s.competitor: {name: interval_values(value) for name, value in s.means.items()}
            for s in found
        },
        "contrasts": {
            metric: [
                {**asdict(c), "significant": c.significant}
                for c in contrasts(with_it[metric], reference=reference, metric=metric)
            ]
            for metric in TESTED
            if len(names[metric]) > 1 and reference in names[metric]
        },
        "average_ranks": {
            metric: asdict(average_ranks(with_it[metric], metric=metric))
            for metric in TESTED
            if len(names[metric]) > 2
        },
        "references": references(table),
        "ceiling": None if ceiling is None else asdict(ceiling),
    }


def write_runs(path: str | Path, judged: Sequence[Judged]) -> None:
    """Write a line for each search: competitor, seed, pick, numbers; empty where it has none."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["competitor", "seed", "pick", *(metric.name for metric in NUMBERS)])
    for one in judged:
        values = (one.values[metric.name] for metric in NUMBERS)
        table.writerow(
            [
                one.competitor,
                one.seed,
                one.pick,
                *("" if v is None else f"{v:.6g}" for v in values),
            ]
        )
    write_text(path, text.getvalue())

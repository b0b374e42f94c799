"""A bench by its table's name, with the JSON that it prints."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from nas_ext.bench import ALL, BESIDE, Bench, bench, noise_ceiling, references, table
from nas_ext.benchmarks import BASELINES, Table
from nas_ext.manifest import manifest

__all__ = ["FORMAT", "NOTE", "bench_record", "table_digest"]

FORMAT = "nas-ext/bench-1"
NOTE = "rewards are the ground truth with binomial noise (oracle); distances of encodings"


def bench_record(
    name: str,
    *,
    strategy: str,
    seeds: int,
    steps: int,
    batch_size: int,
    candidates: int | None,
    baselines: bool,
    data: str | None,
    settings: Mapping[str, Any],
) -> tuple[Table, Bench, dict[str, Any]]:
    """Run a strategy on a table and return table, scores and all of it as JSON values.

    The arguments are those of the command, and are in the manifest. Raises ValueError as `table`
    and `bench` do.
    """
    asked = {
        "strategy": strategy,
        "seeds": seeds,
        "steps": steps,
        "batch_size": batch_size,
        "candidates": candidates,
        "baselines": baselines,
        "data": data,
        "settings": dict(settings),
    }
    truth = table(name, data)
    made = bench(
        truth,
        [strategy] if strategy == ALL else [strategy, *BESIDE],
        seeds=seeds,
        evaluations=steps,
        batch_size=batch_size,
        candidates=candidates,
        settings=settings,
        baselines=tuple(BASELINES) if baselines else (),
    )
    ceiling = noise_ceiling(truth)
    values = {
        "format": FORMAT,
        "table": name,
        "steps": steps,
        "candidates": truth.candidates if candidates is None else candidates,
        "note": NOTE,
        "scores": [score.to_json() for score in made.scores],
        "baselines": [score.to_json() for score in made.baselines],
        "references": references(truth),
        "ceiling": None if ceiling is None else vars(ceiling),
        "skipped": dict(made.skipped),
        "manifest": manifest(seeds=range(seeds), data=table_digest(truth), made_with=asked),
    }
    return truth, made, values


def table_digest(truth: Table) -> str:
    """Return a SHA-256 over the architectures of a table and their accuracies."""
    rows = [[list(architecture), value] for architecture, value in truth.accuracies.items()]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()

"""Strategies against a table, seed by seed, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nas_ext.benchmarks import TABLES, Table, TableRun, run
from nas_ext.compare import Interval, mean_interval
from nas_ext.strategies.registry import create

__all__ = ["BASELINES", "TableScore", "bench", "references", "table"]

BASELINES = ("uniform", "mcts")
"""Stand beside every strategy: random search, and the default tree."""


@dataclass(frozen=True)
class TableScore:
    """Hold the runs of one strategy, and the means of what they found."""

    strategy: str
    settings: Mapping[str, Any]
    runs: tuple[TableRun, ...]
    accuracy: Interval
    regret: Interval
    rank: Interval
    top_share: Interval

    def to_json(self) -> dict[str, Any]:
        """Return the score as JSON values: shares as shares, one row a seed."""
        means = {name: _interval(getattr(self, name)) for name in _MEANS}
        rows = [
            {
                "seed": r.seed,
                "found": r.name,
                "accuracy": r.accuracy,
                "rank": r.rank,
                "regret": r.regret,
                "top5_share_of_draws": r.top_share,
                "evaluations": r.evaluations,
            }
            for r in self.runs
        ]
        return {"strategy": self.strategy, "settings": dict(self.settings), **means, "runs": rows}


_MEANS = ("accuracy", "regret", "rank", "top_share")


def table(name: str) -> Table:
    """Return a table by name; ValueError for an unknown one, naming those that exist."""
    if name not in TABLES:
        raise ValueError(f"table must be one of {sorted(TABLES)}, got {name!r}")
    return TABLES[name]()


def bench(
    name: str,
    strategies: Sequence[str],
    *,
    seeds: int,
    steps: int,
    batch_size: int = 256,
    settings: Mapping[str, Any] | None = None,
) -> tuple[TableScore, ...]:
    """Run strategies against a table with `seeds` seeds each, from 0.

    All see the same number of single-batch evaluations, `steps`. A table has no network outputs:
    a strategy that compares outputs compares encodings here. `settings` go to the first strategy.
    Raises ValueError for fewer than two seeds: there is no interval of one.
    """
    if seeds < 2:
        raise ValueError(f"seeds must be at least 2 for an interval, got {seeds}")
    truth = table(name)
    scores = []
    for place, strategy in enumerate(dict.fromkeys(strategies)):
        given = dict(settings or {}) if place == 0 else {}
        if strategy == "learned-tree":
            given.setdefault("distance", "encoding")
        made = create(strategy, **given)
        phases = made.phases(steps)
        runs = tuple(run(phases, truth, seed=s, batch_size=batch_size) for s in range(seeds))
        scores.append(_score(strategy, made.settings, runs))
    return tuple(scores)


def _score(strategy: str, settings: Mapping[str, Any], runs: tuple[TableRun, ...]) -> TableScore:
    means = {name: mean_interval([float(getattr(r, name)) for r in runs]) for name in _MEANS}
    return TableScore(strategy, settings, runs, **means)


def _interval(value: Interval) -> dict[str, float]:
    return {"mean": value.mean, "low": value.low, "high": value.high, "n": value.n}


def references(name: str) -> dict[str, dict[str, float | int | None]]:
    """Return what needs no search: the mean of a random choice, the most macs, and the best."""
    truth = table(name)
    architectures = tuple(truth.space)
    mean = sum(truth.accuracies[a] for a in architectures) / len(architectures)
    best = truth.accuracies[truth.best]
    known: dict[str, dict[str, float | int | None]] = {
        "random choice": {"accuracy": mean, "regret": best - mean, "rank": None}
    }
    picks = {"best": truth.best}
    if truth.macs:
        picks = {"most macs": max(architectures, key=lambda a: truth.macs[a]), **picks}
    ranks = truth.ranks()
    for label, pick in picks.items():
        known[label] = {
            "accuracy": truth.accuracies[pick],
            "regret": truth.regret(pick),
            "rank": ranks[pick],
        }
    return known

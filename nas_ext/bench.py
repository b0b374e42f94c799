"""Strategies and baselines against a table, seed by seed, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas_ext.benchmarks import (
    BASELINES,
    FROM_FILES,
    SHIPPED,
    TABLES,
    Table,
    TableRun,
    TooFewEvaluations,
    run,
    steps_within,
)
from nas_ext.compare import Interval, mean_interval, share_interval
from nas_ext.references import Ceiling, interval_values, noise_ceiling, references
from nas_ext.search import Phase
from nas_ext.strategies.registry import STRATEGIES, create

__all__ = ["Bench", "Ceiling", "TableScore", "bench", "noise_ceiling", "references", "table"]

BESIDE = ("uniform", "mcts")
"""Stand beside every single strategy: random draws, and the default tree."""

ALL = "all"


@dataclass(frozen=True)
class TableScore:
    """Hold the runs of one method, and the means of what they found.

    `steps` are what the method got so that all spend the same evaluations. The intervals are
    Student's t over the seeds; that of `found_in_top5`, a share of the seeds, is Wilson's.
    """

    strategy: str
    settings: Mapping[str, Any]
    steps: int
    runs: tuple[TableRun, ...]

    def mean(self, name: str) -> Interval:
        """Return the interval of a number that every run has."""
        return mean_interval([float(getattr(found, name)) for found in self.runs])

    @property
    def means(self) -> dict[str, Interval]:
        """Return the interval of every metric by its name."""
        hits = share_interval(sum(found.in_top5 for found in self.runs), len(self.runs))
        return {**{name: self.mean(name) for name in _MEANS}, "found_in_top5": hits}

    def to_json(self) -> dict[str, Any]:
        """Return the score as JSON values: shares as shares, one row a seed."""
        means = {name: interval_values(value) for name, value in self.means.items()}
        rows = [
            {
                "seed": r.seed,
                "found": r.name,
                "accuracy": r.accuracy,
                "rank": r.rank,
                "regret": r.regret,
                "regret_of_top5": r.regret_of_top5,
                "regret_of_top10": r.regret_of_top10,
                "candidates": len(r.ranking),
                "top5_share_of_draws": r.top_share,
                "draws_in_top10": r.draws_in_top10,
                "evaluations": r.evaluations,
            }
            for r in self.runs
        ]
        head = {"strategy": self.strategy, "settings": dict(self.settings), "steps": self.steps}
        return {**head, **means, "runs": rows}


_MEANS = (
    *("accuracy", "regret", "regret_of_top5", "regret_of_top10"),
    *("rank", "top_share", "draws_in_top10"),
)


@dataclass(frozen=True)
class Bench:
    """Hold the scores of strategies and baselines, and why strategies were left out."""

    scores: tuple[TableScore, ...]
    baselines: tuple[TableScore, ...]
    skipped: Mapping[str, str]


def table(name: str, data: str | Path | None = None) -> Table:
    """Return a table by name; ValueError for an unknown one, naming those that exist.

    `data` is the file, or its folder, of a table that is not shipped; else NAS_EXT_DATA names it.
    """
    if name in FROM_FILES:
        return FROM_FILES[name](data)
    if name not in SHIPPED:
        raise ValueError(f"table must be one of {sorted(TABLES)}, got {name!r}")
    if data is not None:
        raise ValueError(f"data must not be given for table {name!r}, which is shipped: {data}")
    return SHIPPED[name]()


def bench(
    truth: Table,
    strategies: Sequence[str],
    *,
    seeds: int,
    evaluations: int,
    batch_size: int = 256,
    candidates: int | None = None,
    settings: Mapping[str, Any] | None = None,
    baselines: Sequence[str] = tuple(BASELINES),
) -> Bench:
    """Run strategies and baselines against a table with `seeds` seeds each, from 0.

    All spend the same number of single-batch evaluations. What a phase evaluates at its
    beginning counts, so a strategy that does so has fewer steps. A table has no network: a
    strategy runs with the settings that its registry entry names for tables (`on_tables`), such
    as distances between encodings. `settings` go to the first strategy and come before those.
    `candidates` are compared at the end on 10,000 images, as many as the table's published
    protocol takes unless given; this is not counted, and is the same for all.

    With `strategies` of "all" alone, those that need a network are left out and said so, as are
    those whose phases alone would spend more evaluations. Raises ValueError for either when it is
    asked for by name, for fewer than two seeds, since there is no interval of one, and for an
    unknown name.
    """
    if seeds < 2:
        raise ValueError(f"seeds must be at least 2 for an interval, got {seeds}")
    every = list(strategies) == [ALL]
    if every and settings:
        raise ValueError(f"settings must belong to one strategy, got {dict(settings)} for all")
    for name in baselines:
        if name not in BASELINES:
            raise ValueError(f"baseline must be one of {sorted(BASELINES)}, got {name!r}")
    kept = truth.candidates if candidates is None else candidates

    def scored(name: str, phases: _Phases, shown: Mapping[str, Any], steps: int) -> TableScore:
        given = phases(steps)
        runs = tuple(
            run(given, truth, seed=seed, batch_size=batch_size, candidates=kept)
            for seed in range(seeds)
        )
        return TableScore(name, shown, steps, runs)

    scores, skipped = [], {}
    for place, name in enumerate(STRATEGIES if every else dict.fromkeys(strategies)):
        try:
            made = _on_table(name, dict(settings or {}) if place == 0 else {})
            steps = steps_within(made.phases, truth, evaluations, batch_size=batch_size)
        except (_NeedsNetwork, TooFewEvaluations) as error:
            if not every:
                raise
            skipped[name] = str(error)
            continue
        scores.append(scored(name, made.phases, made.settings, steps))
    beside = tuple(scored(name, BASELINES[name], {}, evaluations) for name in baselines)
    return Bench(tuple(scores), beside, skipped)


_Phases = Callable[[int], tuple[Phase, ...]]


class _NeedsNetwork(ValueError):
    """Raised for a strategy that cannot run on a table."""


def _on_table(name: str, settings: Mapping[str, Any]) -> Any:
    """Return a strategy with its settings for tables; those given come first."""
    entry = STRATEGIES.get(name)
    if entry is not None and entry.not_on_tables is not None:
        raise _NeedsNetwork(f"{name} cannot run on a table: it {entry.not_on_tables}")
    preset = {} if entry is None else entry.on_tables
    return create(name, **{**preset, **settings})

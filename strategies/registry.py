"""The strategies by the names that the command line takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

from nas_ext.oneshot import SampledStrategy
from nas_ext.strategies.learned_tree import LearnedTree
from nas_ext.strategies.mcts import MCTS
from nas_ext.strategies.uniform import Uniform

__all__ = ["STRATEGIES", "StrategyEntry", "create", "describe"]


@dataclass(frozen=True)
class StrategyEntry:
    """A strategy class with what a table of strategies says of it."""

    strategy: type[SampledStrategy]
    summary: str
    source: str
    cost: str
    spaces: str


STRATEGIES: Mapping[str, StrategyEntry] = MappingProxyType(
    {
        "uniform": StrategyEntry(
            Uniform,
            "uniform single-path training, exhaustive or top-k ranking (SPOS)",
            "chapter 2, section 2.1",
            "1 training pass",
            "any; ranking the whole space needs an enumerable one",
        ),
        "mcts": StrategyEntry(
            MCTS,
            "Monte-Carlo tree search over the layers of the network",
            "chapter 3, section 3.3",
            "1 training pass and 1 validation batch",
            "any",
        ),
        "learned-tree": StrategyEntry(
            LearnedTree,
            "Monte-Carlo tree search over a tree learned from the outputs",
            "chapter 3, section 3.6",
            "1 training pass; 1 validation batch in 60 % of the steps",
            f"up to {LearnedTree.max_architectures:,} architectures",
        ),
    }
)


def create(name: str, **settings: Any) -> SampledStrategy:
    """Return a strategy by name.

    Raises ValueError for a name or a setting that does not exist, naming those that do.
    """
    if name not in STRATEGIES:
        raise ValueError(f"strategy must be one of {sorted(STRATEGIES)}, got {name!r}")
    strategy = STRATEGIES[name].strategy
    known = {f.name for f in fields(strategy)}
    for setting in settings:
        if setting not in known:
            raise ValueError(f"setting of {name} must be one of {sorted(known)}, got {setting!r}")
    return strategy(**settings)


def describe() -> list[dict[str, Any]]:
    """Return what a table of strategies says, one line each, as JSON values."""
    lines = []
    for name, entry in STRATEGIES.items():
        made = entry.strategy()
        lines.append(
            {
                "name": name,
                "class": entry.strategy.__name__,
                "summary": entry.summary,
                "source": entry.source,
                "phases": [phase.name for phase in made.phases(1000)],
                "cost": entry.cost,
                "spaces": entry.spaces,
                "settings": made.settings,
            }
        )
    return lines

"""Which competitors a comparison has, by the names that the command line takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nas_ext.comparison.runner import NNI_RANDOM, Competitor
from nas_ext.oneshot import SampledStrategy
from nas_ext.setting_pairs import settings_from
from nas_ext.strategies.registry import STRATEGIES

__all__ = ["competitors"]

ALL = "all"


def competitors(names: Sequence[str]) -> tuple[Competitor, ...]:
    """Return the competitors of names such as "mcts" or "mcts:exploration=0.05,prior=1".

    A name is a strategy's, or that of NNI's RandomOneShot, `nni-random-oneshot`; settings are
    NAME=VALUE after a colon. "all" stands for every strategy that samples, and NNI's. Raises
    ValueError for an unknown name, a setting that does not parse, and a competitor named twice.
    """
    found: list[Competitor] = []
    for text in names:
        if text == ALL:
            found += [Competitor(label=name, strategy=name) for name in sampled()]
            found.append(Competitor(label=NNI_RANDOM, strategy=NNI_RANDOM))
            continue
        name, _, pairs = text.partition(":")
        settings: dict[str, Any] = settings_from(pairs.split(","), option=text) if pairs else {}
        found.append(Competitor(label=text.replace(":", " "), strategy=name, settings=settings))
    labels = [one.label for one in found]
    if len(set(labels)) != len(labels):
        raise ValueError(f"strategies must be named once each, got {labels}")
    return tuple(found)


def sampled() -> list[str]:
    """Return the strategies that draw architectures: the others train mixtures of all options."""
    return [n for n, entry in STRATEGIES.items() if issubclass(entry.strategy, SampledStrategy)]

"""Which competitors a comparison has, by the names that the command line takes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from nas_ext.benchmarks import Table
from nas_ext.benchmarks.measured import MeasuredTable
from nas_ext.comparison.competitor import NNI_DARTS, NNI_RANDOM, RANDOM_SEARCH, Competitor
from nas_ext.setting_pairs import settings_from
from nas_ext.strategies.registry import STRATEGIES

__all__ = ["competitors"]

ALL = "all"
OWN = ("equal", "times")
"""Settings that are the competitor's, not the strategy's."""


def competitors(
    names: Sequence[str],
    *,
    space: Mapping[str, Any] | None = None,
    table: Table | None = None,
) -> tuple[Competitor, ...]:
    """Return the competitors of names such as "mcts" or "mcts:exploration=0.05,prior=1".

    A name is a strategy's, that of NNI's RandomOneShot, `nni-random-oneshot`, of its DARTS,
    `nni-darts`, or `random-search`; settings are NAME=VALUE after a colon, those of `Competitor`,
    `equal` and `times`, included. "all" stands for every strategy that samples, and NNI's
    RandomOneShot; with `space`, the arguments of `create`, for everybody who can search it, NNI's
    DARTS and others that mix all options among them, and with a `table` whose trainings are known
    for random search. Raises ValueError for an unknown name, a setting that does not parse, and a
    competitor named twice.
    """
    found: list[Competitor] = []
    for text in names:
        if text == ALL:
            found += _every(space, table)
            continue
        name, _, pairs = text.partition(":")
        parts = re.split(r",(?![^\[]*\])", pairs)  # not inside a list
        settings: dict[str, Any] = settings_from(parts, option=text) if pairs else {}
        own = {key: settings.pop(key) for key in OWN if key in settings}
        label = text.replace(":", " ")
        found.append(Competitor(label=label, strategy=name, settings=settings, **own))
    labels = [one.label for one in found]
    if len(set(labels)) != len(labels):
        raise ValueError(f"strategies must be named once each, got {labels}")
    return tuple(found)


def _every(space: Mapping[str, Any] | None, table: Table | None) -> list[Competitor]:
    names = [*STRATEGIES, NNI_RANDOM, NNI_DARTS]
    made = [Competitor(label=name, strategy=name) for name in names]
    if space is None:
        fit = [one for one in made if not one.mixes]
    else:
        fit = [one for one in made if one.misfit(space) is None]
    if isinstance(table, MeasuredTable) and table.manifest:
        fit.append(Competitor(label=RANDOM_SEARCH, strategy=RANDOM_SEARCH))
    return fit

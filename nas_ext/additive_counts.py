"""How many architectures begin with a prefix and end in a window of costs that are sums."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from nas_ext.additive_cost import AdditiveCost
from nas_ext.architecture import Architecture, SearchSpace
from nas_ext.partial_sums import Numbers, Sums, added, between, unit_of, united

__all__ = ["MOST_SUMS", "AdditiveCounts"]

MOST_SUMS = 60_000_000
"""The most sums of costs that are kept, 16 bytes each: about 1 GB."""

MOST_STATES = 100_000
"""The most states of a base's rule that are told apart."""

Place: TypeAlias = tuple[int, Hashable]
"""A position, and the state of the base's rule in front of it."""


@dataclass(frozen=True)
class _Tails:
    """The sums that completions can add, with the number of completions of no more than each."""

    sums: Sums
    below: Numbers

    def within(self, low: Any, high: Any) -> Any:
        """Count the completions that add between `low` and `high`, for numbers or arrays."""
        upper = self.below[self.sums.searchsorted(high, side="right")]
        return upper - self.below[self.sums.searchsorted(low, side="left")]


@dataclass(frozen=True)
class _Heads:
    """The sums that prefixes can have, with the completions of each that end in the window."""

    sums: Sums
    counts: Numbers


class AdditiveCounts:
    """Count over (position, state of the base's rule, cost so far), for costs that are sums.

    The sums that prefixes can have are listed from the front, those that completions can add from
    the back, each time on the side that has fewer, until they meet: the middle of 13^21
    architectures has a few million different sums, where a table of all costs at all positions
    would have hundreds of millions. Counts are exact integers. Sums are in excess of the cheapest
    options, and what can no longer end in the window is left out. Raises ValueError when there
    are more sums than some 1 GB holds. Section 4.5, which rounds to bins of 20,000 macs.
    """

    def __init__(self, base: SearchSpace, cost: AdditiveCost, low: int, high: int) -> None:
        sizes = [len(choice.options) for choice in base.choices]
        if [len(row) for row in cost.options] != sizes:
            raise ValueError(
                f"cost must have {sizes} options for space {base.name!r}, "
                f"got {[len(row) for row in cost.options]}"
            )
        if cost.maximum >= 2**62:
            raise ValueError(f"costs must sum to less than 2^62, got up to {cost.maximum:,}")
        self._cost = cost
        self._base = base
        self._excess = [[value - min(row) for value in row] for row in cost.options]
        self._most = [0, *np.cumsum([max(row) for row in self._excess]).tolist()]
        self._low = max(0, low - cost.minimum)
        self._high = min(high - cost.minimum, self._most[-1])
        self._states = self._reachable()
        self._heads: dict[Place, _Heads] = {}
        self._tails: dict[Place, _Tails] = {}
        if self._low <= self._high:
            self._fill()

    # What samplers ask.

    def cost(self, architecture: Architecture) -> int:
        return self._cost(architecture)

    @property
    def states(self) -> int:
        total, products = 0, 1
        for position, row in enumerate(self._excess):
            span = min(self._high, self._most[position])
            sums = span // unit_of(self._excess[:position]) + 1
            total += len(self._states[position]) * min(products, sums)
            products *= len(set(row))
        return total

    def start(self) -> tuple[Hashable, int]:
        return (self._base.start, 0)

    def after(self, state: tuple[Hashable, int], position: int, option: int) -> Hashable | None:
        inner = self._base._rule.step(state[0], position, option)
        return None if inner is None else (inner, state[1] + self._excess[position][option])

    def count(self, position: int, state: tuple[Hashable, int]) -> int:
        inner, spent = state
        tails = self._tails.get((position, inner))
        if tails is not None:
            return int(tails.within(self._low - spent, self._high - spent))
        heads = self._heads.get((position, inner))
        if heads is None:
            return 0
        place = int(heads.sums.searchsorted(spent))
        if place == len(heads.sums) or heads.sums[place] != spent:
            return 0
        return int(heads.counts[place])

    # How the tables are made.

    def _reachable(self) -> list[list[Hashable]]:
        """Return the states of the base's rule in front of each position."""
        states: list[list[Hashable]] = [[self._base.start]]
        for position in range(len(self._excess)):
            here = states[-1]
            following = dict.fromkeys(
                after for state in here for _, after, _ in self._base.branches(position, state)
            )
            if len(following) > MOST_STATES:
                raise ValueError(
                    f"base must have a rule of few states, {self._base.name!r} has more than "
                    f"{MOST_STATES:,} at choice {position}"
                )
            states.append(list(following))
        return states

    def _fill(self) -> None:
        front, back, last = 0, len(self._excess), len(self._excess)
        heads: dict[Hashable, Sums] = {self._base.start: np.zeros(1, dtype=np.int64)}
        reached, kept = [heads], 0
        tails = self._ends()
        while front + 1 < back:
            ahead = self._places(heads.values(), front, 0, front + 1)
            behind = self._places((t.sums for t in tails.values()), back - 1, back - 1, last)
            if ahead <= behind:
                heads = self._forward(front, heads)
                reached.append(heads)
                kept += _size(heads.values())
                front += 1
            else:
                back -= 1
                tails = self._backward(back, tails)
                kept += _size(t.sums for t in tails.values())
            if kept > MOST_SUMS:
                raise ValueError(
                    f"costs of space {self._base.name!r} must have at most {MOST_SUMS:,} "
                    "different partial sums to be counted exactly: count them in larger units"
                )
        for position in range(front, -1, -1):
            self._count_heads(position, reached[position])

    def _places(self, tables: Iterable[Sums], added: int, first: int, last: int) -> int:
        """Return how many sums there can be with one choice more, of those from first to last."""
        most = len(self._excess[added]) * _size(tables)
        span = int(min(self._high, self._most[last] - self._most[first]))
        return min(most, span // unit_of(self._excess[first:last]) + 1)

    def _ends(self) -> dict[Hashable, _Tails]:
        """Keep that behind the last choice nothing is added, and return it by state."""
        ends = _Tails(np.zeros(1, dtype=np.int64), np.array([0, 1], dtype=np.int64))
        last = len(self._excess)
        tails = dict.fromkeys(self._states[last], ends)
        self._tails |= {(last, state): ends for state in tails}
        return tails

    def _forward(self, position: int, heads: dict[Hashable, Sums]) -> dict[Hashable, Sums]:
        """Return the sums of prefixes with one option more, by state."""
        pieces: dict[Hashable, list[tuple[Sums, int]]] = {}
        unit = unit_of(self._excess[: position + 1])
        least = self._low - (self._most[-1] - self._most[position + 1])
        for state, sums in heads.items():
            for option, after, _ in self._base.branches(position, state):
                move = self._excess[position][option]
                kept = between(sums, least - move, self._high - move)
                pieces.setdefault(after, []).append((sums[kept], move))
        return {state: united(given, unit) for state, given in pieces.items()}

    def _backward(self, position: int, tails: dict[Hashable, _Tails]) -> dict[Hashable, _Tails]:
        """Keep and return what completions from one position earlier add, by state."""
        made = {}
        unit = unit_of(self._excess[position:])
        least = self._low - self._most[position]
        numbers = {state: np.diff(tail.below) for state, tail in tails.items()}
        for state in self._states[position]:
            pieces = []
            dtype = _dtype(self._completions(position, state))
            for option, after, _ in self._base.branches(position, state):
                tail, move = tails[after], self._excess[position][option]
                kept = between(tail.sums, least - move, self._high - move)
                pieces.append((tail.sums[kept], move, numbers[after][kept]))
            sums, counted = added(pieces, unit, dtype)
            below = np.concatenate([np.zeros(1, dtype=dtype), np.cumsum(counted, dtype=dtype)])
            made[state] = self._tails[position, state] = _Tails(sums, below)
        return made

    def _count_heads(self, position: int, heads: dict[Hashable, Sums]) -> None:
        """Keep how many completions each prefix has, from those of the next position."""
        for state, sums in heads.items():
            dtype = _dtype(self._completions(position, state))
            counts = np.zeros(len(sums), dtype=dtype)
            for option, after, _ in self._base.branches(position, state):
                moved = sums + self._excess[position][option]
                counts += self._counts_of(position + 1, after, moved).astype(dtype)
            self._heads[position, state] = _Heads(sums, counts)

    def _counts_of(self, position: int, state: Hashable, spent: Sums) -> Numbers:
        """Return `count` of each of many sums, `[N]`."""
        tails = self._tails.get((position, state))
        if tails is not None:
            counts: Numbers = tails.within(self._low - spent, self._high - spent)
            return counts
        heads = self._heads[position, state]
        counts = np.zeros(len(spent), dtype=heads.counts.dtype)
        if len(heads.sums):
            known = between(spent, int(heads.sums[0]), int(heads.sums[-1]))
            counts[known] = heads.counts[heads.sums.searchsorted(spent[known])]
        return counts

    def _completions(self, position: int, state: Hashable) -> int:
        """Return how many completions there are in the base, whatever they cost."""
        if position == len(self._excess):
            return 1
        return sum(count for _, _, count in self._base.branches(position, state))


def _size(tables: Iterable[Sums]) -> int:
    return sum(map(len, tables))


def _dtype(largest: int) -> type[Any]:
    """Return what holds numbers up to the largest exactly."""
    return np.int64 if largest < 2**62 else object

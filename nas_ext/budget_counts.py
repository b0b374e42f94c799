"""How many architectures begin with a prefix and end inside a window of costs, exactly."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Hashable
from typing import Any, Protocol

from nas_ext.architecture import Architecture, SearchSpace

__all__ = ["LISTED", "Counts", "ListedCounts"]

LISTED = 100_000
"""The largest space whose costs are asked for one by one, when they are no sums."""


class Counts(Protocol):
    """Count completions of prefixes, whose states are hashable and belong to a position."""

    @property
    def states(self) -> int:
        """Return how many states there can be at most, over all positions."""
        ...

    def start(self) -> Hashable:
        """Return the state of the empty prefix."""
        ...

    def after(self, state: Any, position: int, option: int) -> Hashable | None:
        """Return the state with one more option; None only where nothing begins so."""
        ...

    def count(self, position: int, state: Any) -> int:
        """Return how many completions end inside the window, 0 where none does."""
        ...

    def cost(self, architecture: Architecture) -> int:
        """Return the cost of an architecture of the base."""
        ...


class ListedCounts:
    """Count by a sorted list of all that lies inside the window: states are ranges of it.

    Serves any cost. Raises ValueError for more than 100,000 architectures, and for a cost that
    is no integer.
    """

    def __init__(
        self, base: SearchSpace, cost: Callable[[Architecture], int], low: int, high: int
    ) -> None:
        if base.size > LISTED:
            raise ValueError(
                f"cost must be an AdditiveCost in space {base.name!r} of {base.size:,} "
                f"architectures, only {LISTED:,} are asked for theirs one by one"
            )
        self._costs = {a: cost(a) for a in base}
        wrong = next((c for c in self._costs.values() if type(c) is not int), None)
        if wrong is not None:
            raise ValueError(f"costs must be integers, got {wrong!r}")
        self._inside = [a for a, c in self._costs.items() if low <= c <= high]

    @property
    def states(self) -> int:
        choices = len(self._inside[0]) if self._inside else 0
        return choices * len(self._inside)

    def start(self) -> tuple[int, int]:
        return (0, len(self._inside))

    def after(self, state: tuple[int, int], position: int, option: int) -> Hashable | None:
        first, last = state
        if first == last:
            return None
        prefix = self._inside[first][:position]
        begin = bisect_left(self._inside, (*prefix, option), first, last)
        end = bisect_left(self._inside, (*prefix, option + 1), begin, last)
        return (begin, end) if begin < end else None

    def count(self, position: int, state: tuple[int, int]) -> int:
        return state[1] - state[0]

    def cost(self, architecture: Architecture) -> int:
        return self._costs[architecture]

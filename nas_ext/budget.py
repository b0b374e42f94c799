"""A search space under a limit of cost, with exact sizes and uniform draws."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_ext.additive_cost import AdditiveCost
from nas_ext.additive_counts import AdditiveCounts
from nas_ext.architecture import Architecture, Sample, SearchSpace
from nas_ext.budget_counts import Counts, ListedCounts

__all__ = ["BudgetedSpace", "arguments_of"]


class _Within:
    """The rule of a space, and that the cost can still end inside the window."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    def start(self) -> Hashable:
        return self._counts.start()

    def step(self, state: Any, position: int, option: int) -> Hashable | None:
        after = self._counts.after(state, position, option)
        if after is None or not self._counts.count(position + 1, after):
            return None
        return after

    def accepts(self, state: Any) -> bool:
        return True  # no other state is reached


class BudgetedSpace(SearchSpace):
    """List the architectures of a base whose cost lies between `low` and `high`, both included.

    Everything that a `SearchSpace` does it does for these alone: size and numbering are exact,
    draws exactly uniform, `options` those that lead to one of them. Nothing is rejected, where
    naive draws in a window of macs around 280M would be 20,000 for one of 13^21. Names, samples,
    encodings and whatever else the base knows (path codes, stages) are the base's; `canonical`
    may lie outside the window, since equal functions need not cost the same.

    A cost that is a sum (`AdditiveCost`) serves spaces of any size. The tables hold the different
    partial sums that occur, 16 bytes each: 0.16 GB for 13^21 architectures in macs at 224 pixels,
    and 1 GB at most. Any other exact integer cost is asked for each architecture of the base,
    100,000 at most. `limits`, JSON values, say how a model space was limited. Raises ValueError
    when nothing lies in the window. Section 4.5.
    """

    def __init__(
        self,
        base: SearchSpace,
        cost: AdditiveCost | Callable[[Architecture], int],
        *,
        low: int,
        high: int,
        name: str | None = None,
        limits: Mapping[str, Any] | None = None,
    ) -> None:
        for label, value in (("low", low), ("high", high)):
            if type(value) is not int:
                raise ValueError(f"{label} must be an integer, got {value!r}")
        if low > high:
            raise ValueError(f"low must not exceed high {high:,}, got {low:,}")
        self.base = base
        self.low = low
        self.high = high
        self.limits: Mapping[str, Any] = MappingProxyType(dict(limits or {}))
        self._inside = _counts(base, cost, low, high)
        if not self._inside.count(0, self._inside.start()):
            raise ValueError(
                f"low and high must hold the cost of an architecture of space {base.name!r}, "
                f"none costs {low:,} to {high:,}"
            )
        title = f"{base.name}:{low}..{high}" if name is None else name
        super().__init__(title, base.choices, rule=_Within(self._inside))

    def cost(self, architecture: Architecture) -> int:
        """Return the cost of an architecture of the base; ValueError for any other."""
        return self._inside.cost(self.base.check(architecture))

    # How many there are and which ones, as `SearchSpace` asks it, without counting twice.

    def _count(self, position: int, state: Hashable) -> int:
        return self._inside.count(position, state)

    def branches(self, position: int, state: Hashable) -> Iterator[tuple[int, Hashable, int]]:
        for option in range(len(self.choices[position].options)):
            after = self._inside.after(state, position, option)
            if after is not None and (count := self._inside.count(position + 1, after)):
                yield option, after, count

    def __contains__(self, architecture: object) -> bool:
        if not isinstance(architecture, tuple) or architecture not in self.base:
            return False
        return self.low <= self._inside.cost(architecture) <= self.high

    def options(self, prefix: Architecture) -> tuple[int, ...]:
        if len(prefix) >= len(self.choices):
            return super().options(prefix)
        state: Hashable | None = self._inside.start()
        for position, option in enumerate(prefix):
            if 0 <= option < len(self.choices[position].options) and state is not None:
                state = self._inside.after(state, position, option)
            else:
                state = None
        if state is None or not self._inside.count(len(prefix), state):
            raise ValueError(f"prefix must exist in space {self.name!r}, got {prefix}")
        return tuple(option for option, _, _ in self.branches(len(prefix), state))

    def check_states(self, limit: int) -> None:
        """Raise ValueError when sums over all costs on the way would not end: see `ProductLaw`."""
        if self._inside.states > limit:
            raise ValueError(
                f"space {self.name!r} may pass {self._inside.states:,} partial costs, it must be "
                f"at most {limit:,} for a law of one law per choice"
            )

    # What they are called elsewhere is what the base calls them.

    def decode(self, architecture: Architecture) -> dict[str, Any]:
        return self.base.decode(self.check(architecture))

    def encode(self, sample: Sample) -> Architecture:
        """Return the architecture of a sample of the base; ValueError outside the window."""
        return self.check(self.base.encode(sample))

    def describe(self, architecture: Architecture) -> str:
        return self.base.describe(self.check(architecture))

    def from_code(self, code: str) -> Architecture:
        """Return the architecture of a code of the base; ValueError outside the window."""
        return self.check(self.base.from_code(code))

    def parse(self, written: str | Sequence[int] | Sample) -> Architecture:
        """Return the architecture as the base reads it; ValueError outside the window."""
        return self.check(self.base.parse(written))

    def canonical(self, architecture: Architecture) -> Architecture:
        """Return the base's canonical encoding, whose own cost may lie outside the window."""
        return self.base.canonical(self.check(architecture))

    def encoding(self, architecture: Architecture) -> NDArray[np.float64]:
        return self.base.encoding(self.check(architecture))

    def __getattr__(self, name: str) -> Any:
        """Return what only the base knows, such as its path codes."""
        if name.startswith("_") or "base" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.base, name)

    def __deepcopy__(self, memo: dict[int, Any]) -> BudgetedSpace:
        """Return the space itself, which never changes: its tables need no second copy."""
        return self


def _counts(
    base: SearchSpace, cost: AdditiveCost | Callable[[Architecture], int], low: int, high: int
) -> Counts:
    if isinstance(cost, AdditiveCost):
        return AdditiveCounts(base, cost, low, high)
    return ListedCounts(base, cost, low, high)


def arguments_of(model_space: object) -> dict[str, Any] | None:
    """Return, for JSON, the arguments of `nas_ext.spaces.create` that rebuild a model space.

    Its own, and the limits that were set on its search space; None for one that has none.
    """
    own = getattr(model_space, "arguments", None)
    if own is None:
        return None
    space = getattr(model_space, "search_space", None)
    return {**own, **(space.limits if isinstance(space, BudgetedSpace) else {})}

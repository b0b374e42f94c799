"""Costs that are sums: something fixed, and something for the option of each choice."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from nas_ext.architecture import Architecture, SearchSpace

__all__ = ["AdditiveCost"]


@dataclass(frozen=True)
class AdditiveCost:
    """Add up what the options of an architecture cost, in whole units such as macs.

    `fixed` is what every architecture pays; `options[i][o]` is what option o of choice i costs
    on top. Exact, so it can be a budget: see `nas_ext.budget`.
    """

    fixed: int
    options: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        values = [self.fixed, *(value for row in self.options for value in row)]
        for value in values:
            if type(value) is not int or value < 0:
                raise ValueError(f"costs must be integers of at least 0, got {value!r}")
        if not self.options or not all(self.options):
            raise ValueError(f"options must be a row of costs for each choice, got {self.options}")

    def __call__(self, architecture: Architecture) -> int:
        """Return the cost of an architecture; ValueError when its options are not in the table."""
        if len(architecture) != len(self.options):
            raise ValueError(
                f"architecture must have {len(self.options)} options, got {architecture}"
            )
        total = self.fixed
        for option, row in zip(architecture, self.options, strict=True):
            if not 0 <= option < len(row):
                raise ValueError(
                    f"options of an architecture must be in the table, got {architecture}"
                )
            total += row[option]
        return total

    @property
    def minimum(self) -> int:
        """Return the cost of the cheapest product of options, whether it exists or not."""
        return self.fixed + sum(map(min, self.options))

    @property
    def maximum(self) -> int:
        """Return the cost of the dearest product of options, whether it exists or not."""
        return self.fixed + sum(map(max, self.options))

    def bounds(self, space: SearchSpace) -> tuple[int, int]:
        """Return the least and the largest cost of what exists in a space, exactly."""
        known: dict[Hashable, tuple[int, int]] = {space.start: (self.fixed, self.fixed)}
        for position, row in enumerate(self.options):
            following: dict[Hashable, tuple[int, int]] = {}
            for state, (least, most) in known.items():
                for option, after, _ in space.branches(position, state):
                    low, high = least + row[option], most + row[option]
                    if after in following:
                        low = min(low, following[after][0])
                        high = max(high, following[after][1])
                    following[after] = (low, high)
            known = following
        return min(low for low, _ in known.values()), max(high for _, high in known.values())

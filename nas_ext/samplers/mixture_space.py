"""The architectures of a space, once for each of several supernets."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_ext.architecture import Architecture, Choice, Rule, Sample, SearchSpace

__all__ = ["SUPERNET", "MemberSpace", "MixtureSpace"]

SUPERNET = "supernet"
"""The label of the choice that is added to a space: which supernet."""


class _AndSupernet:
    """The rule of a space, with one free choice behind its own."""

    def __init__(self, rule: Rule, positions: int) -> None:
        self._rule = rule
        self._positions = positions

    def start(self) -> Hashable:
        return self._rule.start()

    def step(self, state: Any, position: int, option: int) -> Hashable | None:
        if position < self._positions:
            return self._rule.step(state, position, option)
        unchanged: Hashable = state
        return unchanged

    def accepts(self, state: Any) -> bool:
        return self._rule.accepts(state)


class MixtureSpace(SearchSpace):
    """List the architectures of a space once for each of several supernets.

    The last choice, labelled "supernet", is the number of the supernet, from 0; what stands
    before it is an architecture of `base`. Raises ValueError when the base has that label.
    """

    def __init__(self, base: SearchSpace, models: int) -> None:
        if models < 1:
            raise ValueError(f"models must be at least 1, got {models}")
        self.base = base
        self.models = models
        choices = (*base.choices, Choice(SUPERNET, tuple(range(models))))
        rule = _AndSupernet(base._rule, len(base.choices))
        super().__init__(base.name, choices, rule=rule)

    def place(self, architecture: Architecture, supernet: int) -> Architecture:
        """Return an architecture of the base as that of one supernet."""
        return (*architecture, supernet)

    def split(self, architecture: Architecture) -> tuple[Architecture, int]:
        """Return the architecture of the base and the supernet."""
        return architecture[:-1], architecture[-1]

    def decode(self, architecture: Architecture) -> dict[str, Any]:
        """Return the base's sample with the label "supernet" added."""
        inner, supernet = self.split(self.check(architecture))
        return {**self.base.decode(inner), SUPERNET: supernet}

    def encode(self, sample: Sample) -> Architecture:
        """Return the architecture of a sample that has the label "supernet".

        Raises ValueError without it, for a supernet that is not there, or what the base refuses.
        """
        if SUPERNET not in sample:
            raise ValueError(f"sample must have the label {SUPERNET!r}, got {sorted(sample)}")
        inner = {label: option for label, option in sample.items() if label != SUPERNET}
        supernet = self.choices[-1].position(sample[SUPERNET])
        return self.place(self.base.encode(inner), supernet)

    def describe(self, architecture: Architecture) -> str:
        """Return the base's name and the supernet, such as "[4,3,3]@2"."""
        inner, supernet = self.split(self.check(architecture))
        return f"{self.base.describe(inner)}@{supernet}"

    def canonical(self, architecture: Architecture) -> Architecture:
        """Return the base's canonical encoding in the same supernet."""
        inner, supernet = self.split(self.check(architecture))
        return self.place(self.base.canonical(inner), supernet)

    def encoding(self, architecture: Architecture) -> NDArray[np.float64]:
        """Return the base's row with a one-hot code of the supernet behind it."""
        inner, supernet = self.split(self.check(architecture))
        return np.concatenate([self.base.encoding(inner), np.eye(self.models)[supernet]])


class MemberSpace(SearchSpace):
    """List the architectures of a space, each in the one supernet that took it over.

    Samples have the label "supernet" beside the base's; everything else is the base's own.
    `members` are the supernets, from 0, in the order of the base. Raises ValueError for another
    number of them.
    """

    def __init__(self, base: SearchSpace, members: Sequence[int] | NDArray[np.int64]) -> None:
        if len(members) != base.size:
            raise ValueError(f"members must be {base.size:,} supernets, got {len(members):,}")
        self.base = base
        self.members = tuple(int(member) for member in members)
        super().__init__(base.name, base.choices, rule=base._rule)

    def member(self, architecture: Architecture) -> int:
        """Return the supernet of an architecture."""
        return self.members[self.base.index(architecture)]

    def decode(self, architecture: Architecture) -> dict[str, Any]:
        """Return the base's sample with the label "supernet" added."""
        return {**self.base.decode(architecture), SUPERNET: self.member(architecture)}

    def encode(self, sample: Sample) -> Architecture:
        """Return the architecture of a sample, which may leave the supernet out.

        Raises ValueError for another supernet than the architecture's, or what the base refuses.
        """
        inner = {label: option for label, option in sample.items() if label != SUPERNET}
        architecture = self.base.encode(inner)
        if sample.get(SUPERNET, self.member(architecture)) != self.member(architecture):
            raise ValueError(
                f"{SUPERNET} of {self.base.describe(architecture)} must be "
                f"{self.member(architecture)}, got {sample[SUPERNET]!r}"
            )
        return architecture

    def describe(self, architecture: Architecture) -> str:
        """Return the base's name."""
        return self.base.describe(architecture)

    def canonical(self, architecture: Architecture) -> Architecture:
        """Return the base's canonical encoding."""
        return self.base.canonical(architecture)

    def encoding(self, architecture: Architecture) -> NDArray[np.float64]:
        """Return the base's row."""
        return self.base.encoding(architecture)

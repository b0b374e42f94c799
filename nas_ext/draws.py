"""The record of what a search trained, at 28 bytes a draw."""

from __future__ import annotations

import math
import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

from nas_ext.architecture import Architecture

__all__ = ["Draw", "Draws"]


@dataclass(frozen=True)
class Draw:
    """Record one architecture that was trained, its phase and its reward, if asked."""

    phase: int
    step: int
    architecture: Architecture
    reward: float | None = None


class Draws(Sequence[Draw]):
    """Keep draws in arrays: a search of days makes millions, and an object each adds up.

    Behaves like a list of `Draw`s that only grows, and whose rewards can be told later. An
    architecture that is drawn again costs nothing.
    """

    def __init__(self, draws: Iterable[Draw] = ()) -> None:
        self._phases = array("i")
        self._steps = array("q")
        self._places = array("q")
        self._rewards = array("d")  # NaN where nobody asked: a reward is never NaN
        self._architectures: list[Architecture] = []
        self._place: dict[Architecture, int] = {}
        for draw in draws:
            self.append(draw)

    def append(self, draw: Draw) -> None:
        """Add a draw at the end."""
        place = self._place.setdefault(draw.architecture, len(self._architectures))
        if place == len(self._architectures):
            self._architectures.append(draw.architecture)
        self._phases.append(draw.phase)
        self._steps.append(draw.step)
        self._places.append(place)
        self._rewards.append(math.nan)
        if draw.reward is not None:
            self.tell(len(self) - 1, draw.reward)

    def tell(self, index: int, reward: float) -> None:
        """Give the draw at an index its reward; ValueError for NaN."""
        if math.isnan(reward):
            raise ValueError(f"reward must be a number, got {reward}")
        self._rewards[index] = reward

    def fingerprint(self) -> int:
        """Return a checksum of the architectures in their order."""
        known = repr(self._architectures).encode()
        return zlib.crc32(self._places.tobytes(), zlib.crc32(known))

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Draw: ...

    @overload
    def __getitem__(self, index: slice) -> list[Draw]: ...

    def __getitem__(self, index: int | slice) -> Draw | list[Draw]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        reward = self._rewards[index]
        return Draw(
            self._phases[index],
            self._steps[index],
            self._architectures[self._places[index]],
            None if math.isnan(reward) else reward,
        )

    def __iter__(self) -> Iterator[Draw]:
        return (self[index] for index in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Draws | list | tuple):
            return NotImplemented
        return len(self) == len(other) and all(map(Draw.__eq__, self, other))

    __hash__ = None  # type: ignore[assignment]  # it grows

    def __repr__(self) -> str:
        return f"Draws({list(self)!r})"

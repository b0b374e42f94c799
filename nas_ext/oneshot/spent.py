"""What a search ran, in one process and in all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from nas_ext.architecture import Architecture

__all__ = ["Spent", "together"]


@dataclass(frozen=True)
class Spent:
    """Hold the images that each architecture was trained and evaluated on, and the passes."""

    trained: Counter[Architecture] = field(default_factory=Counter)
    images: Counter[Architecture] = field(default_factory=Counter)
    passes: Counter[str] = field(default_factory=Counter)


def together(parts: Sequence[Spent]) -> Spent:
    """Return the sum of what several processes spent."""
    total = Spent()
    for part in parts:
        total.trained.update(part.trained)
        total.images.update(part.images)
        total.passes.update(part.passes)
    return total

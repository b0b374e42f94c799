"""Whether two runs came to the same: one line for each thing that is compared."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

__all__ = ["Check", "numbers", "things"]

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Check:
    """Say of one thing whether it came out the same.

    `differing` of `count` values differ, by at most `largest`, None where they are no numbers or
    not there on both sides. `bits` says whether all are the same to the last bit, `same` whether
    they are within what was allowed.
    """

    what: str
    count: int
    differing: int
    same: bool
    largest: float | None = None
    example: str = ""

    @property
    def bits(self) -> bool:
        """Say whether nothing differs at all."""
        return self.differing == 0

    @property
    def text(self) -> str:
        """Return the line that people read."""
        if self.bits:
            return f"equal    {self.what}: {self.count:,} compared"
        by = "" if self.largest is None else f", by at most {self.largest:.3g}"
        head = "within  " if self.same else "DIFFERS "
        example = f": {self.example}" if self.example else ""
        return f"{head} {self.what}: {self.differing:,} of {self.count:,} differ{by}{example}"

    def to_json(self) -> dict[str, Any]:
        """Return the check as JSON values."""
        return {**vars(self), "bits": self.bits}


def things(what: str, before: Sequence[Any], after: Sequence[Any]) -> Check:
    """Compare two sequences place by place; what one has beyond the other differs."""
    count = max(len(before), len(after))
    places = [
        place
        for place in range(count)
        if place >= min(len(before), len(after)) or before[place] != after[place]
    ]
    example = ""
    if places:
        first = places[0]
        example = f"at {first} {_at(before, first)}, now {_at(after, first)}"
    return Check(what, count, len(places), not places, None, example)


def numbers(
    what: str,
    before: Mapping[Key, float | None],
    after: Mapping[Key, float | None],
    *,
    within: float = 0.0,
) -> Check:
    """Compare numbers by their names; they may differ by `within`, None and names may not.

    Raises ValueError for a negative or infinite `within`.
    """
    if not 0 <= within < math.inf:
        raise ValueError(f"within must not be negative, got {within}")
    names = list(dict.fromkeys([*before, *after]))
    gaps = {name: _gap(before.get(name), after.get(name)) for name in names}
    for name in names:
        if (name in before) != (name in after):
            gaps[name] = math.inf
    differing = {name: gap for name, gap in gaps.items() if gap > 0}
    example, largest = "", max(differing.values(), default=0.0)
    if differing:
        worst = max(differing, key=lambda name: differing[name])
        example = f"{worst} {before.get(worst)}, now {after.get(worst)}"
    return Check(
        what,
        len(names),
        len(differing),
        largest <= within,
        largest if math.isfinite(largest) else None,
        example,
    )


def _gap(one: float | None, other: float | None) -> float:
    if one is None or other is None:
        return 0.0 if one is other else math.inf
    return 0.0 if one == other or (one != one and other != other) else _distance(one, other)


def _distance(one: float, other: float) -> float:
    gap = abs(one - other)
    return math.inf if math.isnan(gap) else gap


def _at(values: Sequence[Any], place: int) -> Any:
    return values[place] if place < len(values) else "nothing"

"""The rules that a recipe's settings are held to."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from itertools import pairwise


def check_whole(name: str, value: object, least: int) -> None:
    """Refuse a value that is not an int of at least `least`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Refuse a value that is not one of the choices."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def check_real(
    name: str,
    value: object,
    *,
    above: float | None = None,
    below: float = math.inf,
    most: float = math.inf,
) -> None:
    """Refuse a value that is not finite, negative, or outside the given bounds."""
    fits = (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and abs(value) < math.inf  # an integer beyond all floats too, where isfinite raises
        and abs(value) <= sys.float_info.max
        and (value > above if above is not None else value >= 0)
        and value < below
        and value <= most
    )
    if not fits:
        rules = ["a number"]
        rules.append("at least 0" if above is None else f"above {above}")
        rules += [f"below {below}"] if below < math.inf else []
        rules += [f"at most {most}"] if most < math.inf else []
        raise ValueError(f"{name} must be {', '.join(rules)}, got {value!r}")


def check_milestones(value: object, *, epochs: int, needed: bool) -> None:
    """Refuse anything but a tuple of ascending epochs inside the training."""
    if not isinstance(value, tuple) or (needed and not value):
        rule = "a tuple of epochs" + (", one at least with sched multistep" if needed else "")
        raise ValueError(f"decay_milestones must be {rule}, got {value!r}")
    for epoch in value:
        check_real("decay_milestones", epoch, above=0)
    if any(later <= earlier for earlier, later in pairwise(value)):
        raise ValueError(f"decay_milestones must ascend, got {value!r}")
    if value and value[-1] >= epochs:
        raise ValueError(f"decay_milestones must lie below epochs {epochs}, got {value!r}")

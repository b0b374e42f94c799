"""RandAugment by timm's text for it, on a batch of pixels."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data.auto_augment import posterize, rand_augment_transform
from torch import Tensor

from nas_ext.data import ImageData

RAND_AUGMENT = "rand-m{magnitude}-mstd0.5-inc1"
"""timm's usual text; its usual magnitude 9 breaks, see `check_auto_augment`."""

STRONGEST = 10.0  # timm's largest magnitude where the text has no mmax
DEVIATIONS = 5  # of a noisy magnitude: beyond them is less than one draw in three million

_SECTION = re.compile(r"(mstd|mmax|inc|m|n|p)(\d+(?:\.\d+)?)|(t)(weights|3aw|3a)")
_WHOLE = ("m", "n", "mmax", "inc")
_NO_POSTERIZE = "3a"


def check_auto_augment(text: object) -> None:
    """Refuse a text that timm does not understand or that ends a training with an error.

    It begins with `rand`; sections follow after dashes: `m9` (magnitude), `n2` (operations an
    image), `p0.5` (probability of each), `mstd0.5` (the magnitude's deviation, beyond 100 any
    magnitude from 0), `mmax10` (its largest value), `inc1` (operations that grow with it) and
    `tweights`, `t3a` or `t3aw` (other sets of operations).

    Posterizing keeps 4 - int(0.4 magnitude) bits of a colour with `inc1`, int(0.4 magnitude)
    without, and Pillow refuses 0 bits: magnitudes of 10 and more break the one, those below 2.5
    the other. A noisy magnitude counts with five deviations; what lies beyond keeps one bit.
    """
    sections = _sections(text)
    if sections.get("inc", 0) > 1 or sections.get("n", 1) < 1 or sections.get("p", 0) > 1:
        raise ValueError(
            f"auto_augment must have n of at least 1, p of at most 1, inc of 0 or 1, got {text!r}"
        )
    if sections.get("t") == _NO_POSTERIZE:
        return
    low, high = _magnitudes(sections)
    if sections.get("inc") or "t" in sections:
        if high >= STRONGEST:
            raise ValueError(
                f"auto_augment must keep magnitudes below {STRONGEST:g}, where Pillow's posterize "
                f"fails (here they reach {high:g}; add -mmax9 or lower m), got {text!r}"
            )
    elif low < 2.5:
        raise ValueError(
            "auto_augment must keep magnitudes at 2.5 and above without inc1, since Pillow's "
            f"posterize fails below (here they reach {low:g}), got {text!r}"
        )


def _sections(text: object) -> dict[str, Any]:
    rule = "None or timm's text for RandAugment, such as 'rand-m7-mstd0.5-inc1'"
    head, *rest = text.split("-") if isinstance(text, str) else [""]
    found: dict[str, Any] = {}
    for section in rest:
        match = _SECTION.fullmatch(section)
        name = match and (match[1] or match[3])
        if match is None or name in found or (name in _WHOLE and not match[2].isdecimal()):
            raise ValueError(f"auto_augment must be {rule}, got {text!r}: {section!r}")
        found[str(name)] = float(match[2]) if match[1] else match[4]
    if head != "rand":
        raise ValueError(f"auto_augment must be {rule}, got {text!r}")
    return found


def _magnitudes(sections: dict[str, Any]) -> tuple[float, float]:
    """Return the least and the largest magnitude, a noisy one's within `DEVIATIONS`."""
    upper = sections.get("mmax", 0.0) or STRONGEST
    magnitude, deviation = sections.get("m", STRONGEST), sections.get("mstd", 0.0)
    if deviation > 100:  # timm: uniform between 0 and the magnitude
        return 0.0, min(magnitude, upper)
    spread = DEVIATIONS * deviation
    return max(0.0, min(magnitude - spread, upper)), min(magnitude + spread, upper)


def rand_augment(text: str, data: ImageData) -> Callable[[Tensor], Tensor]:
    """Return what varies uint8 pixels `[B, 3, H, W]`, image by image.

    It draws from the global generators of Python and NumPy, as timm does. Uncovered corners take
    the data's mean colour. Raises ValueError for images that are not RGB.
    """
    if data.in_chs != 3:
        raise ValueError(f"auto_augment must be None for images of {data.in_chs} channels")
    check_auto_augment(text)
    colour = tuple(min(255, round(255 * mean)) for mean in data.mean)
    policy = rand_augment_transform(text, {"img_mean": colour})
    for operation in policy.ops:
        if operation.aug_fn is posterize:
            operation.level_fn = partial(_one_bit_at_least, operation.level_fn)

    def vary(pixels: Tensor) -> Tensor:
        images = pixels.permute(0, 2, 3, 1).contiguous().numpy()
        varied = [np.asarray(policy(Image.fromarray(image))) for image in images]
        return torch.from_numpy(np.stack(varied)).permute(0, 3, 1, 2).contiguous()

    return vary


def _one_bit_at_least(
    bits: Callable[[float, dict[str, Any]], tuple[int]], level: float, settings: dict[str, Any]
) -> tuple[int]:
    return (max(1, math.floor(bits(level, settings)[0])),)

"""The pooling spaces: where in a network of L layers the resolution is halved."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_ext.architecture import Architecture, Choice, Sample, SearchSpace

__all__ = ["PoolingSpace", "resnet_macs"]

LABEL = "pooling"
POOL, IDENTITY = 0, 1
OPTIONS = ("pool", "identity")


@dataclass(frozen=True)
class _Exactly:
    """The rule "exactly so many poolings": the state is how many there were."""

    poolings: int
    positions: int

    def start(self) -> Hashable:
        return 0

    def step(self, state: Any, position: int, option: int) -> Hashable | None:
        done = int(state) + (option == POOL)
        left = self.positions - position - 1
        return done if done <= self.poolings <= done + left else None

    def accepts(self, state: Any) -> bool:
        return bool(state == self.poolings)


class PoolingSpace(SearchSpace):
    """List the ways to put `poolings` halvings in front of the layers 2 to `layers`.

    At most one pooling a layer, none before layer 1, so an architecture is a composition
    (n_0, ..., n_p) of the number of layers into p + 1 positive parts, and there are C(L-1, p).
    "pool" is option 0: the lexicographic order is then the numbering of the thesis's Table 2.1
    (and `itertools.combinations` order of the positions). Source: chapter 2, section 2.2.1.
    """

    def __init__(self, *, layers: int, poolings: int, name: str = "pooling") -> None:
        if poolings < 1:
            raise ValueError(f"poolings must be at least 1, got {poolings}")
        if layers <= poolings:
            raise ValueError(f"layers must be more than the {poolings} poolings, got {layers}")
        self.layers = layers
        self.poolings = poolings
        choices = [Choice(f"layer{layer}", OPTIONS) for layer in range(2, layers + 1)]
        super().__init__(name, choices, rule=_Exactly(poolings, layers - 1))

    def stages(self, architecture: Architecture) -> tuple[int, ...]:
        """Return (n_0, ..., n_p): how many layers run at each resolution."""
        self.check(architecture)
        starts = [0, *(place + 1 for place, o in enumerate(architecture) if o == POOL)]
        return tuple(np.diff([*starts, self.layers]).tolist())

    def from_stages(self, stages: Sequence[int]) -> Architecture:
        """Return the architecture with so many layers at each resolution.

        Raises ValueError unless there are p + 1 positive numbers that sum to the layers.
        """
        valid = len(stages) == self.poolings + 1 and min(stages) >= 1
        if not valid or sum(stages) != self.layers:
            raise ValueError(
                f"stages must be {self.poolings + 1} positive numbers that sum to "
                f"{self.layers}, got {list(stages)}"
            )
        starts = set(np.cumsum(stages[:-1]).tolist())
        return tuple(POOL if layer in starts else IDENTITY for layer in range(1, self.layers))

    def code(self, architecture: Architecture) -> str:
        """Return the path code, one digit a layer, 1 where a pooling stands in front of it."""
        self.check(architecture)
        return "0" + "".join("1" if option == POOL else "0" for option in architecture)

    def from_code(self, code: str) -> Architecture:
        """Return the architecture of a path code; ValueError when it names none."""
        valid = len(code) == self.layers and code[:1] == "0" and set(code) <= {"0", "1"}
        if not valid or code.count("1") != self.poolings:
            raise ValueError(
                f"code must be a 0 and {self.layers - 1} digits with {self.poolings} ones, "
                f"got {code!r}"
            )
        return tuple(POOL if digit == "1" else IDENTITY for digit in code[1:])

    def parse(self, written: str | Sequence[int] | Sample) -> Architecture:
        """Return the architecture as people write it: "[4,3,3]" or [4, 3, 3] as well as a code.

        Option indices always have a 0, the option of a pooling, and numbers of layers never.
        """
        numbers: Sequence[int] | None = None
        if isinstance(written, str):
            if re.fullmatch(r"\s*\[\s*\d+(\s*,\s*\d+)*\s*\]\s*", written):
                numbers = [int(number) for number in re.findall(r"\d+", written)]
        elif not isinstance(written, Mapping) and 0 not in written:
            numbers = written
        return super().parse(written) if numbers is None else self.from_stages(numbers)

    def number(self, architecture: Architecture) -> int:
        """Return the number of Table 2.1, from 1."""
        return self.index(architecture) + 1

    def decode(self, architecture: Architecture) -> dict[str, Any]:
        """Return the sample: one label with the path code, since the positions depend."""
        return {LABEL: self.code(architecture)}

    def encode(self, sample: Sample) -> Architecture:
        """Return the architecture of a sample with the one label "pooling"."""
        if set(sample) != {LABEL}:
            raise ValueError(f"sample must have exactly the label {LABEL!r}, got {sorted(sample)}")
        return self.from_code(str(sample[LABEL]))

    def describe(self, architecture: Architecture) -> str:
        """Return the name that the thesis uses, such as "[4,3,3]"."""
        return "[" + ",".join(map(str, self.stages(architecture))) + "]"

    def encoding(self, architecture: Architecture) -> NDArray[np.float64]:
        """Return the resolution index 0, 1, ... of each of the L layers, `[L]`.

        Not the pool flags: over flags the vector and the one-hot distance build the same tree,
        against the thesis's Table 3.2.
        """
        self.check(architecture)
        return np.cumsum([0, *(option == POOL for option in architecture)]).astype(np.float64)


def resnet_macs(
    stages: Sequence[int],
    widths: Sequence[int],
    *,
    in_chs: int,
    num_classes: int,
    image_size: tuple[int, int],
) -> int:
    """Return the multiply-accumulates of one image through a stem and basic blocks.

    Counted are the 3 x 3 convolutions, the 1 x 1 ones where a block changes the width, and the
    linear layer. `stages` are the layers at each resolution, stem included; `widths` the channels
    of each layer; sides are halved and rounded down between stages. Raises ValueError when the
    image is too small to be halved so often.
    """
    if sum(stages) != len(widths):
        raise ValueError(f"widths must be one for each of {sum(stages)} layers, got {len(widths)}")
    height, width = image_size
    resolution = [stage for stage, layers in enumerate(stages) for _ in range(layers)]
    if min(height >> resolution[-1], width >> resolution[-1]) < 1:
        raise ValueError(
            f"image_size must allow {resolution[-1]} halvings, got {height} x {width}"
        )
    total, before = 0, in_chs
    for layer, (level, channels) in enumerate(zip(resolution, widths, strict=True)):
        pixels = (height >> level) * (width >> level)
        weights = 9 * before * channels
        if layer > 0:
            weights += 9 * channels * channels + (before * channels if before != channels else 0)
        total += pixels * weights
        before = channels
    return total + before * num_classes

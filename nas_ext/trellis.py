"""Walks over resolutions: at which output stride each layer of a segmentation network runs."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from nas_ext.architecture import Architecture, Choice, SearchSpace

__all__ = ["RATES", "DeepLabPlan", "First", "TrellisSpace"]

RATES = (4, 8, 16, 32)
"""The output strides, level by level: an image of H pixels has H / rate rows there."""

First: TypeAlias = Literal["fixed", "free"]
"""Whether layer 1 runs at rate 4, or moves like the others and may run at rate 8."""


@dataclass(frozen=True)
class _Neighbours:
    """The rule "at most one level up or down": the state is the level, the first one that of 4."""

    def start(self) -> Hashable:
        return 0

    def step(self, state: Any, position: int, option: int) -> Hashable | None:
        return option if abs(option - int(state)) <= 1 else None

    def accepts(self, state: Any) -> bool:
        return True


class TrellisSpace(SearchSpace):
    """List the walks over the rates 4, 8, 16, 32 that move by one level at most.

    A choice a layer, its option the level, 0 for rate 4; the order is lexicographic. With the
    first layer "fixed" at rate 4 the walks of L layers are Fibonacci's number F(2L - 1), 28,657
    for 12 layers; "free" lets it move from the stem's rate 4, and there are F(2L + 1), 75,025.
    The choices "layer2", "layer3", ... offer only rates that a walk can have reached.

    Source: chapter 4, the macro space of Auto-DeepLab, whose printed 2.9e4 is the first number.
    """

    def __init__(self, *, layers: int = 12, first: First = "fixed", name: str = "trellis") -> None:
        if first not in get_args(First):
            raise ValueError(f"first must be one of {list(get_args(First))}, got {first!r}")
        least = 2 if first == "fixed" else 1
        if type(layers) is not int or layers < least:
            raise ValueError(f"layers must be an integer of at least {least}, got {layers!r}")
        self.layers = layers
        self.first: First = first
        choices = [
            Choice(f"layer{layer}", RATES[: place + 2])
            for place, layer in enumerate(range(least, layers + 1))
        ]
        super().__init__(name, choices, rule=_Neighbours())

    def levels(self, architecture: Architecture) -> tuple[int, ...]:
        """Return the level of each of the L layers, 0 for rate 4 to 3 for rate 32."""
        self.check(architecture)
        return (0, *architecture) if self.first == "fixed" else architecture

    def rates(self, architecture: Architecture) -> tuple[int, ...]:
        """Return the rate of each of the L layers."""
        return tuple(RATES[level] for level in self.levels(architecture))

    def from_levels(self, levels: Sequence[int]) -> Architecture:
        """Return the architecture with these levels; ValueError when there is none."""
        found = tuple(levels[1:] if self.first == "fixed" else levels)
        if len(levels) != self.layers or (self.first == "fixed" and levels[0] != 0):
            raise ValueError(
                f"levels must be {self.layers} numbers in space {self.name!r}"
                f"{', the first of them 0' * (self.first == 'fixed')}, got {list(levels)}"
            )
        return self.check(found)

    def code(self, architecture: Architecture) -> str:
        """Return the levels, one digit a layer, such as "001221"."""
        return "".join(map(str, self.levels(architecture)))

    def from_code(self, code: str) -> Architecture:
        """Return the architecture of a code; ValueError when it names none."""
        if not code or not set(code) <= set("0123"):
            raise ValueError(f"code must be {self.layers} digits out of 0123, got {code!r}")
        return self.from_levels([int(digit) for digit in code])

    def describe(self, architecture: Architecture) -> str:
        """Return the rates of all layers, such as "4-4-8-16"."""
        return "-".join(map(str, self.rates(architecture)))

    def encoding(self, architecture: Architecture) -> NDArray[np.float64]:
        """Return the level of each of the L layers, `[L]`."""
        return np.asarray(self.levels(architecture), dtype=np.float64)


class _Convolution(NamedTuple):
    """One convolution: its weights, other parameters, and output pixels."""

    weights: int
    others: int
    pixels: int


@dataclass(frozen=True, kw_only=True)
class DeepLabPlan:
    """Say how wide a network over the trellis is, and count what an architecture costs.

    Stem, two 3x3 convolutions of stride 2; in each layer a residual block of two separable 3x3
    convolutions, and in front of it, where the rate changes, a 3x3 convolution of stride 2 or
    a bilinear upsampling and a 1x1 convolution; atrous spatial pyramid pooling at the last rate;
    the decoder of DeepLabV3+ with layer 1 as its low-level features. Layers at rate s have
    `filters` s / 4 channels. The thesis leaves cells, transitions and widths open: they are ours.
    """

    filters: int = 32
    decoder_chs: int = 256
    low_level_chs: int = 48

    def __post_init__(self) -> None:
        for name in ("filters", "decoder_chs", "low_level_chs"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} must be a positive integer, got {value!r}")

    def width(self, level: int) -> int:
        """Return the channels of layers at a level."""
        return self.filters << level

    def dilations(self, level: int) -> tuple[int, int, int]:
        """Return those of the pyramid: 6, 12, 18 at rate 16, the same reach in the image else."""
        unit = 96 // RATES[level]
        return unit, 2 * unit, 3 * unit

    def macs(
        self, levels: Sequence[int], *, in_chs: int, num_classes: int, image_size: tuple[int, int]
    ) -> int:
        """Count the multiply-accumulates of all convolutions for one image of (H, W) pixels.

        Strides keep the last odd row and column. Norm, upsampling, sums and means count nothing.
        """
        found = self._convolutions(levels, in_chs, num_classes, image_size)
        return sum(one.weights * one.pixels for one in found)

    def parameter_count(self, levels: Sequence[int], *, in_chs: int, num_classes: int) -> int:
        """Count the parameters of convolutions and affine norms."""
        found = self._convolutions(levels, in_chs, num_classes, (1, 1))
        return sum(one.weights + one.others for one in found)

    def _convolutions(
        self, levels: Sequence[int], in_chs: int, num_classes: int, image_size: tuple[int, int]
    ) -> Iterator[_Convolution]:
        at = [_halved(image_size, halvings) for halvings in range(1, len(RATES) + 2)]
        half, *pixels = at  # of the first convolution, then by level
        yield _normed(9 * in_chs, self.filters, half)
        yield _normed(9 * self.filters, self.filters, pixels[0])
        before = 0
        for level in levels:
            if level != before:
                kernel = 9 if level > before else 1
                yield _normed(kernel * self.width(before), self.width(level), pixels[level])
            for _ in range(2):
                yield _separable(self.width(level), self.width(level), pixels[level])
            before = level
        last, decoder = self.width(before), self.decoder_chs
        yield _normed(last, decoder, pixels[before])
        for _ in range(3):
            yield _separable(last, decoder, pixels[before])
        yield _normed(last, decoder, 1)
        yield _normed(5 * decoder, decoder, pixels[before])
        yield _normed(self.filters, self.low_level_chs, pixels[0])
        yield _separable(decoder + self.low_level_chs, decoder, pixels[0])
        yield _separable(decoder, decoder, pixels[0])
        yield _Convolution(decoder * num_classes, num_classes, pixels[0])


def _halved(image_size: tuple[int, int], halvings: int) -> int:
    """Return the pixels behind so many padded convolutions of stride 2."""
    height, width = (-(-side >> halvings) for side in image_size)
    return height * width


def _normed(fan_in: int, channels: int, pixels: int) -> _Convolution:
    """Return a convolution without bias and its affine norm."""
    return _Convolution(fan_in * channels, 2 * channels, pixels)


def _separable(in_chs: int, out_chs: int, pixels: int) -> _Convolution:
    """Return a depthwise 3x3 and a 1x1 convolution, with one affine norm behind both."""
    return _Convolution(9 * in_chs + in_chs * out_chs, 2 * out_chs, pixels)

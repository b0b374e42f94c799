"""Chains of layers that are each an identity or an inverted residual block."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from nas_ext.architecture import Architecture, Choice, SearchSpace

__all__ = [
    "ChainPlan",
    "ChainSpace",
    "Layer",
    "LayerOption",
    "MobileBlock",
    "Stage",
    "check_positive",
]

IDENTITY = "identity"
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
DIVISOR = 8
"""timm rounds the hidden channels of inverted residuals to multiples of it."""


@dataclass(frozen=True)
class Stage:
    """Say how many layers have a width; the first of them has the stride, the others 1."""

    width: int
    layers: int
    stride: int

    def __post_init__(self) -> None:
        check_positive(width=self.width, layers=self.layers, stride=self.stride)


@dataclass(frozen=True)
class MobileBlock:
    """Say what an inverted residual block is: 1x1 expansion, depthwise kernel, 1x1 projection.

    Every convolution has a norm, the first two an activation; the input is added where the shape
    stays. `squeeze_excite` weighs the hidden channels, squeezed to a quarter of them.
    """

    expansion: int
    kernel: int
    squeeze_excite: bool = False

    def __post_init__(self) -> None:
        check_positive(expansion=self.expansion, kernel=self.kernel)
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, got {self.kernel}")

    @property
    def name(self) -> str:
        """Return the option's name in samples, such as "mb6_k5" or "mb6_k5_se"."""
        return f"mb{self.expansion}_k{self.kernel}" + "_se" * self.squeeze_excite


LayerOption: TypeAlias = MobileBlock | None
"""What a layer can be; None is an identity: 1x1 convolution and norm where the shape changes."""


@dataclass(frozen=True)
class Layer:
    """Say what a layer gets and gives."""

    in_chs: int
    out_chs: int
    stride: int

    @property
    def keeps_shape(self) -> bool:
        """Say whether an identity is nothing here, and a block residual."""
        return self.in_chs == self.out_chs and self.stride == 1


@dataclass(frozen=True, kw_only=True)
class ChainPlan:
    """Describe the networks of a chain: stem, searched stages, 1x1 convolution, linear layer.

    `stem` is the width of a 3x3 convolution with `stem_stride`; `first`, where there is one, that
    of a depthwise separable 3x3 block behind it; `head` that of the 1x1 convolution in front of
    the average. Widths that blocks expand must be multiples of 8: timm rounds others.
    """

    stem: int
    stages: tuple[Stage, ...]
    head: int
    options: tuple[LayerOption, ...]
    stem_stride: int = 1
    first: int | None = None

    def __post_init__(self) -> None:
        check_positive(stem=self.stem, stem_stride=self.stem_stride, head=self.head)
        if not self.stages:
            raise ValueError("stages must be at least one, got ()")
        if not self.options:
            raise ValueError("options must be at least one, got ()")
        entry = {"stem": self.stem} if self.first is None else {"first": self.first}
        check_positive(**entry)
        for name, width in (*entry.items(), *(("widths", stage.width) for stage in self.stages)):
            if width % DIVISOR:
                raise ValueError(f"{name} must be multiples of {DIVISOR}, got {width}")

    @property
    def names(self) -> tuple[str, ...]:
        """Return the options' names in their order."""
        return tuple(IDENTITY if option is None else option.name for option in self.options)

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """Return the searched layers in their order."""
        found: list[Layer] = []
        before = self.stem if self.first is None else self.first
        for stage in self.stages:
            for place in range(stage.layers):
                found.append(Layer(before, stage.width, stage.stride if place == 0 else 1))
                before = stage.width
        return tuple(found)


class ChainSpace(SearchSpace):
    """List the chains of a plan: every layer takes any of its options.

    The code of an architecture has a digit a layer, first layer first, 0 to 9 and then a, b, ...;
    the order is that of the codes. Encodings repeat: where the shape stays, an identity passes
    its input through, so its place among such layers does not matter.
    """

    def __init__(self, name: str, plan: ChainPlan) -> None:
        if len(plan.options) > len(DIGITS):
            raise ValueError(
                f"options must be at most {len(DIGITS)}, a digit each, got {len(plan.options)}"
            )
        self.plan = plan
        labels = [f"layer{number}" for number in range(1, len(plan.layers) + 1)]
        super().__init__(name, [Choice(label, plan.names) for label in labels])

    def code(self, architecture: Architecture) -> str:
        """Return the options, one digit a layer, such as "22212220"."""
        return "".join(DIGITS[option] for option in self.check(architecture))

    def from_code(self, code: str) -> Architecture:
        """Return the architecture of a code; ValueError when it names none."""
        digits = DIGITS[: len(self.plan.options)]
        if len(code) != len(self.choices) or not set(code) <= set(digits):
            raise ValueError(
                f"code must be {len(self.choices)} digits out of {digits}, got {code!r}"
            )
        return tuple(map(DIGITS.index, code))

    def describe(self, architecture: Architecture) -> str:
        """Return the code."""
        return self.code(architecture)

    def canonical(self, architecture: Architecture) -> Architecture:
        """Return the encoding whose identities stand last among layers of one shape."""
        self.check(architecture)
        if None not in self.plan.options:
            return architecture
        identity = self.plan.options.index(None)
        chosen: list[int] = []
        passing = 0
        for layer, option in zip(self.plan.layers, architecture, strict=True):
            if not layer.keeps_shape:
                chosen += [identity] * passing
                passing = 0
            if layer.keeps_shape and option == identity:
                passing += 1
            else:
                chosen.append(option)
        return (*chosen, *[identity] * passing)


def check_positive(**values: object) -> None:
    """Raise ValueError for the first value that is no positive integer, by its name."""
    for name, value in values.items():
        if type(value) is not int or value < 1:
            raise ValueError(f"{name} must be a positive integer, got {value!r}")

"""The networks of NAS-Bench-Macro."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nas_ext.nasbench_macro import (
    HEAD,
    LAYERS,
    STEM,
    WIDTHS,
    NASBenchMacroSpace,
    nasbench_macro_plan,
)
from nas_ext.spaces.chain_space import ChainModelSpace

__all__ = ["NASBenchMacro"]


class NASBenchMacro(ChainModelSpace):
    """Search eight layers, each an identity or one of two inverted residual blocks.

    A stem of `stem` channels at full resolution, a stage for each of `widths` that halves it in
    its first layer, a 1x1 convolution to `head` channels, average, linear layer; ReLU. An
    identity is a 1x1 convolution and norm in a stage's first layer, and nothing elsewhere.
    Without arguments it is the published space of 6,561 encodings, whose networks
    `nas_ext.benchmarks.nasbench_macro_table` knows the accuracy of. In `layers`, the number in
    each stage, other spaces are built alike. Source: Su et al. 2021, "Prioritized Architecture
    Sampling with Monte-Carlo Tree Search".
    """

    if TYPE_CHECKING:
        # NNI's __new__ may return a fixed module instead, but not for model spaces.
        def __new__(cls, **arguments: Any) -> NASBenchMacro: ...

    def __init__(
        self,
        *,
        stem: int = STEM,
        widths: Sequence[int] = WIDTHS,
        layers: Sequence[int] = LAYERS,
        head: int = HEAD,
        num_classes: int = 10,
        in_chs: int = 3,
    ) -> None:
        plan = nasbench_macro_plan(stem=stem, widths=widths, layers=layers, head=head)
        super().__init__(
            NASBenchMacroSpace(plan), activation="relu", num_classes=num_classes, in_chs=in_chs
        )

    @classmethod
    def small(cls, *, num_classes: int = 10, in_chs: int = 3) -> NASBenchMacro:
        """Build all 6,561 encodings of the published space, a quarter as wide: 8, 16/32/64, 128.

        For processors without a graphics card. The architectures are those of the full space.
        """
        return cls(stem=8, widths=(16, 32, 64), head=128, num_classes=num_classes, in_chs=in_chs)

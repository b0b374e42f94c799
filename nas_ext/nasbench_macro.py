"""The search space of NAS-Bench-Macro: eight layers, 6,561 encodings of 3,969 networks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from nas_ext.additive_cost import AdditiveCost
from nas_ext.architecture import Architecture
from nas_ext.chain import ChainPlan, ChainSpace, MobileBlock, Stage
from nas_ext.chain_costs import macs_table, parameter_table

__all__ = ["MACRO", "NASBenchMacroSpace", "nasbench_macro_plan"]

MACRO = "nasbench-macro"
STEM, WIDTHS, LAYERS, HEAD = 32, (64, 128, 256), (2, 3, 3), 1280
CHANNELS, CLASSES, IMAGE_SIZE = 3, 10, (32, 32)


def nasbench_macro_plan(
    *,
    stem: int = STEM,
    widths: Sequence[int] = WIDTHS,
    layers: Sequence[int] = LAYERS,
    head: int = HEAD,
) -> ChainPlan:
    """Return the published layers, or others built alike: every stage halves the resolution.

    `widths` and `layers` have a number for each stage.
    """
    if len(widths) != len(layers):
        raise ValueError(f"layers must be {len(widths)} numbers, one a width, got {list(layers)}")
    return ChainPlan(
        stem=stem,
        stages=tuple(Stage(w, count, 2) for w, count in zip(widths, layers, strict=True)),
        head=head,
        options=(None, MobileBlock(3, 3), MobileBlock(6, 5)),
    )


class NASBenchMacroSpace(ChainSpace):
    """List the chains of layers that are each an identity or one of two inverted residual blocks.

    The code of an architecture has a digit a layer, first layer first: 0 identity, 1 expansion 3
    and kernel 3, 2 expansion 6 and kernel 5. The order is that of the codes. 6,561 encodings are
    3,969 networks: within a stage, past its first layer, an identity passes its input through,
    so its place does not matter. Without a plan it is the published one; the costs are those of
    its networks for CIFAR-10. Source: Su et al. 2021, "Prioritized Architecture Sampling with
    Monte-Carlo Tree Search".
    """

    def __init__(self, plan: ChainPlan | None = None) -> None:
        super().__init__(MACRO, nasbench_macro_plan() if plan is None else plan)

    @cached_property
    def _parameters(self) -> AdditiveCost:
        return parameter_table(self.plan, in_chs=CHANNELS, num_classes=CLASSES)

    @cached_property
    def _macs(self) -> AdditiveCost:
        return macs_table(self.plan, in_chs=CHANNELS, num_classes=CLASSES, image_size=IMAGE_SIZE)

    def params(self, architecture: Architecture) -> int:
        """Return the trainable parameters: convolutions, affine batch norms, linear layer."""
        return self._parameters(self.check(architecture))

    def macs(self, architecture: Architecture) -> int:
        """Return the multiply-accumulates of one image: convolutions and linear layer."""
        return self._macs(self.check(architecture))

"""The search space of MobileNetV2's layers: 21 of them, 13 options each."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from nas_ext.chain import ChainPlan, MobileBlock, Stage

__all__ = ["MOBILENET", "mobilenet_plan"]

MOBILENET = "mobilenetv2"
STEM, FIRST, HEAD = 32, 16, 1280
WIDTHS, LAYERS, STRIDES = (32, 40, 80, 96, 192, 320), (4, 4, 4, 4, 4, 1), (2, 2, 2, 1, 2, 1)
EXPANSIONS, KERNELS = (3, 6), (3, 5, 7)


def mobilenet_plan(
    *,
    squeeze_excite: bool = True,
    stem: int = STEM,
    first: int = FIRST,
    widths: Sequence[int] = WIDTHS,
    layers: Sequence[int] = LAYERS,
    strides: Sequence[int] = STRIDES,
    head: int = HEAD,
) -> ChainPlan:
    """Return the published layers, or others built alike.

    Options are an identity, six inverted residual blocks in the order mb3_k3, mb3_k5, mb3_k7,
    mb6_k3, ... and, with `squeeze_excite`, the six again with it. `widths`, `layers` and
    `strides` have a number for each stage. Source: the thesis's appendix II, Table II-2; chapter
    5 counts only 12 options, and its list only 7 (those without squeeze-and-excitation).
    """
    for name, given in (("layers", layers), ("strides", strides)):
        if len(given) != len(widths):
            raise ValueError(
                f"{name} must be {len(widths)} numbers, one a width, got {list(given)}"
            )
    gates = (False, True) if squeeze_excite else (False,)
    blocks = (MobileBlock(e, k, gate) for gate, e, k in product(gates, EXPANSIONS, KERNELS))
    return ChainPlan(
        stem=stem,
        stem_stride=2,
        first=first,
        stages=tuple(Stage(*stage) for stage in zip(widths, layers, strides, strict=True)),
        head=head,
        options=(None, *blocks),
    )

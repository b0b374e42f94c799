"""The networks of NAS-Bench-201: stacks of one cell, whose six edges are searched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from timm.layers.classifier import ClassifierHead
from timm.layers.conv_bn_act import ConvNormAct
from timm.layers.create_norm_act import get_norm_act_layer
from torch import Tensor, nn

from nas_ext.additive_cost import AdditiveCost
from nas_ext.architecture import Architecture
from nas_ext.cell import EDGES, LABELS, OPERATIONS, CellSkeleton, NASBench201Space
from nas_ext.nni import LayerChoice, ModelSpace, current_model
from nas_ext.spaces.blocks import NormLayer, supernet_norm
from nas_ext.spaces.cell_blocks import Cell, Reduction, operation_layer
from nas_ext.spaces.checks import check_share
from nas_ext.spaces.timm_network import TimmNetwork

__all__ = ["NASBench201", "NASBench201Network"]

RESNET = "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|skip_connect~2|"
"""The residual block, which the benchmark's authors compare with."""


class _Layers:
    """Give the model space and its networks the same module tree and the same forward.

    Weights then move between them by name: `stem`, `blocks` (cells and reductions), `conv_head`
    (norm and ReLU, no convolution here), `head`. To be mixed into a module.
    """

    stem: ConvNormAct
    blocks: nn.ModuleList
    conv_head: nn.Module | None
    head: ClassifierHead

    def _build(
        self,
        skeleton: CellSkeleton,
        edges: Callable[[int, float], Sequence[nn.Module]],
        *,
        norm_layer: NormLayer,
        drop_path_rate: float = 0.0,
    ) -> None:
        """Make the layers; `edges` makes those of a cell of some channels and drop rate."""
        widths, last = skeleton.widths, 3 * skeleton.cells + 1
        self.stem = ConvNormAct(
            skeleton.in_chs, widths[0], 3, norm_layer=norm_layer, apply_act=False
        )
        blocks: list[nn.Module] = []
        for stage, chs in enumerate(widths):
            if stage:
                rate = drop_path_rate * len(blocks) / last
                blocks.append(
                    Reduction(widths[stage - 1], chs, norm_layer=norm_layer, drop_path=rate)
                )
            for _ in range(skeleton.cells):
                blocks.append(Cell(edges(chs, drop_path_rate * len(blocks) / last)))
        self.blocks = nn.ModuleList(blocks)
        self.conv_head = cast("NormLayer", get_norm_act_layer(norm_layer, "relu"))(widths[-1])
        self.head = ClassifierHead(widths[-1], skeleton.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[B, num_classes]` of images `[B, in_chs, H, W]`."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        if self.conv_head is not None:
            x = self.conv_head(x)
        logits: Tensor = self.head(x)
        return logits


class NASBench201Network(TimmNetwork, _Layers):
    """Be one architecture of a `NASBench201`: plain torch and timm layers, nothing of NNI's.

    `operations` names that of each of the six edges. Stochastic depth grows linearly from 0 at
    the first block to `drop_path_rate` at the last; it drops convolutions of cells one by one,
    and what reductions add to their shortcut. Weights begin as torch makes them.
    """

    def __init__(
        self,
        skeleton: CellSkeleton,
        operations: Sequence[str],
        *,
        norm_layer: NormLayer = nn.BatchNorm2d,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        if len(operations) != len(EDGES) or not set(operations) <= set(OPERATIONS):
            raise ValueError(
                f"operations must be {len(EDGES)} out of {list(OPERATIONS)}, "
                f"got {list(operations)}"
            )
        check_share("drop_path_rate", drop_path_rate)

        def edges(chs: int, rate: float) -> list[nn.Module]:
            return [
                operation_layer(name, chs, norm_layer=norm_layer, drop_path=rate)
                for name in operations
            ]

        self._build(skeleton, edges, norm_layer=norm_layer, drop_path_rate=drop_path_rate)
        reductions = [isinstance(block, Reduction) for block in self.blocks]
        stages = [0, *(sum(reductions[: at + 1]) for at in range(len(reductions)))]
        self.finish(
            channels=[skeleton.widths[stage] for stage in stages],
            strides=[1, *(1 + reduction for reduction in reductions)],
            num_classes=skeleton.num_classes,
            in_chs=skeleton.in_chs,
        )


class NASBench201(_Layers, ModelSpace):  # type: ignore[misc]  # NNI has no types
    """Search the cell that a network is stacked of: an operation on each of six edges.

    Three stages of `cells` cells, at `width`, twice and four times as many channels, with a
    residual block between them that halves the resolution. All cells are alike: they share the
    choices "edge1_0" to "edge3_2", NNI's `LayerChoice`s, for any one-shot strategy. Without
    arguments it is the published space of 15,625 encodings, whose accuracies
    `nas_ext.benchmarks.nasbench201_table` reads; fewer `operations` make a smaller one. Cells
    that put out a constant belong to the space: they classify by chance.

    Built to be searched, its norm layers are `supernet_norm`: batch statistics, no parameters.
    Built under NNI's `model_context(sample)`, it is that architecture with ordinary batch norm,
    ready for training from scratch. `network` gives the same without NNI. NNI's `freeze(sample)`
    keeps the supernet's weights and norm.

    Source: Dong and Yang 2020, "NAS-Bench-201"; chapters 4 and 5.
    """

    if TYPE_CHECKING:
        # NNI's __new__ may return a fixed module instead, but not for model spaces.
        def __new__(cls, **arguments: Any) -> NASBench201: ...

    def __init__(
        self,
        *,
        width: int = 16,
        cells: int = 5,
        operations: Sequence[str] = OPERATIONS,
        num_classes: int = 10,
        in_chs: int = 3,
    ) -> None:
        super().__init__()
        self.skeleton = CellSkeleton(
            width=width, cells=cells, num_classes=num_classes, in_chs=in_chs
        )
        self.num_classes = num_classes
        self.in_chs = in_chs
        self.search_space = NASBench201Space(operations=operations)
        norm_layer = supernet_norm if current_model() is None else nn.BatchNorm2d

        def edges(chs: int, rate: float) -> list[nn.Module]:
            return [
                LayerChoice(
                    {
                        name: operation_layer(name, chs, norm_layer=norm_layer)
                        for name in self.search_space.operations
                    },
                    label=label,
                )
                for label in LABELS
            ]

        self._build(self.skeleton, edges, norm_layer=norm_layer)

    @property
    def default_architecture(self) -> Architecture | None:
        """Return the residual block, None where a smaller space lacks it."""
        if set(self.search_space.operations) >= {"none", "skip_connect", "nor_conv_3x3"}:
            return self.search_space.from_code(RESNET)
        return None

    @property
    def arguments(self) -> dict[str, Any]:
        """Return, for JSON, the arguments of `nas_ext.spaces.create` that rebuild the space."""
        return {
            "name": self.search_space.name,
            "width": self.skeleton.width,
            "cells": self.skeleton.cells,
            "operations": list(self.search_space.operations),
            "num_classes": self.num_classes,
            "in_chs": self.in_chs,
        }

    def forward_chain(self) -> list[tuple[nn.Module, int]]:
        """Return the layers whose composition is the forward, and how many choices set each.

        The first cell needs all choices, so that architectures share no more than the stem. The
        layers are those of now: a supernet's once a strategy has made one.
        """
        parts = [*self.blocks, *([] if self.conv_head is None else [self.conv_head]), self.head]
        return [(self.stem, 0), *((part, len(EDGES)) for part in parts)]

    def network(
        self,
        architecture: Architecture,
        *,
        num_classes: int | None = None,
        in_chs: int | None = None,
        drop_path_rate: float = 0.0,
    ) -> NASBench201Network:
        """Return one architecture as a fresh, ordinary network with affine, tracked batch norm.

        Its state-dict keys are those of the space under `model_context`, and hold those of the
        frozen space. The space's numbers of classes and channels apply where none is given.
        """
        skeleton = CellSkeleton(
            width=self.skeleton.width,
            cells=self.skeleton.cells,
            num_classes=self.num_classes if num_classes is None else num_classes,
            in_chs=self.in_chs if in_chs is None else in_chs,
        )
        operations = self.search_space.chosen(architecture)
        return NASBench201Network(skeleton, operations, drop_path_rate=drop_path_rate)

    def check_image_size(
        self, image_size: tuple[int, int], architecture: Architecture | None = None
    ) -> None:
        """Raise ValueError unless (H, W) are positive: padding keeps the smallest images alive."""
        self.macs_table(image_size)

    def macs_table(self, image_size: tuple[int, int]) -> AdditiveCost:
        """Return the multiply-accumulates of every operation for one image of (H, W) pixels."""
        return self.skeleton.macs_table(self.search_space.operations, image_size=image_size)

    def parameter_table(self) -> AdditiveCost:
        """Return the parameters of every operation in `network(architecture)`."""
        return self.skeleton.parameter_table(self.search_space.operations)

    def macs(self, architecture: Architecture, *, image_size: tuple[int, int]) -> int:
        """Count the multiply-accumulates for one image of (H, W) pixels, exactly."""
        return self.macs_table(image_size)(self.search_space.check(architecture))

    def parameter_count(self, architecture: Architecture) -> int:
        """Count the parameters of `network(architecture)`."""
        return self.parameter_table()(self.search_space.check(architecture))

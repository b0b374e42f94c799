"""Segmentation networks over a trellis of resolutions, and the makers of their layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor, nn

from nas_ext.spaces.blocks import NormLayer
from nas_ext.spaces.checks import check_positive, check_share
from nas_ext.spaces.deeplab_layers import (
    AtrousPyramid,
    DeepLabDecoder,
    Features,
    SeparableResidual,
    TrellisLayer,
    deeplab_stem,
    trellis_move,
)
from nas_ext.spaces.walk_slots import SharedLayers
from nas_ext.trellis import RATES, DeepLabPlan, TrellisSpace

__all__ = ["DeepLabNetwork", "LayerMaker", "PyramidMaker", "TrellisModules"]

ChainLayer: TypeAlias = Callable[[Any], Any]


@dataclass(frozen=True)
class LayerMaker:
    """Make layers of the trellis: a block for each level, a convolution for each move."""

    plan: DeepLabPlan
    norm_layer: NormLayer
    drop_path: float = 0.0

    def block(self, level: int) -> nn.Module:
        """Return the residual block of a level."""
        return SeparableResidual(
            self.plan.width(level), norm_layer=self.norm_layer, drop_path=self.drop_path
        )

    def move(self, before: int, after: int) -> nn.Module:
        """Return what leads from one level to another."""
        return trellis_move(self.plan, before, after, norm_layer=self.norm_layer)

    def alone(self, before: int, after: int) -> nn.Module:
        """Return a fresh layer."""
        return TrellisLayer(before, after, self.move(before, after), self.block(after))

    def shared(self, moves: Sequence[tuple[int, int]]) -> SharedLayers:
        """Return the weights of the layers for all of these moves."""
        return _SharedTrellisLayers(self, moves)


class _SharedTrellisLayers(SharedLayers):
    """Hold one block for each level, whichever way leads there, and one convolution a move."""

    def __init__(self, layers: LayerMaker, moves: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.moves = nn.ModuleDict({_key(*move): layers.move(*move) for move in moves})
        levels = sorted({after for _, after in moves})
        self.blocks = nn.ModuleDict({_key(level): layers.block(level) for level in levels})

    def pick(self, before: int, after: int) -> nn.Module:
        return TrellisLayer(
            before, after, self.moves[_key(before, after)], self.blocks[_key(after)]
        )


@dataclass(frozen=True)
class PyramidMaker:
    """Make the pyramid pooling behind the last layer: one for each level that it may end at."""

    plan: DeepLabPlan
    norm_layer: NormLayer

    def alone(self, before: int, after: int) -> nn.Module:
        """Return a fresh pyramid; the level before the last does not matter."""
        return AtrousPyramid(self.plan, after, norm_layer=self.norm_layer)

    def shared(self, moves: Sequence[tuple[int, int]]) -> SharedLayers:
        """Return the pyramids of all levels that these moves end at."""
        return _SharedPyramids(self, moves)


class _SharedPyramids(SharedLayers):
    """Hold one pyramid for each level."""

    def __init__(self, pyramids: PyramidMaker, moves: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        levels = sorted({after for _, after in moves})
        self.ends = nn.ModuleDict({_key(level): pyramids.alone(level, level) for level in levels})

    def pick(self, before: int, after: int) -> nn.Module:
        return self.ends[_key(after)]


def _key(*levels: int) -> str:
    """Return the name of a level's layer, or of a move's: the rates."""
    return "_".join(f"{RATES[level]}" for level in levels)


class TrellisModules:
    """Give the model space and its networks the same module tree and the same forward.

    Weights then move between them by name: `stem` leads to rate 4, `blocks[i]` is layer i + 1,
    `aspp` the pyramid pooling, `head` the decoder. To be mixed into a module.
    """

    stem: nn.Module
    blocks: nn.ModuleList
    aspp: nn.Module
    head: nn.Module

    def build(
        self,
        plan: DeepLabPlan,
        blocks: Iterable[nn.Module],
        aspp: Callable[[], nn.Module],
        *,
        num_classes: int,
        in_chs: int,
        norm_layer: NormLayer,
    ) -> None:
        """Make the modules, always in the order of the forward: a seed then means one network."""
        self.stem = deeplab_stem(in_chs, plan.filters, norm_layer=norm_layer)
        self.blocks = nn.ModuleList(blocks)
        self.aspp = aspp()
        self.head = DeepLabDecoder(plan, num_classes, norm_layer=norm_layer)

    def _first(self, images: Tensor) -> Features:
        """Return what stem and layer 1, which is at rate 4, make of images."""
        x = self.stem(images)
        height, width = images.shape[-2:]
        features: Features = self.blocks[0](Features(x, x, (height, width)))
        return features._replace(low_level=features.x)

    def _last(self, features: Features) -> Tensor:
        """Return the logits of the last layer's features."""
        logits: Tensor = self.head(self.aspp(features))
        return logits

    def forward_chain(self) -> list[tuple[ChainLayer, int]]:
        """Return the functions whose composition is the forward, and how many choices set each.

        The number is that of the leading choices which determine all up to and including it. The
        layers are those of now: a supernet's once a strategy has made one. From the first to the
        last they pass `Features` on.
        """
        layers = [(block, at) for at, block in enumerate(self.blocks)]
        return [(self._first, 0), *layers[1:], (self._last, len(layers) - 1)]

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `[B, num_classes, H, W]` of images `[B, in_chs, H, W]`."""
        found: Any = images
        for layer, _ in self.forward_chain():
            found = layer(found)
        logits: Tensor = found
        return logits


class DeepLabNetwork(TrellisModules, nn.Module):
    """Be one architecture of an `AutoDeepLabMacro`: plain torch and timm layers, nothing of NNI's.

    `levels` has a number a layer, 0 for rate 4 to 3 for rate 32, the first of them 0. Stochastic
    depth grows linearly from 0 at the first layer to `drop_path_rate` at the last.
    """

    def __init__(
        self,
        plan: DeepLabPlan,
        levels: Sequence[int],
        *,
        num_classes: int,
        in_chs: int,
        norm_layer: NormLayer = nn.BatchNorm2d,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        TrellisSpace(layers=len(levels)).from_levels(levels)
        check_positive(num_classes=num_classes, in_chs=in_chs)
        check_share("drop_path_rate", drop_path_rate)
        self.num_classes = num_classes
        self.in_chs = in_chs
        last = len(levels) - 1
        moves = zip((0, *levels), levels, strict=False)
        self.build(
            plan,
            (
                LayerMaker(plan, norm_layer, drop_path_rate * at / last).alone(before, after)
                for at, (before, after) in enumerate(moves)
            ),
            lambda: PyramidMaker(plan, norm_layer).alone(levels[-1], levels[-1]),
            num_classes=num_classes,
            in_chs=in_chs,
            norm_layer=norm_layer,
        )

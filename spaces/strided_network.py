"""ResNet18 and ResNet50 with halvings at any three places, as plain networks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Literal, TypeAlias, get_args

import torch.nn.functional as F
from timm.layers.classifier import ClassifierHead
from timm.layers.conv_bn_act import ConvNormAct
from torch import Tensor, nn

from nas_ext.spaces.blocks import NormLayer
from nas_ext.spaces.checks import check_positive, check_share
from nas_ext.spaces.strided_blocks import strided_block, subsample_layer, with_stride
from nas_ext.spaces.timm_network import TimmNetwork

__all__ = [
    "BLOCKS",
    "Depth",
    "Stem",
    "StridedLayers",
    "StridedNetwork",
    "block_widths",
    "check_kind",
    "out_channels",
]

Depth: TypeAlias = Literal[18, 50]
Stem: TypeAlias = Literal["cifar", "imagenet"]

BLOCKS: dict[Depth, tuple[int, ...]] = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}


class PooledStem(ConvNormAct):
    """Be the 7x7 convolution of stride 2 and the 3x3 max-pooling of the ImageNet networks."""

    def forward(self, x: Tensor) -> Tensor:
        maps: Tensor = super().forward(x)  # type: ignore[no-untyped-call]  # timm's has no types
        return F.max_pool2d(maps, 3, stride=2, padding=1)


def block_widths(depth: Depth, width: int) -> tuple[int, ...]:
    """Return the width of each block: it doubles where the usual network halves."""
    return tuple(width << stage for stage, n in enumerate(BLOCKS[depth]) for _ in range(n))


def out_channels(depth: Depth, width: int) -> tuple[int, ...]:
    """Return the channels behind the stem and behind each block."""
    return width, *((4 if depth == 50 else 1) * w for w in block_widths(depth, width))


def check_kind(depth: Depth, stem: Stem) -> None:
    """Raise ValueError for a depth or a stem that there is not."""
    if depth not in get_args(Depth):
        raise ValueError(f"depth must be one of {list(get_args(Depth))}, got {depth!r}")
    if stem not in get_args(Stem):
        raise ValueError(f"stem must be one of {list(get_args(Stem))}, got {stem!r}")


class StridedLayers:
    """Give the model space and its networks the same module tree and the same forward.

    `blocks[i]` is layer i + 2 behind a CIFAR stem, which is layer 1, and layer i + 1 behind an
    ImageNet stem, which is none. To be mixed into a module.
    """

    stem: ConvNormAct
    blocks: nn.ModuleList
    head: ClassifierHead

    def _build(
        self,
        depth: Depth,
        stem: Stem,
        width: int,
        blocks: Iterable[Callable[[int, int], nn.Module]],
        *,
        num_classes: int,
        in_chs: int,
        norm_layer: NormLayer,
    ) -> None:
        if stem == "cifar":
            self.stem = ConvNormAct(in_chs, width, 3, norm_layer=norm_layer)
        else:
            self.stem = PooledStem(in_chs, width, 7, stride=2, norm_layer=norm_layer)
        channels, widths = out_channels(depth, width), block_widths(depth, width)
        self.blocks = nn.ModuleList(
            build(before, inside)
            for build, before, inside in zip(blocks, channels, widths, strict=False)
        )
        self.head = ClassifierHead(channels[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[B, num_classes]` of images `[B, in_chs, H, W]`."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(x)
        return logits


class StridedNetwork(TimmNetwork, StridedLayers):
    """Be one architecture of a `StridedResNet`: plain torch and timm layers, nothing of NNI's.

    `code` is the path code, a digit a layer. Stochastic depth grows linearly from 0 at the first
    block to `drop_path_rate` at the last.
    """

    def __init__(
        self,
        depth: Depth,
        code: str,
        *,
        stem: Stem,
        width: int,
        num_classes: int,
        in_chs: int,
        norm_layer: NormLayer = nn.BatchNorm2d,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        check_kind(depth, stem)
        check_positive(width=width, num_classes=num_classes, in_chs=in_chs)
        check_share("drop_path_rate", drop_path_rate)
        layers = sum(BLOCKS[depth]) + (stem == "cifar")
        if len(code) != layers or code[:1] != "0" or not set(code) <= {"0", "1"}:
            raise ValueError(f"code must be a 0 and {layers - 1} digits 0 or 1, got {code!r}")
        digits = code[-sum(BLOCKS[depth]) :]
        blocks = (
            partial(
                strided_block,
                bottleneck=depth == 50,
                strided=partial(with_stride, digit=digit),
                subsample=partial(subsample_layer, digit),
                norm_layer=norm_layer,
                drop_path=drop_path_rate * at / (len(digits) - 1),
            )
            for at, digit in enumerate(digits)
        )
        own = {"num_classes": num_classes, "in_chs": in_chs}
        self._build(depth, stem, width, blocks, norm_layer=norm_layer, **own)
        strides = [1 if stem == "cifar" else 4, *(1 + int(digit) for digit in digits)]
        self.finish(channels=out_channels(depth, width), strides=strides, **own)

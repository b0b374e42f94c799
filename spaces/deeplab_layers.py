"""The plain layers of segmentation networks over a trellis of resolutions."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from timm.layers.conv_bn_act import ConvNormAct
from timm.layers.drop import DropPath
from timm.layers.separable_conv import SeparableConvNormAct
from torch import Tensor, nn

from nas_ext.spaces.blocks import NormLayer
from nas_ext.trellis import DeepLabPlan

__all__ = [
    "AtrousPyramid",
    "DeepLabDecoder",
    "Features",
    "SeparableResidual",
    "TrellisLayer",
    "deeplab_stem",
    "trellis_move",
]


class Features(NamedTuple):
    """Hold what goes from layer to layer: maps `[B, C, h, w]`, and what the decoder needs besides.

    `low_level` are the maps `[B, C', H / 4, W / 4]` of the first layer, `image_size` is (H, W).
    """

    x: Tensor
    low_level: Tensor
    image_size: tuple[int, int]

    def size(self, level: int) -> tuple[int, int]:
        """Return height and width of maps at a level, as strides round them."""
        height, width = self.low_level.shape[-2:]
        return -(-height // 2**level), -(-width // 2**level)


def separable(
    in_chs: int, out_chs: int, *, norm_layer: NormLayer, dilation: int = 1, apply_act: bool = True
) -> SeparableConvNormAct:
    """Return depthwise conv3x3-conv1x1-norm-ReLU, without bias."""
    return SeparableConvNormAct(
        in_chs,
        out_chs,
        3,
        dilation=dilation,
        norm_layer=norm_layer,  # type: ignore[arg-type]  # timm takes any factory, says a class
        apply_act=apply_act,
    )


class SeparableResidual(nn.Module):
    """Add two separable 3x3 convolutions to what comes in, then ReLU; the shape stays."""

    def __init__(self, chs: int, *, norm_layer: NormLayer, drop_path: float = 0.0) -> None:
        super().__init__()
        self.conv1 = separable(chs, chs, norm_layer=norm_layer)
        self.conv2 = separable(chs, chs, norm_layer=norm_layer, apply_act=False)
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(x + self.drop_path(self.conv2(self.conv1(x))))
        return out


def deeplab_stem(in_chs: int, width: int, *, norm_layer: NormLayer) -> nn.Sequential:
    """Return two 3x3 convolutions with stride 2, which lead to rate 4."""
    return nn.Sequential(
        ConvNormAct(in_chs, width, 3, 2, norm_layer=norm_layer),
        ConvNormAct(width, width, 3, 2, norm_layer=norm_layer),
    )


def trellis_move(
    plan: DeepLabPlan, before: int, after: int, *, norm_layer: NormLayer
) -> nn.Module:
    """Return the convolution between neighbouring levels, nothing where the level stays.

    Down, 3x3 with stride 2; up, 1x1 on maps that are upsampled already.
    """
    if before == after:
        return nn.Identity()
    kernel, stride = (3, 2) if after > before else (1, 1)
    return ConvNormAct(
        plan.width(before), plan.width(after), kernel, stride, norm_layer=norm_layer
    )


class TrellisLayer(nn.Module):
    """Bring features from one level to the same or a neighbouring one, and run a block there."""

    def __init__(self, before: int, after: int, move: nn.Module, block: nn.Module) -> None:
        super().__init__()
        self.before = before
        self.after = after
        self.move = move
        self.block = block

    def forward(self, features: Features) -> Features:
        x = features.x
        if self.after < self.before:
            x = _resized(x, features.size(self.after))
        return features._replace(x=self.block(self.move(x)))

    def extra_repr(self) -> str:
        return f"before={self.before}, after={self.after}"


class AtrousPyramid(nn.Module):
    """Look at a level's features with several reaches at once: ASPP.

    Five branches side by side, a 1x1 convolution, three separable 3x3 ones that are dilated and
    the mean of the image, then a 1x1 convolution over all. Batches of one image cannot be
    normalised by their own statistics: the mean has a single pixel. Source: DeepLabV3+.
    """

    def __init__(self, plan: DeepLabPlan, level: int, *, norm_layer: NormLayer) -> None:
        super().__init__()
        in_chs, out_chs = plan.width(level), plan.decoder_chs
        self.branches = nn.ModuleList([ConvNormAct(in_chs, out_chs, 1, norm_layer=norm_layer)])
        self.branches.extend(
            separable(in_chs, out_chs, norm_layer=norm_layer, dilation=dilation)
            for dilation in plan.dilations(level)
        )
        self.pool = ConvNormAct(in_chs, out_chs, 1, norm_layer=norm_layer)
        self.project = ConvNormAct(5 * out_chs, out_chs, 1, norm_layer=norm_layer)

    def forward(self, features: Features) -> Features:
        x = features.x
        mean = self.pool(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[-2:])
        found = torch.cat([*(branch(x) for branch in self.branches), mean], dim=1)
        return features._replace(x=self.project(found))


class DeepLabDecoder(nn.Module):
    """Make logits of features: beside low-level ones at rate 4, then upsampled to the image.

    Source: DeepLabV3+.
    """

    def __init__(self, plan: DeepLabPlan, num_classes: int, *, norm_layer: NormLayer) -> None:
        super().__init__()
        chs, low_level_chs = plan.decoder_chs, plan.low_level_chs
        self.low_level = ConvNormAct(plan.width(0), low_level_chs, 1, norm_layer=norm_layer)
        self.conv1 = separable(chs + low_level_chs, chs, norm_layer=norm_layer)
        self.conv2 = separable(chs, chs, norm_layer=norm_layer)
        self.classifier = nn.Conv2d(chs, num_classes, 1)

    def forward(self, features: Features) -> Tensor:
        """Return logits `[B, num_classes, H, W]`."""
        x = _resized(features.x, features.size(0))
        x = self.conv1(torch.cat([x, self.low_level(features.low_level)], dim=1))
        return _resized(self.classifier(self.conv2(x)), features.image_size)


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    if x.shape[-2:] == size:
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)

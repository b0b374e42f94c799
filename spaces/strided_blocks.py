"""Residual blocks that halve the resolution inside, and the slots that choose whether they do."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch.nn.functional as F
from timm.layers.drop import DropPath
from timm.models.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn

from nas_ext.nni import Categorical
from nas_ext.spaces.blocks import NormLayer, PathSamplingSlot, PoolSlot, Slot

__all__ = [
    "PathSamplingStrideSlot",
    "PathSamplingSubsampleSlot",
    "StrideSlot",
    "Subsample",
    "SubsampleSlot",
    "strided_block",
    "with_stride",
]


class Subsample(nn.Module):
    """Keep every second row and column, as a convolution of stride 2 with an identity would."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, ::2, ::2]


def with_stride(conv: nn.Conv2d, digit: str) -> nn.Conv2d:
    """Return the convolution with the stride that a digit of a path code stands for, 2 or 1."""
    conv.stride = (2, 2) if digit == "1" else (1, 1)
    return conv


def subsample_layer(digit: str) -> nn.Module:
    """Return the layer that an identity shortcut needs beside a block of the same stride."""
    return Subsample() if digit == "1" else nn.Identity()


class StrideSlot(Slot):
    """Be a convolution without bias whose stride is 2 or 1, as the path code says.

    It pads by half the side of its kernel, so that stride 1 keeps the size. Both strides have
    the weights of `conv`, under the name that they would have there.
    """

    def __init__(self, choice: Categorical[str], position: int, conv: nn.Conv2d) -> None:
        super().__init__(choice, position, conv)
        self.weight = conv.weight

    @property
    def arguments(self) -> tuple[Any, ...]:
        """Return what another slot is built of that does the same with the same weights."""
        return *super().arguments, self

    @classmethod
    def create_fixed_module(
        cls, sample: dict[str, Any], choice: Categorical[str], position: int, conv: nn.Conv2d
    ) -> nn.Module:
        """Return the convolution that stands here under NNI's `model_context(sample)`."""
        return with_stride(conv, choice.freeze(sample)[position])

    def freeze(self, sample: dict[str, Any]) -> nn.Module:
        """Return a sample's convolution with a copy of the weights.

        Raises NNI's SampleValidationError when the sample has none.
        """
        digit = self.choice.freeze(sample)[self.position]
        out_chs, in_chs, kernel, _ = self.weight.shape
        conv = nn.Conv2d(in_chs, out_chs, kernel, padding=kernel // 2, bias=False)
        conv.weight = deepcopy(self.weight)
        return with_stride(conv, digit)

    def route(self, x: Tensor, digit: str) -> Tensor:
        """Return `[B, C', H, W]` or, with stride 2, `[B, C', ceil(H / 2), ceil(W / 2)]`."""
        stride = 2 if digit == "1" else 1
        return F.conv2d(x, self.weight, None, stride, self.weight.shape[-1] // 2)


class SubsampleSlot(PoolSlot):
    """Keep every second pixel of an identity shortcut, or all, as the path code says."""

    @staticmethod
    def layer(digit: str) -> nn.Module:
        """Return the plain layer that stands here for a digit of the path code."""
        return subsample_layer(digit)


class PathSamplingStrideSlot(StrideSlot, PathSamplingSlot):
    """Stand for a `StrideSlot` in a supernet and follow the sampled path code."""

    stands_for = StrideSlot


class PathSamplingSubsampleSlot(SubsampleSlot, PathSamplingSlot):
    """Stand for a `SubsampleSlot` in a supernet and follow the sampled path code."""

    stands_for = SubsampleSlot


def strided_block(
    in_chs: int,
    width: int,
    *,
    bottleneck: bool,
    strided: Callable[[nn.Conv2d], nn.Module],
    subsample: Callable[[], nn.Module],
    norm_layer: NormLayer,
    drop_path: float = 0.0,
) -> nn.Module:
    """Return timm's basic block or bottleneck, whose 3x3 convolution may have stride 2.

    `strided` makes what stands for the convolutions that the stride belongs to, the first 3x3
    one and the projection; `subsample` what stands in the shortcut where there is no projection.
    A bottleneck puts out four times its width.
    """
    kind = Bottleneck if bottleneck else BasicBlock
    out_chs = width * kind.expansion
    downsample = subsample()
    if in_chs != out_chs:
        projection = strided(nn.Conv2d(in_chs, out_chs, 1, bias=False))
        downsample = nn.Sequential(projection, norm_layer(out_chs))
    block: Any = kind(
        in_chs,
        width,
        downsample=downsample,
        norm_layer=norm_layer,  # type: ignore[arg-type]  # timm takes any factory, says a class
        drop_path=DropPath(drop_path) if drop_path > 0 else None,
    )
    name = "conv2" if bottleneck else "conv1"
    setattr(block, name, strided(getattr(block, name)))
    found: nn.Module = block
    return found

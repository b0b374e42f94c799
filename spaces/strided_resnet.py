"""ResNet18 and ResNet50 whose only question is which blocks halve the resolution."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import nn

from nas_ext.architecture import Architecture
from nas_ext.nni import ModelSpace, current_model
from nas_ext.pooling import PoolingSpace
from nas_ext.spaces.blocks import NormLayer, pooling_choice, supernet_norm
from nas_ext.spaces.checks import check_positive
from nas_ext.spaces.pooling_positions import PoolingPositions
from nas_ext.spaces.strided_blocks import (
    PathSamplingStrideSlot,
    PathSamplingSubsampleSlot,
    StrideSlot,
    SubsampleSlot,
    strided_block,
    with_stride,
)
from nas_ext.spaces.strided_network import (
    BLOCKS,
    Depth,
    Stem,
    StridedLayers,
    StridedNetwork,
    block_widths,
    check_kind,
    out_channels,
)

__all__ = ["StridedResNet"]

POOLINGS = 3


class StridedResNet(PoolingPositions, StridedLayers, ModelSpace):  # type: ignore[misc]  # NNI: no types
    """Search which blocks of a ResNet18 or ResNet50 halve the resolution, three in all.

    Layer 1 is the CIFAR stem, a 3x3 convolution, or, behind the ImageNet stem, the first block:
    it never halves. A block halves by stride 2 of its (first) 3x3 convolution and of its
    projection; a block without a projection keeps every second pixel of its input for the sum.
    Channels depend on the layer only. 56, 35, 560 and 455 architectures.
    Source: chapter 2, section 2.2.1 and Table 2.7.

    Departure: in the published code of ResNet50 the last block never halves, so that the
    architectures with n_3 = 1 had two halvings only. Here all have three, so that Table 2.5,
    three of whose four best architectures were such ones, is not to be reproduced.

    Norm layers, `network` and NNI's ways of freezing are as in `PoolingResNet`.
    """

    kinds = (PathSamplingStrideSlot, PathSamplingSubsampleSlot)

    if TYPE_CHECKING:
        # NNI's __new__ may return a fixed module instead, but not for model spaces.
        def __new__(cls, **arguments: Any) -> StridedResNet: ...

    def __init__(
        self,
        *,
        depth: Depth,
        stem: Stem = "cifar",
        width: int = 64,
        num_classes: int = 10,
        in_chs: int = 3,
    ) -> None:
        super().__init__()
        check_kind(depth, stem)
        check_positive(width=width, num_classes=num_classes, in_chs=in_chs)
        self.depth: Depth = depth
        self.stem_kind: Stem = stem
        self.width, self.num_classes, self.in_chs = width, num_classes, in_chs
        blocks = block_widths(depth, width)
        self.widths = (width, *blocks) if stem == "cifar" else blocks
        self.stem_stride = 1 if stem == "cifar" else 4
        self.search_space = PoolingSpace(
            layers=len(self.widths), poolings=POOLINGS, name=f"pooling-resnet{depth}"
        )
        norm_layer = supernet_norm if current_model() is None else nn.BatchNorm2d
        self._build(
            depth,
            stem,
            width,
            self._searched_blocks(norm_layer),
            num_classes=num_classes,
            in_chs=in_chs,
            norm_layer=norm_layer,
        )

    def _searched_blocks(self, norm_layer: NormLayer) -> Iterator[Callable[[int, int], nn.Module]]:
        """Yield what builds each block, with slots wherever a layer may halve."""
        choice = pooling_choice(self.search_space)
        first = len(self.widths) - sum(BLOCKS[self.depth])
        for position in range(first, len(self.widths)):
            strided: Callable[[nn.Conv2d], nn.Module] = partial(StrideSlot, choice, position)
            subsample: Callable[[], nn.Module] = partial(SubsampleSlot, choice, position)
            if position == 0:
                strided, subsample = partial(with_stride, digit="0"), nn.Identity
            yield partial(
                strided_block,
                bottleneck=self.depth == 50,
                strided=strided,
                subsample=subsample,
                norm_layer=norm_layer,
            )

    @property
    def arguments(self) -> dict[str, Any]:
        """Return, for JSON, the arguments of `nas_ext.spaces.create` that rebuild the space."""
        own = {"name": self.search_space.name, "stem": self.stem_kind, "width": self.width}
        return {**own, "num_classes": self.num_classes, "in_chs": self.in_chs}

    def network(
        self,
        architecture: Architecture,
        *,
        num_classes: int | None = None,
        in_chs: int | None = None,
        drop_path_rate: float = 0.0,
    ) -> StridedNetwork:
        """Return one architecture as a fresh, ordinary network with affine, tracked batch norm.

        Its state-dict keys are those of the space under `model_context`, and hold those of the
        frozen space. The space's numbers of classes and channels apply where none is given.
        """
        return StridedNetwork(
            self.depth,
            self.search_space.code(architecture),
            stem=self.stem_kind,
            width=self.width,
            num_classes=self.num_classes if num_classes is None else num_classes,
            in_chs=self.in_chs if in_chs is None else in_chs,
            drop_path_rate=drop_path_rate,
        )

    def forward_chain(self) -> list[tuple[nn.Module, int]]:
        """Return the layers in order, each with the number of choices that determine it."""
        blocks = [*self.blocks]
        before = len(self.widths) - len(blocks)
        chain: list[tuple[nn.Module, int]] = [(self.stem, 0)]
        chain += [(block, at + before) for at, block in enumerate(blocks)]
        return [*chain, (self.head, len(self.widths) - 1)]

    def macs(self, architecture: Architecture, *, image_size: tuple[int, int]) -> int:
        """Count the multiply-accumulates of convolutions and head for one image, exactly.

        `image_size` is (H, W); stride 2 keeps the odd row and column. Norm, ReLU, pooling and
        sums count nothing. Raises ValueError for images too small for the halvings.
        """
        self.check_image_size(image_size, architecture)
        height, width = image_size
        kernel = 9
        if self.stem_kind == "imagenet":
            kernel, height, width = 49, _half(height), _half(width)
        total = kernel * self.in_chs * self.width * height * width
        if self.stem_kind == "imagenet":
            height, width = _half(height), _half(width)
        channels = out_channels(self.depth, self.width)
        widths = block_widths(self.depth, self.width)
        for digit, before, inside, after in zip(
            self.search_space.code(architecture)[-len(widths) :],
            channels,
            widths,
            channels[1:],
            strict=False,
        ):
            at_input, at_output = _weights(before, inside, after)
            total += at_input * height * width
            if digit == "1":
                height, width = _half(height), _half(width)
            total += at_output * height * width
        return total + channels[-1] * self.num_classes

    def parameter_count(self, architecture: Architecture) -> int:
        """Count the parameters of `network(architecture)`: the same for all architectures."""
        self.search_space.check(architecture)
        channels = out_channels(self.depth, self.width)
        kernel = 9 if self.stem_kind == "cifar" else 49
        total = (kernel * self.in_chs + 2) * self.width
        for before, inside, after in zip(
            channels, block_widths(self.depth, self.width), channels[1:], strict=False
        ):
            norms = after + (inside if after == inside else 2 * inside)
            norms += after if before != after else 0
            total += sum(_weights(before, inside, after)) + 2 * norms
        return total + (channels[-1] + 1) * self.num_classes


def _half(side: int) -> int:
    return (side + 1) // 2


def _weights(in_chs: int, width: int, out_chs: int) -> tuple[int, int]:
    """Count the weights that a block uses once for every pixel of its input, and of its output.

    A bottleneck puts out more channels than it is wide, a basic block as many.
    """
    projection = in_chs * out_chs if in_chs != out_chs else 0
    if width == out_chs:
        return 0, 9 * in_chs * width + 9 * width * width + projection
    return in_chs * width, 9 * width * width + width * out_chs + projection

"""Residual networks whose only question is where the resolution is halved."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from timm.layers.classifier import ClassifierHead
from timm.layers.conv_bn_act import ConvNormAct
from torch import Tensor, nn

from nas_ext.architecture import Architecture
from nas_ext.nni import ModelSpace, current_model
from nas_ext.pooling import PoolingSpace, resnet_macs
from nas_ext.spaces.blocks import (
    NormLayer,
    PoolSlot,
    pool_layer,
    pooling_choice,
    residual_block,
    supernet_norm,
)
from nas_ext.spaces.checks import check_positive, check_share, check_widths
from nas_ext.spaces.pooling_positions import PoolingPositions
from nas_ext.spaces.strided_network import Stem
from nas_ext.spaces.strided_resnet import StridedResNet
from nas_ext.spaces.timm_network import TimmNetwork

__all__ = ["PoolingNetwork", "PoolingResNet"]

RESNET20, MINI, GENERAL = "pooling-resnet20", "mini-pooling", "pooling-resnet"
MINI_WIDTHS = (4, 4, 4, 4, 8, 8, 16, 16)


def _resnet20_widths(width: int) -> tuple[int, ...]:
    return (width,) * 4 + (2 * width,) * 3 + (4 * width,) * 3


class _Layers:
    """Give the model space and its networks the same module tree and the same forward.

    Weights then move between them by name: `stem` is layer 1, `blocks[i]` is layer i + 2, and
    `pools[i]`, which has no parameters, stands in front of it. To be mixed into a module.
    """

    stem: ConvNormAct
    pools: nn.ModuleList
    blocks: nn.ModuleList
    head: ClassifierHead

    def _build(
        self,
        widths: Sequence[int],
        pools: Iterable[nn.Module],
        *,
        num_classes: int,
        in_chs: int,
        norm_layer: NormLayer,
        drop_path_rate: float = 0.0,
    ) -> None:
        self.stem = ConvNormAct(in_chs, widths[0], 3, norm_layer=norm_layer)
        self.pools = nn.ModuleList(pools)
        blocks = len(widths) - 1
        self.blocks = nn.ModuleList(
            residual_block(
                widths[at],
                widths[at + 1],
                norm_layer=norm_layer,
                drop_path=drop_path_rate * at / max(blocks - 1, 1),
            )
            for at in range(blocks)
        )
        self.head = ClassifierHead(widths[-1], num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last layer's feature maps, `[B, C, H, W]`, of images `[B, in_chs, H, W]`."""
        x = self.stem(x)
        for pool, block in zip(self.pools, self.blocks, strict=True):
            x = block(pool(x))
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[B, num_classes]` of images `[B, in_chs, H, W]`."""
        logits: Tensor = self.head(self.forward_features(x))
        return logits


class PoolingNetwork(TimmNetwork, _Layers):
    """Be one architecture of a `PoolingResNet`: plain torch and timm layers, nothing of NNI's.

    `widths` are the channels, a number a layer, stem first; `code` is the path code, a digit a
    layer. Stochastic depth grows linearly from 0 at the first block to `drop_path_rate` at the
    last.
    """

    def __init__(
        self,
        widths: Sequence[int],
        code: str,
        *,
        num_classes: int,
        in_chs: int,
        norm_layer: NormLayer = nn.BatchNorm2d,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        check_widths(widths)
        if len(code) != len(widths) or code[:1] != "0" or not set(code) <= {"0", "1"}:
            raise ValueError(f"code must be a 0 and {len(widths) - 1} digits 0 or 1, got {code!r}")
        check_positive(num_classes=num_classes, in_chs=in_chs)
        check_share("drop_path_rate", drop_path_rate)
        self._build(
            widths,
            map(pool_layer, code[1:]),
            num_classes=num_classes,
            in_chs=in_chs,
            norm_layer=norm_layer,
            drop_path_rate=drop_path_rate,
        )
        strides = [1 + int(digit) for digit in code]
        self.finish(channels=widths, strides=strides, num_classes=num_classes, in_chs=in_chs)

    def run_block(self, index: int, x: Tensor) -> Tensor:
        """Return what the pooling, if there is one, and the block at `index` make of x."""
        found: Tensor = self.blocks[index](self.pools[index](x))
        return found


class PoolingResNet(PoolingPositions, _Layers, ModelSpace):  # type: ignore[misc]  # NNI has no types
    """Search where a residual network of L layers halves its resolution.

    Layer 1 is the stem, the others are residual blocks; all convolutions have stride 1 and no
    bias. A pooling, 2x2 max-pooling with stride 2, stands in front of a layer, never of the stem.
    Channels depend on the layer only, so all architectures have the same parameters.
    Source: chapter 2, section 2.2.1.

    Built to be searched, its norm layers are `supernet_norm`: batch statistics, no parameters.
    Built under NNI's `model_context(sample)`, it is that architecture with ordinary batch norm,
    ready for training from scratch. `network` gives the same without NNI. NNI's `freeze(sample)`
    keeps the supernet's weights and norm; what it returns shares no parameter with the supernet.
    """

    if TYPE_CHECKING:
        # NNI's __new__ may return a fixed module instead, but not for model spaces.
        def __new__(cls, **arguments: Any) -> PoolingResNet: ...

    def __init__(
        self, *, widths: Sequence[int], poolings: int, num_classes: int = 10, in_chs: int = 3
    ) -> None:
        super().__init__()
        check_widths(widths)
        check_positive(poolings=poolings, num_classes=num_classes, in_chs=in_chs)
        self.widths = tuple(widths)
        self.num_classes = num_classes
        self.in_chs = in_chs
        self.search_space = PoolingSpace(
            layers=len(self.widths), poolings=poolings, name=_preset(self.widths, poolings)["name"]
        )
        choice = pooling_choice(self.search_space)
        self._build(
            self.widths,
            (PoolSlot(choice, position) for position in range(1, len(self.widths))),
            num_classes=num_classes,
            in_chs=in_chs,
            norm_layer=supernet_norm if current_model() is None else nn.BatchNorm2d,
        )

    @classmethod
    def resnet20(cls, *, num_classes: int = 10, in_chs: int = 3, width: int = 16) -> PoolingResNet:
        """Build the space of Pooling-ResNet20: 10 layers, 2 poolings, 36 architectures.

        Channels are `width` four times, twice as many three times, four times as many three times.
        """
        check_positive(width=width)
        widths = _resnet20_widths(width)
        return cls(widths=widths, poolings=2, num_classes=num_classes, in_chs=in_chs)

    @staticmethod
    def resnet18(
        *, num_classes: int = 10, in_chs: int = 3, stem: Stem = "cifar", width: int = 64
    ) -> StridedResNet:
        """Build Pooling-ResNet18, whose blocks halve by stride: 56 architectures, 3 halvings.

        35 behind a stem of ImageNet, which is not searched.
        """
        return StridedResNet(
            depth=18, stem=stem, width=width, num_classes=num_classes, in_chs=in_chs
        )

    @staticmethod
    def resnet50(
        *, num_classes: int = 10, in_chs: int = 3, stem: Stem = "cifar", width: int = 64
    ) -> StridedResNet:
        """Build Pooling-ResNet50, whose blocks halve by stride: 560 architectures, 3 halvings.

        455 behind a stem of ImageNet, which is not searched.
        """
        return StridedResNet(
            depth=50, stem=stem, width=width, num_classes=num_classes, in_chs=in_chs
        )

    @classmethod
    def mini(cls, *, num_classes: int = 10, in_chs: int = 1) -> PoolingResNet:
        """Build the space of the laptop benchmark: 8 layers, 2 poolings, 21 architectures.

        Channels, stem first: 4, 4 4 4, 8 8, 16 16, which is the stem and seven blocks.
        """
        return cls(widths=MINI_WIDTHS, poolings=2, num_classes=num_classes, in_chs=in_chs)

    @property
    def arguments(self) -> dict[str, Any]:
        """Return, for JSON, the arguments of `nas_ext.spaces.create` that rebuild the space."""
        preset = _preset(self.widths, self.search_space.poolings)
        return {**preset, "num_classes": self.num_classes, "in_chs": self.in_chs}

    def forward_chain(self) -> list[tuple[nn.Module, int]]:
        """Return the layers that make up the forward, with the choices that decide up to each.

        They are those of now: a one-shot strategy has put its own slots among them.
        """
        layers = [nn.Sequential(*pair) for pair in zip(self.pools, self.blocks, strict=True)]
        chain: list[tuple[nn.Module, int]] = [(self.stem, 0)]
        chain += [(layer, place) for place, layer in enumerate(layers, 1)]
        return [*chain, (self.head, len(layers))]

    def network(
        self,
        architecture: Architecture,
        *,
        num_classes: int | None = None,
        in_chs: int | None = None,
        drop_path_rate: float = 0.0,
    ) -> PoolingNetwork:
        """Return one architecture as a fresh, ordinary network with affine, tracked batch norm.

        Its state-dict keys are those of the space under `model_context`, and hold those of the
        frozen space. The space's numbers of classes and channels apply where none is given.
        """
        return PoolingNetwork(
            self.widths,
            self.search_space.code(architecture),
            num_classes=self.num_classes if num_classes is None else num_classes,
            in_chs=self.in_chs if in_chs is None else in_chs,
            drop_path_rate=drop_path_rate,
        )

    def macs(self, architecture: Architecture, *, image_size: tuple[int, int]) -> int:
        """Count the multiply-accumulates of convolutions and head for one image, exactly.

        `image_size` is (H, W); pooling drops the odd row and column. Norm, ReLU, pooling and sums
        count nothing. Raises ValueError for images too small for the poolings.
        """
        self.check_image_size(image_size, architecture)
        return resnet_macs(
            self.search_space.stages(architecture),
            self.widths,
            in_chs=self.in_chs,
            num_classes=self.num_classes,
            image_size=image_size,
        )

    def parameter_count(self, architecture: Architecture) -> int:
        """Count the parameters of `network(architecture)`: the same for all architectures."""
        self.search_space.check(architecture)
        total = (9 * self.in_chs + 2) * self.widths[0]
        for before, after in zip(self.widths, self.widths[1:], strict=False):
            norms = 2 if before == after else 3
            total += _block_weights(before, after) + norms * 2 * after
        return total + (self.widths[-1] + 1) * self.num_classes


def _block_weights(in_chs: int, out_chs: int) -> int:
    """Count the convolution weights of a residual block, each used once for every pixel."""
    projection = in_chs * out_chs if in_chs != out_chs else 0
    return 9 * in_chs * out_chs + 9 * out_chs * out_chs + projection


def _preset(widths: tuple[int, ...], poolings: int) -> dict[str, Any]:
    """Return the registry's shortest name, and its arguments, for a space of these layers."""
    if poolings == 2 and widths and widths == _resnet20_widths(widths[0]):
        return {"name": RESNET20, "width": widths[0]}
    if poolings == 2 and widths == MINI_WIDTHS:
        return {"name": MINI}
    return {"name": GENERAL, "widths": list(widths), "poolings": poolings}

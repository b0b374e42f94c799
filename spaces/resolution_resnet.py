"""Residual networks whose every block chooses the resolution that it computes at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import torch.nn.functional as F
from nni.nas.nn.pytorch import LayerChoice
from timm.layers.conv_bn_act import ConvNormAct
from torch import Tensor, nn

from nas_ext.architecture import Architecture, Choice, SearchSpace
from nas_ext.nni import ModelSpace, current_model
from nas_ext.spaces.blocks import NormLayer, residual_block, supernet_norm
from nas_ext.spaces.checks import check_positive, check_share, check_widths
from nas_ext.spaces.timm_network import TimmNetwork

__all__ = ["AtResolution", "ResolutionNetwork", "ResolutionResNet", "Weights"]

RESOLUTION20, RESOLUTION = "resolution-resnet20", "resolution-resnet"

Weights: TypeAlias = Literal["shared", "equal", "independent"]
"""One set of weights for all resolutions, or one for each that begins alike, or at random."""


class AtResolution(nn.Module):
    """Run a block at a lower resolution: `resolution` halvings before it, undone after it.

    U(V(S(x))) with S 2x2 max-pooling `resolution` times, V the block, U the nearest neighbour:
    resolution 0 is the block itself. Returns `[B, C, H, W]` for `[B, C', H, W]`.
    """

    def __init__(self, block: nn.Module, resolution: int) -> None:
        super().__init__()
        if resolution < 0:
            raise ValueError(f"resolution must not be negative, got {resolution}")
        self.block = block
        self.resolution = resolution

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[-2:]
        for _ in range(self.resolution):
            x = F.max_pool2d(x, 2)
        x = self.block(x)
        return F.interpolate(x, size=size, mode="nearest") if self.resolution else x

    def extra_repr(self) -> str:
        return f"resolution={self.resolution}"


class _Layers:
    """Give the model space and its networks the same module tree and the same forward.

    `stem` is layer 1, `blocks[i]` is layer i + 2. To be mixed into a module.
    """

    stem: ConvNormAct
    blocks: nn.ModuleList

    def _build(
        self, in_chs: int, width: int, blocks: Iterable[nn.Module], norm_layer: NormLayer
    ) -> None:
        self.stem = ConvNormAct(in_chs, width, 3, norm_layer=norm_layer)
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[B, num_classes]` of images `[B, in_chs, H, W]`."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return _average(x)


class ResolutionNetwork(TimmNetwork, _Layers):
    """Be one architecture of a `ResolutionResNet`: plain torch and timm layers.

    `widths` are the channels of stem and blocks without the last block, whose channels are the
    classes; `resolutions` has a number of halvings for each block. Stochastic depth grows
    linearly from 0 at the first block to `drop_path_rate` at the last.

    To timm the last block is the classifier, and its input is the features: without a linear
    layer, it is what a new number of classes replaces.
    """

    def __init__(
        self,
        widths: Sequence[int],
        resolutions: Sequence[int],
        *,
        num_classes: int,
        in_chs: int,
        norm_layer: NormLayer = nn.BatchNorm2d,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        check_positive(num_classes=num_classes, in_chs=in_chs)
        check_widths(widths)
        if len(resolutions) != len(widths):
            raise ValueError(
                f"resolutions must be {len(widths)} numbers, one a block, got {list(resolutions)}"
            )
        check_share("drop_path_rate", drop_path_rate)
        channels, last = (*widths, num_classes), max(len(widths) - 1, 1)
        blocks = (
            AtResolution(
                residual_block(
                    channels[at],
                    channels[at + 1],
                    norm_layer=norm_layer,
                    drop_path=drop_path_rate * at / last,
                ),
                resolution,
            )
            for at, resolution in enumerate(resolutions)
        )
        self._build(in_chs, widths[0], blocks, norm_layer)
        self._norm_layer, self._global_pool = norm_layer, "avg"
        self._last_resolution = resolutions[-1]
        strides = [1] * len(widths)
        self.finish(channels=widths, strides=strides, num_classes=num_classes, in_chs=in_chs)

    def note_widths(self) -> None:
        """Set the widths of the features: the channels in front of the last block."""
        self.num_features = self.head_hidden_size = self.feature_info[-1]["num_chs"]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return logits of feature maps, or their means where `pre_logits` is set."""
        if not pre_logits:
            x = self.blocks[-1](x)
        return x.mean((2, 3)) if self._global_pool else x

    def get_classifier(self, name_only: bool = False) -> nn.Module | str:
        """Return the last block, which makes the logits, or its name."""
        return f"blocks.{len(self.blocks) - 1}" if name_only else self.blocks[-1]

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the last block by a fresh one, by nothing for 0 classes.

        `global_pool` is "avg", or "" for maps instead of their means.
        """
        if global_pool not in (None, "", "avg"):
            raise ValueError(f"global_pool must be 'avg' or '', got {global_pool!r}")
        self.num_classes = num_classes
        self._global_pool = self._global_pool if global_pool is None else global_pool
        block: nn.Module = nn.Identity()
        if num_classes:
            like = next(self.parameters())
            block = residual_block(self.num_features, num_classes, norm_layer=self._norm_layer)
            block = AtResolution(block, self._last_resolution).to(like.device, like.dtype)
        self.blocks[-1] = block.train(self.training)


class ResolutionResNet(_Layers, ModelSpace):  # type: ignore[misc]  # NNI has no types
    """Search the resolution that each block of a residual network computes at.

    Layer 1 is the stem, always at full resolution. Each of the other layers is a residual block
    between r halvings and r doublings, r = 0 to `resolutions` - 1, so that all layers see images
    of one size and every product of choices exists. The last block puts out the classes, which
    are averaged over the image: there is no linear layer. `weights` are "shared" by the
    resolutions of a block, or each has its own, "equal" at the start or "independent". The
    choices "layer2", "layer3", ... are NNI's `LayerChoice`s, for any one-shot strategy.

    Source: chapter 2, equations 2.4 and 2.5, in the reading of the published code: r begins at
    0, where the equation's scale 2^r for r = 1 to R has no full resolution. Departures: the
    stem's norm is `supernet_norm` like all others, where the published code tracks its
    statistics; images whose sides 2^r does not divide are brought back to their own size.

    Built under NNI's `model_context(sample)` it is that architecture with ordinary batch norm;
    `network` gives the same without NNI. Networks double resolutions too, so they are none of
    the pooling spaces' and are reported apart from those.
    """

    if TYPE_CHECKING:
        # NNI's __new__ may return a fixed module instead, but not for model spaces.
        def __new__(cls, **arguments: Any) -> ResolutionResNet: ...

    def __init__(
        self,
        *,
        widths: Sequence[int],
        resolutions: int = 3,
        weights: Weights = "shared",
        num_classes: int = 10,
        in_chs: int = 3,
    ) -> None:
        super().__init__()
        check_widths(widths)
        check_positive(resolutions=resolutions, num_classes=num_classes, in_chs=in_chs)
        if weights not in get_args(Weights):
            raise ValueError(f"weights must be one of {list(get_args(Weights))}, got {weights!r}")
        self.widths = tuple(widths)
        self.resolutions = resolutions
        self.weights: Weights = weights
        self.num_classes = num_classes
        self.in_chs = in_chs
        options = tuple(range(resolutions))
        labels = [f"layer{layer}" for layer in range(2, len(self.widths) + 2)]
        self.search_space = SearchSpace(
            self.arguments["name"], [Choice(label, options) for label in labels]
        )
        norm_layer = supernet_norm if current_model() is None else nn.BatchNorm2d
        blocks = [
            LayerChoice(self._branches(before, after, norm_layer), label=label)
            for label, (before, after) in zip(labels, self._channels, strict=True)
        ]
        self._build(in_chs, self.widths[0], blocks, norm_layer)

    @classmethod
    def resnet20(
        cls,
        *,
        num_classes: int = 10,
        in_chs: int = 3,
        width: int = 16,
        weights: Weights = "shared",
    ) -> ResolutionResNet:
        """Build the published space: stem, 9 blocks, 3 resolutions, 19,683 architectures.

        Channels are `width` four times, twice as many four times, four times as many once, and
        the classes.
        """
        check_positive(width=width)
        return cls(
            widths=_resnet20_widths(width), weights=weights, num_classes=num_classes, in_chs=in_chs
        )

    @property
    def _channels(self) -> list[tuple[int, int]]:
        """Return the channels before and after each block."""
        return list(zip(self.widths, (*self.widths[1:], self.num_classes), strict=True))

    def _branches(self, before: int, after: int, norm_layer: NormLayer) -> list[nn.Module]:
        """Return a block at each resolution; with shared weights it is one and the same block."""
        first = residual_block(before, after, norm_layer=norm_layer)
        branches: list[nn.Module] = [AtResolution(first, 0)]
        for resolution in range(1, self.resolutions):
            block = first
            if self.weights != "shared":
                block = residual_block(before, after, norm_layer=norm_layer)
            if self.weights == "equal":
                block.load_state_dict(first.state_dict())
            branches.append(AtResolution(block, resolution))
        return branches

    @property
    def default_architecture(self) -> Architecture | None:
        """Return None: no sequence of resolutions is the usual one."""
        return None

    @property
    def arguments(self) -> dict[str, Any]:
        """Return, for JSON, the arguments of `nas_ext.spaces.create` that rebuild the space."""
        given: dict[str, Any] = {"weights": self.weights}
        if self.resolutions == 3 and self.widths == _resnet20_widths(self.widths[0]):
            given |= {"name": RESOLUTION20, "width": self.widths[0]}
        else:
            given |= {
                "name": RESOLUTION,
                "widths": list(self.widths),
                "resolutions": self.resolutions,
            }
        return {**given, "num_classes": self.num_classes, "in_chs": self.in_chs}

    def forward_chain(self) -> list[tuple[Callable[[Tensor], Tensor], int]]:
        """Return the layers that make up the forward, with the choices that decide up to each.

        They are those of now: a one-shot strategy has put its own choices among them.
        """
        chain: list[tuple[Callable[[Tensor], Tensor], int]] = [(self.stem, 0)]
        chain += [(block, place) for place, block in enumerate(self.blocks, 1)]
        return [*chain, (_average, len(self.blocks))]

    def network(
        self,
        architecture: Architecture,
        *,
        num_classes: int | None = None,
        in_chs: int | None = None,
        drop_path_rate: float = 0.0,
    ) -> ResolutionNetwork:
        """Return one architecture as a fresh, ordinary network with affine, tracked batch norm.

        Its state-dict keys are those of the space under `model_context`. The space's numbers of
        classes and channels apply where none is given.
        """
        return ResolutionNetwork(
            self.widths,
            self.search_space.check(architecture),
            num_classes=self.num_classes if num_classes is None else num_classes,
            in_chs=self.in_chs if in_chs is None else in_chs,
            drop_path_rate=drop_path_rate,
        )

    def check_image_size(
        self, image_size: tuple[int, int], architecture: Architecture | None = None
    ) -> None:
        """Raise ValueError when (H, W) is too small for the halvings.

        They are those of the architecture, where there is one, else the most there can be.
        """
        if architecture is None:
            most, whose = self.resolutions - 1, f"space {self.search_space.name!r}"
        else:
            most = max(self.search_space.check(architecture))
            whose = f"architecture {self.search_space.describe(architecture)}"
        if min(image_size) < 2**most:
            raise ValueError(
                f"image_size must be at least {2**most}x{2**most} for the {most} halvings of "
                f"{whose}, got {image_size[0]}x{image_size[1]}"
            )

    def macs(self, architecture: Architecture, *, image_size: tuple[int, int]) -> int:
        """Count the multiply-accumulates of all convolutions for one image, exactly.

        `image_size` is (H, W); pooling drops the odd row and column. Norm, ReLU, pooling,
        doubling, sums and the mean count nothing. Raises ValueError for images too small.
        """
        self.check_image_size(image_size, architecture)
        height, width = image_size
        total = 9 * self.in_chs * self.widths[0] * height * width
        for (before, after), r in zip(self._channels, architecture, strict=True):
            total += _block_weights(before, after) * (height >> r) * (width >> r)
        return total

    def parameter_count(self, architecture: Architecture) -> int:
        """Count the parameters of `network(architecture)`: the same for all architectures."""
        self.search_space.check(architecture)
        total = (9 * self.in_chs + 2) * self.widths[0]
        for before, after in self._channels:
            norms = 2 if before == after else 3
            total += _block_weights(before, after) + norms * 2 * after
        return total


def _average(x: Tensor) -> Tensor:
    return x.mean((2, 3))


def _resnet20_widths(width: int) -> tuple[int, ...]:
    return (width,) * 4 + (2 * width,) * 4 + (4 * width,)


def _block_weights(in_chs: int, out_chs: int) -> int:
    """Count the convolution weights of a residual block, each used once for every pixel."""
    projection = in_chs * out_chs if in_chs != out_chs else 0
    return 9 * in_chs * out_chs + 9 * out_chs * out_chs + projection

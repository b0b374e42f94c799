"""What the model spaces add to timm's blocks: pooling slots and the norm layer of supernets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, TypeAlias

from timm.layers.conv_bn_act import ConvNormAct
from timm.layers.drop import DropPath
from timm.models.resnet import BasicBlock
from torch import Tensor, nn

from nas_ext.nni import DARTS, BaseSuperNetModule, Categorical, MutableModule
from nas_ext.pooling import LABEL, PoolingSpace

__all__ = [
    "MAX_OPTIONS",
    "MutationHook",
    "NormLayer",
    "PathSamplingPoolSlot",
    "PathSamplingSlot",
    "PoolSlot",
    "Slot",
    "pool_layer",
    "pool_slot_hooks",
    "pooling_choice",
    "residual_block",
    "skip",
    "supernet_norm",
]

MAX_OPTIONS = 2_000
"""The largest pooling space that fits one `Categorical`, which compares all pairs of options."""

MutationHook: TypeAlias = Callable[[nn.Module, str, dict[str, Any], dict[str, Any]], Any]
NormLayer: TypeAlias = Callable[..., nn.Module]

supernet_norm = partial(nn.BatchNorm2d, affine=False, track_running_stats=False)
"""The `norm_layer` of supernets: batch statistics always, in eval mode too, and no parameters.

Running statistics would mix those of all architectures. A `partial`, since timm's `ConvNormAct`
and `InvertedResidual` look through one, but know no subclass. Source: the published supernets.
"""


def residual_block(
    in_chs: int, out_chs: int, *, norm_layer: NormLayer, drop_path: float = 0.0
) -> BasicBlock:
    """Return conv3x3-norm-ReLU-conv3x3-norm with a shortcut, 1x1 where the width changes.

    All convolutions have stride 1 and no bias. `drop_path` is the share of images whose residual
    branch is dropped in training.
    """
    downsample = None
    if in_chs != out_chs:
        projection = nn.Conv2d(in_chs, out_chs, 1, bias=False)
        downsample = nn.Sequential(projection, norm_layer(out_chs))
    return BasicBlock(
        in_chs,
        out_chs,
        downsample=downsample,
        norm_layer=norm_layer,  # type: ignore[arg-type]  # timm takes any factory, says a class
        drop_path=DropPath(drop_path) if drop_path > 0 else None,
    )


def skip(in_chs: int, out_chs: int, *, stride: int, norm_layer: NormLayer) -> nn.Module:
    """Return the layer that an identity is: nothing, or 1x1 convolution and norm.

    The convolution, without activation, stands where the channels or the resolution change.
    Source: NAS-Bench-Macro.
    """
    if in_chs == out_chs and stride == 1:
        return nn.Identity()
    return ConvNormAct(in_chs, out_chs, 1, stride, norm_layer=norm_layer, apply_act=False)


def pooling_choice(search_space: PoolingSpace) -> Categorical[str]:
    """Return the one decision that all slots of a network share: which path code.

    Raises ValueError for more than `MAX_OPTIONS` architectures.
    """
    if search_space.size > MAX_OPTIONS:
        raise ValueError(
            f"search_space must have at most {MAX_OPTIONS:,} architectures for pooling slots, "
            f"got {search_space.size:,}"
        )
    return Categorical([search_space.code(found) for found in search_space], label=LABEL)


def pool_layer(digit: str) -> nn.Module:
    """Return the plain layer that a digit of a path code stands for: max-pooling or nothing."""
    return nn.MaxPool2d(2) if digit == "1" else nn.Identity()


class Slot(MutableModule):  # type: ignore[misc]  # NNI has no types
    """Be a place that does one thing or another as the path code says, in all kinds of space.

    The digit at `position` of the chosen path code decides, position 0 being the first layer. Give
    all slots of a network the same `choice` object (`pooling_choice`): positions depend on each
    other, so they are one joint decision. Before a one-shot strategy has made a supernet of the
    space, `forward` is NNI's dry run: it follows the first path code.

    A subclass says what it does in `route`, and `create_fixed_module` and `freeze` for a sample.
    """

    def __init__(self, choice: Categorical[str], position: int, *rest: Any) -> None:
        super().__init__()
        shortest = min(len(code) for code in choice.values)
        if not 0 <= position < shortest:
            raise ValueError(f"position must lie in [0, {shortest}), got {position}")
        self.position = position
        self.choice: Categorical[str] = self.add_mutable(choice)

    @property
    def arguments(self) -> tuple[Any, ...]:
        """Return what another slot is built of that does the same with the same weights."""
        return self.choice, self.position

    def route(self, x: Tensor, digit: str) -> Tensor:
        """Return what the place makes of feature maps for a digit of the path code."""
        raise NotImplementedError(f"{type(self).__name__} must say what it does")

    def forward(self, x: Tensor) -> Tensor:
        """Return the feature maps `[B, C', H', W']` of the first path code."""
        return self.route(x, self.choice.default()[self.position])


class PoolSlot(Slot):
    """Halve the resolution in front of a layer, or not: 2x2 max-pooling with stride 2."""

    def __init__(self, choice: Categorical[str], position: int) -> None:
        super().__init__(choice, position)
        self.pool = self.layer("1")

    @staticmethod
    def layer(digit: str) -> nn.Module:
        """Return the plain layer that stands here for a digit of the path code."""
        return pool_layer(digit)

    @classmethod
    def create_fixed_module(
        cls, sample: dict[str, Any], choice: Categorical[str], position: int
    ) -> nn.Module:
        """Return the plain layer that stands here under NNI's `model_context(sample)`."""
        return cls.layer(choice.freeze(sample)[position])

    def freeze(self, sample: dict[str, Any]) -> nn.Module:
        """Return the plain layer of a sample; NNI's SampleValidationError when it has none."""
        return self.layer(self.choice.freeze(sample)[self.position])

    def route(self, x: Tensor, digit: str) -> Tensor:
        """Return `[B, C, H, W]` or, pooled, `[B, C, H // 2, W // 2]`."""
        pooled: Tensor = self.pool(x) if digit == "1" else x
        return pooled


class PathSamplingSlot(Slot, BaseSuperNetModule):  # type: ignore[misc]  # NNI has no types
    """Stand for a slot in a supernet and follow the sampled path code.

    `resample(memo)` obeys `memo["pooling"]`, which is how an architecture is forced, and draws
    only when there is none; the first slot's draw then reaches the others through the memo. NNI
    draws uniformly from the operating system's entropy, whatever the seed.

    A subclass derives from the slot that it stands for, first, and from this.
    """

    stands_for: type[Slot]

    def __init__(self, choice: Categorical[str], position: int, *rest: Any) -> None:
        super().__init__(choice, position, *rest)
        self._sampled: str | None = None

    def resample(self, memo: dict[str, Any]) -> dict[str, str]:
        """Follow the memo, or draw; return what was drawn, nothing when the memo decided.

        Raises NNI's SampleValidationError for a path code that does not exist.
        """
        label: str = self.choice.label
        if label in memo:
            self._sampled = self.choice.freeze(memo)
            return {}
        drawn: str = self.choice.random()
        self._sampled = drawn
        return {label: drawn}

    def export(self, memo: dict[str, Any]) -> dict[str, str]:
        """Return a random path code unless the memo has one: slots do not learn."""
        return {} if self.choice.label in memo else {self.choice.label: self.choice.random()}

    def export_probs(self, memo: dict[str, Any]) -> dict[str, dict[str, float]]:
        """Return the probability of each path code unless the memo has them."""
        if self.choice.label in memo:
            return {}
        weights = zip(self.choice.values, self.choice.weights, strict=True)
        return {self.choice.label: dict(weights)}

    @classmethod
    def mutate(
        cls, module: nn.Module, name: str, memo: dict[str, Any], mutate_kwargs: dict[str, Any]
    ) -> PathSamplingSlot | Literal[False]:
        """Replace a slot of the kind this stands for; leave all else to the next hook."""
        return type(module) is cls.stands_for and cls(*module.arguments)

    def forward(self, x: Tensor) -> Tensor:
        """Return the feature maps `[B, C', H', W']` of the sampled path code.

        Raises RuntimeError before the first `resample`.
        """
        if self._sampled is None:
            raise RuntimeError("an architecture must be sampled before the supernet's forward")
        return self.route(x, self._sampled[self.position])


class PathSamplingPoolSlot(PoolSlot, PathSamplingSlot):
    """Stand for a `PoolSlot` in a supernet and follow the sampled path code."""

    stands_for = PoolSlot


def pool_slot_hooks(
    strategy: object, kinds: Sequence[type[PathSamplingSlot]] = (PathSamplingPoolSlot,)
) -> list[MutationHook]:
    """Return what a space's `extra_oneshot_hooks(strategy)` needs to support its kinds of slot.

    Raises TypeError for NNI's differentiable strategies: they relax one layer at a time, and the
    positions of the poolings are one joint choice.
    """
    if isinstance(strategy, DARTS):  # Proxyless and GumbelDARTS are DARTS too
        raise TypeError(
            f"{type(strategy).__name__} relaxes each layer by itself, but the positions of the "
            "poolings are one joint choice: use a strategy that samples architectures, such as "
            "RandomOneShot or those of nas_ext.strategies"
        )
    return [kind.mutate for kind in kinds]

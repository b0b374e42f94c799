"""What the model spaces add to timm's blocks: pooling slots and the norm layer of supernets."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, TypeAlias

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
    "PoolSlot",
    "pool_layer",
    "pool_slot_hooks",
    "pooling_choice",
    "residual_block",
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


class PoolSlot(MutableModule):  # type: ignore[misc]  # NNI has no types
    """Halve the resolution in front of a layer, or not: 2x2 max-pooling with stride 2.

    The digit at `position` of the chosen path code decides, position 0 being the first layer. Give
    all slots of a network the same `choice` object (`pooling_choice`): positions depend on each
    other, so they are one joint decision. Before a one-shot strategy has made a supernet of the
    space, `forward` is NNI's dry run: it follows the first path code.
    """

    def __init__(self, choice: Categorical[str], position: int) -> None:
        super().__init__()
        shortest = min(len(code) for code in choice.values)
        if not 0 <= position < shortest:
            raise ValueError(f"position must lie in [0, {shortest}), got {position}")
        self.position = position
        self.choice: Categorical[str] = self.add_mutable(choice)
        self.pool = nn.MaxPool2d(2)

    @classmethod
    def create_fixed_module(
        cls, sample: dict[str, Any], choice: Categorical[str], position: int
    ) -> nn.Module:
        """Return the plain layer that stands here under NNI's `model_context(sample)`."""
        return pool_layer(choice.freeze(sample)[position])

    def freeze(self, sample: dict[str, Any]) -> nn.Module:
        """Return the plain layer of a sample; NNI's SampleValidationError when it has none."""
        return pool_layer(self.choice.freeze(sample)[self.position])

    def forward(self, x: Tensor) -> Tensor:
        """Return `[B, C, H, W]` or, pooled, `[B, C, H // 2, W // 2]`."""
        return self._route(x, self.choice.default())

    def _route(self, x: Tensor, code: str) -> Tensor:
        pooled: Tensor = self.pool(x) if code[self.position] == "1" else x
        return pooled


class PathSamplingPoolSlot(PoolSlot, BaseSuperNetModule):  # type: ignore[misc]  # NNI has no types
    """Stand for a `PoolSlot` in a supernet and follow the sampled path code.

    `resample(memo)` obeys `memo["pooling"]`, which is how an architecture is forced, and draws
    only when there is none; the first slot's draw then reaches the others through the memo. NNI
    draws uniformly from the operating system's entropy, whatever the seed.
    """

    def __init__(self, choice: Categorical[str], position: int) -> None:
        super().__init__(choice, position)
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
    ) -> PathSamplingPoolSlot | Literal[False]:
        """Replace a pooling slot; leave every other module to the next hook."""
        return type(module) is PoolSlot and cls(module.choice, module.position)

    def forward(self, x: Tensor) -> Tensor:
        """Return `[B, C, H, W]` or, pooled, `[B, C, H // 2, W // 2]`.

        Raises RuntimeError before the first `resample`.
        """
        if self._sampled is None:
            raise RuntimeError("an architecture must be sampled before the supernet's forward")
        return self._route(x, self._sampled)


def pool_slot_hooks(strategy: object) -> list[MutationHook]:
    """Return what a space's `extra_oneshot_hooks(strategy)` needs to support pooling slots.

    Raises TypeError for NNI's differentiable strategies: they relax one layer at a time, and the
    positions of the poolings are one joint choice.
    """
    if isinstance(strategy, DARTS):  # Proxyless and GumbelDARTS are DARTS too
        raise TypeError(
            f"{type(strategy).__name__} relaxes each layer by itself, but the positions of the "
            "poolings are one joint choice: use a strategy that samples architectures, such as "
            "RandomOneShot or those of nas_ext.strategies"
        )
    return [PathSamplingPoolSlot.mutate]

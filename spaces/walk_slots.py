"""Slots whose layers follow a walk: joint choices that are too many to be listed in one."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any, Literal, Protocol

import numpy as np
from torch import nn

from nas_ext.nni import (
    DARTS,
    BaseSuperNetModule,
    Categorical,
    MutableModule,
    SampleValidationError,
)
from nas_ext.spaces.blocks import MutationHook
from nas_ext.spaces.deeplab_layers import Features
from nas_ext.trellis import RATES, TrellisSpace

__all__ = ["LevelLayers", "PathSamplingWalkSlot", "Walk", "WalkSlot", "walk_slot_hooks"]


class Walk:
    """Hold the choices of a trellis, one a layer, which all slots of a network share.

    Choices depend on the one before: what NNI draws one by one need not be a walk, and is refused
    by every slot that it concerns. `draw` goes on with a walk, uniformly over the whole walks.
    """

    def __init__(self, space: TrellisSpace) -> None:
        if space.first != "fixed":
            raise ValueError(f"space must have its first layer fixed at rate 4, got {space!r}")
        self.space = space
        self.choices = [
            Categorical(choice.options, label=choice.label) for choice in space.choices
        ]

    def moves(self, position: int) -> list[tuple[int, int]]:
        """Return the levels before and after the choice at a position, for all walks."""
        before = [0] if position == 0 else range(len(self.space.choices[position - 1].options))
        after = range(len(self.space.choices[position].options))
        return [(one, other) for one in before for other in after if abs(one - other) <= 1]

    def levels(self, sample: dict[str, Any], position: int) -> tuple[int, int]:
        """Return the levels before and after the choice at a position.

        Raises NNI's SampleValidationError when the sample has none, or no neighbours.
        """
        here = self.choices[position]
        after = RATES.index(here.freeze(sample))
        before = RATES.index(self.choices[position - 1].freeze(sample)) if position else 0
        if abs(before - after) > 1:
            raise SampleValidationError(
                f"rates of neighbouring layers must differ by one level at most, got "
                f"{RATES[before]} before {here.label!r} and {RATES[after]} there"
            )
        return before, after

    def draw(self, sample: dict[str, Any], position: int, rng: np.random.Generator) -> int:
        """Return a rate for the choice at a position that goes on with those before it."""
        state = 0 if position == 0 else self.levels(sample, position - 1)[1]
        options, _, counts = zip(*self.space.branches(position, state), strict=True)
        shares = np.asarray(counts, dtype=np.float64)
        return RATES[int(rng.choice(options, p=shares / shares.sum()))]

    def shares(self, position: int) -> dict[int, float]:
        """Return the share of all walks that have each rate at a position."""
        reached: Counter[Hashable] = Counter({self.space.start: 1})
        through: Counter[int] = Counter()
        for place in range(position + 1):
            following: Counter[Hashable] = Counter()
            for state, walks in reached.items():
                for option, after, completions in self.space.branches(place, state):
                    following[after] += walks
                    through[option] += walks * completions * (place == position)
            reached = following
        return {RATES[option]: walks / self.space.size for option, walks in through.items()}


class LevelLayers(Protocol):
    """Make the layers of one place of a network, which depend on the levels before and after."""

    def alone(self, before: int, after: int) -> nn.Module:
        """Return a fresh layer for these levels."""
        ...

    def shared(self, moves: Sequence[tuple[int, int]]) -> SharedLayers:
        """Return the weights of the layers for all of these levels."""
        ...


class SharedLayers(nn.Module):
    """Hold the weights of all layers that can stand at a place."""

    def pick(self, before: int, after: int) -> nn.Module:
        """Return the layer for these levels, on the weights that are held here."""
        raise NotImplementedError(f"{type(self).__name__} must say which layer it is")


class WalkSlot(MutableModule):  # type: ignore[misc]  # NNI has no types
    """Be the place of a layer that depends on the choice at `position` and the one before it.

    Under NNI's `model_context(sample)` the plain layer stands here instead. Before a one-shot
    strategy has made a supernet of the space, `forward` is NNI's dry run: rate 4 everywhere.
    """

    def __init__(
        self,
        walk: Walk,
        position: int,
        layers: LevelLayers,
        shared: SharedLayers | None = None,
    ) -> None:
        super().__init__()
        self.walk = walk
        self.position = position
        self.layers = layers
        self.choice: Categorical[Any] = self.add_mutable(walk.choices[position])
        self.shared = layers.shared(walk.moves(position)) if shared is None else shared

    @classmethod
    def create_fixed_module(
        cls, sample: dict[str, Any], walk: Walk, position: int, layers: LevelLayers
    ) -> nn.Module:
        """Return the fresh plain layer that stands here under NNI's `model_context(sample)`."""
        return layers.alone(*walk.levels(sample, position))

    def check_contains(self, sample: dict[str, Any]) -> SampleValidationError | None:
        """Return NNI's error when the sample is no walk here, None when it is."""
        try:
            self.walk.levels(sample, self.position)
        except SampleValidationError as error:
            return error
        return None

    def freeze(self, sample: dict[str, Any]) -> nn.Module:
        """Return a copy of the layer of a sample; NNI's SampleValidationError when it has none."""
        return copy.deepcopy(self.shared.pick(*self.walk.levels(sample, self.position)))

    def forward(self, features: Features) -> Features:
        found: Features = self.shared.pick(0, 0)(features)
        return found


class PathSamplingWalkSlot(WalkSlot, BaseSuperNetModule):  # type: ignore[misc]  # NNI has no types
    """Stand for a `WalkSlot` in a supernet and follow the sampled walk.

    `resample(memo)` obeys the memo, which is how an architecture is forced, and draws where it has
    nothing: slot after slot, a walk, all walks being equally likely. As NNI's own draws these come
    from the operating system's entropy, whatever the seed.
    """

    def __init__(
        self,
        walk: Walk,
        position: int,
        layers: LevelLayers,
        shared: SharedLayers | None = None,
    ) -> None:
        super().__init__(walk, position, layers, shared)
        self._sampled: tuple[int, int] | None = None

    def resample(self, memo: dict[str, Any]) -> dict[str, int]:
        """Follow the memo, or draw; return what was drawn, nothing when the memo decided.

        Raises NNI's SampleValidationError for rates that are no walk.
        """
        drawn = self.export(memo)
        self._sampled = self.walk.levels({**memo, **drawn}, self.position)
        return drawn

    def export(self, memo: dict[str, Any]) -> dict[str, int]:
        """Return a random rate that goes on with the memo's, unless it has one."""
        if self.choice.label in memo:
            return {}
        return {self.choice.label: self.walk.draw(memo, self.position, np.random.default_rng())}

    def export_probs(self, memo: dict[str, Any]) -> dict[str, dict[int, float]]:
        """Return the probability of each rate, whatever the others, unless the memo has them."""
        if self.choice.label in memo:
            return {}
        return {self.choice.label: self.walk.shares(self.position)}

    @classmethod
    def mutate(
        cls, module: nn.Module, name: str, memo: dict[str, Any], mutate_kwargs: dict[str, Any]
    ) -> PathSamplingWalkSlot | Literal[False]:
        """Replace a slot and keep its weights; leave every other module to the next hook."""
        if type(module) is not WalkSlot:
            return False
        return cls(module.walk, module.position, module.layers, module.shared)

    def forward(self, features: Features) -> Features:
        """Run the layer of the sampled walk; RuntimeError before the first `resample`."""
        if self._sampled is None:
            raise RuntimeError("an architecture must be sampled before the supernet's forward")
        found: Features = self.shared.pick(*self._sampled)(features)
        return found


def walk_slot_hooks(strategy: object) -> list[MutationHook]:
    """Return what a space's `extra_oneshot_hooks(strategy)` needs to support walk slots.

    Raises TypeError for NNI's differentiable strategies: they relax one layer at a time, and a
    layer's weights depend on the level before it too.
    """
    if isinstance(strategy, DARTS):  # Proxyless and GumbelDARTS are DARTS too
        raise TypeError(
            f"{type(strategy).__name__} relaxes each layer by itself, but the rates of "
            "neighbouring layers depend on each other: use a strategy that samples architectures, "
            "such as RandomOneShot or those of nas_ext.strategies"
        )
    return [PathSamplingWalkSlot.mutate]

"""Settings and phases that the tree strategies share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from nas_ext.oneshot import SampledStrategy
from nas_ext.samplers import TreeSampler
from nas_ext.schedule import Schedule, linear
from nas_ext.search import Phase, Setting
from nas_ext.tree import Tree, tree_from_state

__all__ = ["GrowTree", "TreeStrategy", "check_shares"]

GrowTree: TypeAlias = Callable[[Setting], Tree]


@dataclass(kw_only=True, eq=False)
class TreeStrategy(SampledStrategy):
    """A strategy that ends in Boltzmann walks over UCT scores.

    The temperature falls linearly from `temperature` to `final_temperature` over the last phase;
    `exploration` is the UCT constant lambda, `decay` the beta of the moving averages, and
    `initial_value` the value of a node before its first reward: 1 makes early walks explore, None
    takes the first reward. The `candidates` are the greedy visited leaf and walks without
    exploration at the final temperature, or every visited leaf of a space that is no larger.
    Sections 3.2 and 3.6.
    """

    temperature: float = 0.02
    final_temperature: float = 0.0025
    exploration: float = 0.5
    decay: float = 0.95
    initial_value: float | None = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("temperature", "final_temperature"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.final_temperature > self.temperature:
            raise ValueError(
                f"final_temperature must not exceed temperature {self.temperature}, "
                f"got {self.final_temperature}"
            )
        if not 0 <= self.exploration < math.inf:
            raise ValueError(f"exploration must not be negative, got {self.exploration}")
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay must lie in [0, 1), got {self.decay}")
        if self.initial_value is not None and not 0 <= self.initial_value <= 1:
            raise ValueError(f"initial_value must lie in [0, 1] or be None: {self.initial_value}")

    def warm_up(
        self, name: str, steps: int, grow: GrowTree, *, reinitialise: bool = False
    ) -> Phase:
        """Return the phase that draws uniformly and keeps the statistics of a new tree."""
        return Phase(name, steps, lambda s: self._sampler(s, grow, None), reinitialise)

    def walks(self, name: str, steps: int) -> Phase:
        """Return the phase that walks down the tree of the phase before."""
        temperature = linear(self.temperature, self.final_temperature, steps)
        return Phase(name, steps, lambda s: self._sampler(s, _tree_before, temperature))

    def _sampler(
        self, setting: Setting, grow: GrowTree, temperature: Schedule | None
    ) -> TreeSampler:
        if setting.restoring is not None:
            tree = tree_from_state(setting.space, setting.restoring["tree"])
        else:
            tree = grow(setting)
        return TreeSampler(
            setting.space,
            setting.rng,
            tree=tree,
            temperature=temperature,
            final_temperature=self.final_temperature,
            exploration=self.exploration,
            decay=self.decay,
            initial=self.initial_value,
        )


def check_shares(shares: Sequence[float], phases: int) -> None:
    """Raise ValueError unless there is a positive share for each phase."""
    if len(shares) != phases or not all(0 < share < math.inf for share in shares):
        raise ValueError(f"shares must be {phases} positive numbers, got {list(shares)}")


def _tree_before(setting: Setting) -> Tree:
    if not isinstance(setting.previous, TreeSampler):
        raise RuntimeError("the phase before walks must have a tree")
    return setting.previous.tree

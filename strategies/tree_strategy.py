"""Settings and phases that the tree strategies share."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from nas_ext.architecture import ENUMERABLE
from nas_ext.estimation import FloatArray
from nas_ext.samplers import TreeSampler
from nas_ext.samplers.weighted_tree import WeightedTreeSampler
from nas_ext.schedule import Schedule, linear
from nas_ext.search import Phase, Setting
from nas_ext.strategies.rewarded import RewardedStrategy
from nas_ext.tree import Tree, tree_from_state

__all__ = ["GrowTree", "TreeStrategy"]

GrowTree: TypeAlias = Callable[[Setting], Tree]

WARM_UP_DISTANCES = ("cosine", "l2", "kl", "cross-entropy", "gradient", "encoding")


@dataclass(kw_only=True, eq=False)
class TreeStrategy(RewardedStrategy):
    """A strategy that ends in Boltzmann walks over UCT scores.

    The temperature falls linearly from `temperature` to `final_temperature` over the last phase;
    `exploration` is the UCT constant lambda, `decay` the beta of the moving averages, and
    `initial_value` the value of a node before its first reward: 1 makes early walks explore, None
    takes the first reward. The `candidates` are the greedy visited leaf and walks without
    exploration at the final temperature, or every visited leaf of a space that is no larger.
    Sections 3.2 and 3.6. Scores are recomputed at every walk: algorithm 3.1 refreshes those on
    the path alone, and leaves its siblings with stale bonuses (D3-8). For NAS-Bench-Macro the
    temperature begins at .01, and its end is not printed (D3-6): .0025 there too.

    `balance` "branches" is the published rule: at equal values as many walks go into each branch,
    so that an architecture alone under the root gets half of them. "leaves", which is ours, gives
    as many to each architecture, see `selection_probabilities`.

    `warm_up_sampling` "density" fills the tree with draws from the law of `DensityAware` instead
    of uniform ones, at its scale, by the mean `warm_up_distance` to all others over
    `warm_up_temperature`: rare architectures get more of the draws. The law is computed once, as
    the weights stand when the phase is entered: those that a learned tree is built from, which
    uniform training left, and untrained ones where the warm-up comes first. "encoding" needs no
    network. For enumerable spaces; the combination is ours.
    """

    temperature: float = 0.02
    final_temperature: float = 0.0025
    exploration: float = 0.5
    balance: Literal["branches", "leaves"] = "branches"
    initial_value: float | None = 1.0
    warm_up_sampling: Literal["uniform", "density"] = "uniform"
    warm_up_distance: Literal["cosine", "l2", "kl", "cross-entropy", "gradient", "encoding"] = (
        "cosine"
    )
    warm_up_temperature: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("temperature", "final_temperature", "warm_up_temperature"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.final_temperature > self.temperature:
            raise ValueError(
                f"final_temperature must not exceed temperature {self.temperature}, "
                f"got {self.final_temperature}"
            )
        if not 0 <= self.exploration < math.inf:
            raise ValueError(f"exploration must not be negative, got {self.exploration}")
        if self.initial_value is not None and not 0 <= self.initial_value <= 1:
            raise ValueError(f"initial_value must lie in [0, 1] or be None: {self.initial_value}")
        if self.balance not in ("branches", "leaves"):
            raise ValueError(f"balance must be 'branches' or 'leaves', got {self.balance!r}")
        if self.warm_up_sampling not in ("uniform", "density"):
            raise ValueError(
                f"warm_up_sampling must be uniform or density, got {self.warm_up_sampling!r}"
            )
        if self.warm_up_distance not in WARM_UP_DISTANCES:
            raise ValueError(
                f"warm_up_distance must be one of {list(WARM_UP_DISTANCES)}, "
                f"got {self.warm_up_distance!r}"
            )

    def warm_up(
        self, name: str, steps: int, grow: GrowTree, *, reinitialise: bool = False
    ) -> Phase:
        """Return the phase that draws uniformly, or by density, and fills a new tree."""
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
        if temperature is None and self.warm_up_sampling == "density":
            return WeightedTreeSampler(
                setting.space,
                setting.rng,
                probabilities=self._density_law(setting),
                **self._tree_settings(setting, tree),
            )
        return self._make(setting, temperature=temperature, **self._tree_settings(setting, tree))

    def _make(self, setting: Setting, **settings: Any) -> TreeSampler:
        """Return the sampler of a phase; a method that keeps more makes another one."""
        return TreeSampler(setting.space, setting.rng, **settings)

    def _tree_settings(self, setting: Setting, tree: Tree) -> dict[str, Any]:
        """Return what every sampler of a tree is made with, but its law."""
        return {
            "tree": tree,
            "final_temperature": self.final_temperature,
            "exploration": self.exploration,
            "decay": self.decay,
            "initial": self.initial_value,
            "balance": self.balance,
            "relative": self.shaping(setting),
        }

    def _density_law(self, setting: Setting) -> FloatArray:
        """Return the probability of each architecture `[N]`, or the one that is restored."""
        from nas_ext.strategies.density_aware import DensityAware  # here: it imports this file

        if setting.restoring is not None:
            return np.asarray(setting.restoring["probabilities"], dtype=np.float64)
        made = DensityAware(
            distance=self.warm_up_distance,
            temperature=self.warm_up_temperature,
            max_architectures=self.density_limit,
        )
        return made.law(setting)

    @property
    def density_limit(self) -> int:
        """Return the largest space whose architectures are compared for a warm-up by density."""
        return ENUMERABLE


def _tree_before(setting: Setting) -> Tree:
    if not isinstance(setting.previous, TreeSampler):
        raise RuntimeError("the phase before walks must have a tree")
    return setting.previous.tree

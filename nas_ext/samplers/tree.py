"""Monte-Carlo tree search over a tree of architectures."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import numpy as np

from nas_ext.architecture import Architecture, SearchSpace
from nas_ext.reward_shaping import RelativeReward
from nas_ext.samplers.base import Sampler, distinct
from nas_ext.samplers.communication import Communication
from nas_ext.schedule import Schedule
from nas_ext.tree import (
    Balance,
    BinaryTree,
    Node,
    Tree,
    Unvisited,
    backup,
    descend,
    draw_leaves,
    most_valued_leaf,
    prefix_of,
    tree_from_state,
    unbiased,
)

__all__ = ["TreeSampler"]


class TreeSampler(Sampler):
    """Draw leaves by Boltzmann walks over UCT scores, and back rewards up their paths.

    `temperature` None is the tree's warm-up: leaves are drawn uniformly over *architectures*, and
    the statistics of their paths are kept. (A uniform choice at each branch is not uniform: it
    gives a quarter of all draws to the worst pooling architecture.) Otherwise it is the
    temperature at each step. `initial` None takes the first reward as value, see `backup`.
    `final_temperature` serves the draws of `candidates`. Children with fewer than
    `minimum_visits` come first where `unvisited` is "force". `balance` says whether walks without
    any preference spread over branches or over leaves, see `selection_probabilities`.
    `communication` lets nodes of a layer tree share rewards; a sampler that goes on with a tree
    goes on with its. Section 3.2, Algorithm 3.1.
    """

    def __init__(
        self,
        space: SearchSpace,
        rng: np.random.Generator,
        *,
        tree: Tree,
        temperature: Schedule | None,
        final_temperature: float,
        exploration: float,
        decay: float,
        initial: float | None = 1.0,
        unvisited: Unvisited = "force",
        minimum_visits: int = 1,
        balance: Balance = "branches",
        communication: Communication | None = None,
        relative: RelativeReward | None = None,
    ) -> None:
        super().__init__(space, rng, relative=relative)
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay must lie in [0, 1), got {decay}")
        if not exploration >= 0.0:
            raise ValueError(f"exploration must not be negative, got {exploration}")
        if not final_temperature > 0.0:
            raise ValueError(f"final_temperature must be positive, got {final_temperature}")
        if minimum_visits < 1:
            raise ValueError(f"minimum_visits must be at least 1, got {minimum_visits}")
        if minimum_visits > 1 and unvisited != "force":
            raise ValueError(
                f"minimum_visits must be 1 for unvisited {unvisited!r}, got {minimum_visits}"
            )
        if balance not in ("branches", "leaves"):
            raise ValueError(f"balance must be 'branches' or 'leaves', got {balance!r}")
        if communication is not None:
            prefix_of(tree.root)  # refuses a tree without levels
        self.tree = tree
        self.temperature = temperature
        self.final_temperature = final_temperature
        self.exploration = exploration
        self.decay = decay
        self.initial = initial
        self.unvisited: Unvisited = unvisited
        self.minimum_visits = minimum_visits
        self.balance: Balance = balance
        self.communication = communication
        self.step = 0

    def ask(self) -> tuple[Architecture, ...]:
        if self.temperature is None:
            chosen = self._uniform()
        else:
            leaf = descend(
                self.tree.root,
                self.rng,
                temperature=self.temperature(self.step),
                exploration=self.exploration,
                unvisited=self.unvisited,
                minimum_visits=self.minimum_visits,
                initial=1.0 if self.initial is None else self.initial,
                value=self.communication.value if self.communication else attrgetter("value"),
                balance=self.balance,
            )
            chosen = _architecture(leaf)
        self.step += 1
        return (chosen,)

    def _uniform(self) -> Architecture:
        """Draw uniformly over the leaves, which a tree may have fewer of than its space has."""
        if isinstance(self.tree, BinaryTree) and len(self.tree.architectures) < self.space.size:
            return self.tree.architectures[int(self.rng.integers(len(self.tree.architectures)))]
        return self.space.draw(self.rng)

    def _check(self, architecture: Architecture) -> None:
        super()._check(architecture)
        self.tree.leaf(architecture)  # a tree may hold a part of its space

    def _update(self, architecture: Architecture, reward: float) -> None:
        leaf = self.tree.leaf(architecture)
        backup(leaf, reward, decay=self.decay, initial=self.initial)
        if self.communication is not None:
            self.communication.spread(leaf, reward)

    def diagnostics(self) -> dict[str, float]:
        """Return the visits of the root, and the temperature of the last walk where there are."""
        numbers = {"visits": float(self.tree.root.visits)}
        if self.temperature is not None:
            numbers["temperature"] = float(self.temperature(max(0, self.step - 1)))
        return numbers

    def candidates(self, count: int) -> tuple[Architecture, ...]:
        """Return the greedy visited leaf, then walks without exploration, without repetitions.

        Walks number `count` - 1, so fewer than `count` architectures may come back; a space of no
        more than `count` is not walked, every visited leaf is a candidate. The initial value, a
        device of exploration, is taken out of the values first (ours; after some hundred visits
        it makes no difference). Raises ValueError when no reward was told yet: the tree then
        knows nothing.
        """
        value = unbiased(decay=self.decay, initial=self.initial)
        if self.communication is not None:
            value = self.communication.final_value
        leaves = [most_valued_leaf(self.tree.root, value=value)]
        if self.space.size <= count:
            visited = [n for n in self.tree.nodes() if n.visits and n.architecture is not None]
            leaves += sorted(visited, key=_architecture)
            return distinct(_architecture(leaf) for leaf in leaves)
        leaves += draw_leaves(
            self.tree.root,
            self.rng,
            count - 1,
            temperature=self.final_temperature,
            exploration=0.0,
            unvisited="never",
            value=value,
            balance=self.balance,
        )
        return distinct(_architecture(leaf) for leaf in leaves)

    def _state(self) -> dict[str, Any]:
        state: dict[str, Any] = {"step": self.step, "tree": self.tree.state_dict()}
        if self.communication is not None:
            state["communication"] = self.communication.state_dict()
        return state

    def _load_state(self, state: dict[str, Any]) -> None:
        self.step = int(state["step"])
        self.tree = tree_from_state(self.space, state["tree"])
        if self.communication is not None:
            self.communication.load_state_dict(state["communication"], self.tree)


def _architecture(leaf: Node) -> Architecture:
    if leaf.architecture is None:
        raise RuntimeError("a walk ended in a node that is no leaf")
    return leaf.architecture

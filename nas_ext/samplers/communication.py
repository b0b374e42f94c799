"""Rewards that nodes of a layer tree share when they stand for the same option of a choice."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from nas_ext.architecture import SearchSpace
from nas_ext.tree import Node, Tree, backup, prefix_of, unbiased

__all__ = ["Broadcast", "Communication", "SharedValues"]

Place: TypeAlias = tuple[int, int]
"""A choice of the space and one of its options: what equivalent nodes have in common."""


class Communication(ABC):
    """Say what a tree sampler does beside its own update, and how it then reads values.

    Trees of layers alone have equivalent nodes; `prefix_of` refuses the nodes of others.
    """

    @abstractmethod
    def spread(self, leaf: Node, reward: float) -> None:
        """Pass on a reward, once it is backed up from this leaf."""

    @abstractmethod
    def value(self, node: Node) -> float:
        """Return what a walk takes for the value of a visited node."""

    @abstractmethod
    def final_value(self, node: Node) -> float:
        """Return what the final choice goes by: no initial value is left in it."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return the state as numbers and lists."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any], tree: Tree) -> None:
        """Restore what `state_dict` returned, for a tree that is restored already."""


class SharedValues(Communication):
    """Add `weight` G[choice, option] to the score of every node that stands for the option.

    G is the moving average of the rewards of all iterations that used the option, wherever in
    the tree: G <- decay G + (1 - decay) r, from `initial`. One update a choice and step. The
    final choice is by the nodes' own values, like that of other trees: G, averaged over what was
    drawn, speaks of options and not of architectures. `node_decay` is the tree's own decay.

    Source: section 3.4; equal to the thesis's wording ("an update of a node updates all
    equivalent ones") up to where the shared term is stored. Of Su et al. 2021, recalled there
    without its paper, we leave out that nodes of few visits are evaluated first, and the mean of
    all rewards in place of a moving average.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        weight: float,
        decay: float,
        node_decay: float,
        initial: float | None,
    ) -> None:
        _check(weight=weight, decay=decay)
        self.weight = weight
        self.decay = decay
        self.initial = initial
        self._shared = [[Node() for _ in choice.options] for choice in space.choices]
        self._unbiased = unbiased(decay=node_decay, initial=initial)

    def spread(self, leaf: Node, reward: float) -> None:
        for row, option in zip(self._shared, prefix_of(leaf), strict=True):
            backup(row[option], reward, decay=self.decay, initial=self.initial)

    def shared(self, choice: int, option: int) -> float:
        """Return G of an option that was used."""
        return self._shared[choice][option].value

    def value(self, node: Node) -> float:
        choice, option = _place(node)
        return node.value + self.weight * self._shared[choice][option].value

    def final_value(self, node: Node) -> float:
        return self._unbiased(node)

    def state_dict(self) -> dict[str, Any]:
        return {"shared": [[[node.visits, node.value] for node in row] for row in self._shared]}

    def load_state_dict(self, state: Mapping[str, Any], tree: Tree) -> None:
        for row, numbers in zip(self._shared, state["shared"], strict=True):
            for node, (visits, value) in zip(row, numbers, strict=True):
                node.visits, node.value = int(visits), float(value)


class Broadcast(Communication):
    """Move the values of all visited equivalent nodes by each reward.

    C <- decay C + (1 - decay) r; the nodes of the path itself move by the tree's own decay alone,
    `node_decay`. Visits stay those of walks. Nodes nobody visited have no value yet and take no
    part. A step costs as many updates as there are visited nodes for its options. Section 3.4,
    the thesis's wording.
    """

    def __init__(self, *, decay: float, node_decay: float, initial: float | None) -> None:
        _check(decay=decay)
        self.decay = decay
        self.node_decay = node_decay
        self.initial = initial
        self._left: dict[Place, dict[Node, float]] = {}

    def spread(self, leaf: Node, reward: float) -> None:
        for node in _path(leaf):
            equals = self._left.setdefault(_place(node), {})
            for other, left in equals.items():
                if other is not node:
                    other.value = self.decay * other.value + (1 - self.decay) * reward
                    equals[other] = self.decay * left
            equals[node] = self.node_decay * equals.get(node, self._whole)

    @property
    def _whole(self) -> float:
        """Return the share that the initial value has of a node nobody visited."""
        return 0.0 if self.initial is None else 1.0

    def value(self, node: Node) -> float:
        return node.value

    def final_value(self, node: Node) -> float:
        left = self._left[_place(node)][node]
        return (node.value - left * (self.initial or 0.0)) / (1 - left)

    def state_dict(self) -> dict[str, Any]:
        rows = [(prefix_of(node), left) for at in self._left.values() for node, left in at.items()]
        return {"left": [[list(prefix), left] for prefix, left in sorted(rows)]}

    def load_state_dict(self, state: Mapping[str, Any], tree: Tree) -> None:
        visited = {prefix_of(node): node for node in tree.nodes() if node.visits}
        self._left = {}
        for prefix, left in state["left"]:
            node = visited[tuple(prefix)]
            self._left.setdefault(_place(node), {})[node] = float(left)


def _place(node: Node) -> Place:
    prefix = prefix_of(node)
    return len(prefix) - 1, prefix[-1]


def _path(leaf: Node) -> Iterator[Node]:
    """Yield a leaf and the nodes above it, without the root, which stands for no option."""
    node = leaf
    while node.parent is not None:
        yield node
        node = node.parent


def _check(*, decay: float, weight: float = 0.0) -> None:
    if not 0.0 <= decay < 1.0:
        raise ValueError(f"decay must lie in [0, 1), got {decay}")
    if not 0.0 <= weight < float("inf"):
        raise ValueError(f"weight must not be negative, got {weight}")

"""The walk down a tree and the update up a path."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Literal, TypeAlias

import numpy as np

from nas_ext.estimation import FloatArray
from nas_ext.tree.nodes import Node

__all__ = [
    "Balance",
    "Unbiased",
    "Unvisited",
    "ValueOf",
    "backup",
    "descend",
    "fair_shares",
    "most_valued_leaf",
    "selection_probabilities",
    "unbiased",
]

Unvisited: TypeAlias = Literal["force", "prior", "never"]
"""What a walk does with children nobody visited: take one of them first, give them the initial
value and one visit, or leave them out."""

Balance: TypeAlias = Literal["branches", "leaves"]
"""What counts as even-handed where values are equal: as many walks into each branch, or as many to
each leaf."""

ValueOf: TypeAlias = "Callable[[Node], float]"
"""How a walk reads the value of a visited node."""


def selection_probabilities(
    node: Node,
    *,
    temperature: float,
    exploration: float,
    unvisited: Unvisited = "force",
    minimum_visits: int = 1,
    initial: float = 1.0,
    value: ValueOf = attrgetter("value"),
    balance: Balance = "branches",
) -> list[float]:
    """Return the probability of each child: a softmax of C + lambda sqrt(ln n_p / n) over T.

    Recomputed at each walk, since a bonus changes when only the parent's visits grow. "force" is
    the limit of an infinite bonus: uniform over the unvisited, if any, and over all that have
    fewer than `minimum_visits` (3.4, after Su et al.). Section 3.2.

    With `balance` "leaves", which is ours, a child with f times its even share of the leaves below
    the node has n / f visits in its bonus, and f times the weight in the softmax: where values are
    equal a walk is then a uniform draw over architectures, and in a balanced tree nothing changes.
    """
    children = node.children
    even = balance == "branches"
    if (
        even
        and len(children) == 2
        and min(children[0].visits, children[1].visits) >= minimum_visits > 0
    ):
        return _of_two(node.visits, *children, temperature, exploration, value)
    waiting = [child.visits == 0 for child in children]
    if unvisited == "force":
        few = [child.visits < minimum_visits for child in children]
        if any(few):
            return [1.0 / sum(few) if new else 0.0 for new in few]
    if unvisited == "never" and all(waiting):
        raise ValueError("node must have a visited child when unvisited is 'never'")
    log_visits = math.log(max(1, node.visits))
    shares = [1.0] * len(children) if even else fair_shares(children)
    scores = []
    for child, new, share in zip(children, waiting, shares, strict=True):
        if not new:
            bonus = math.sqrt(log_visits * share / child.visits) if exploration else 0.0
            scores.append(value(child) + exploration * bonus)
        elif unvisited == "never":
            scores.append(-math.inf)
        else:
            scores.append(initial + exploration * math.sqrt(log_visits * share))
    highest = max(scores)
    weights = [
        share * math.exp((score - highest) / temperature)
        for share, score in zip(shares, scores, strict=True)
    ]
    total = sum(weights)
    return [weight / total for weight in weights]


def fair_shares(children: Sequence[Node]) -> list[float]:
    """Return how many times an even share of the leaves each child has: the mean is 1."""
    total = sum(child.leaves for child in children)
    return [len(children) * child.leaves / total for child in children]


def _of_two(
    visits: int,
    first: Node,
    second: Node,
    temperature: float,
    exploration: float,
    value: ValueOf,
) -> list[float]:
    """Do the same for two visited children, to the bit, in a fraction of the time."""
    score, other = value(first), value(second)
    if exploration:
        log_visits = math.log(visits or 1)
        score += exploration * math.sqrt(log_visits / first.visits)
        other += exploration * math.sqrt(log_visits / second.visits)
    if score >= other:
        weight = math.exp((other - score) / temperature)
        return [1.0 / (1.0 + weight), weight / (1.0 + weight)]
    weight = math.exp((score - other) / temperature)
    return [weight / (1.0 + weight), 1.0 / (1.0 + weight)]


def descend(
    root: Node,
    rng: np.random.Generator,
    *,
    temperature: float,
    exploration: float,
    unvisited: Unvisited = "force",
    minimum_visits: int = 1,
    initial: float = 1.0,
    value: ValueOf = attrgetter("value"),
    balance: Balance = "branches",
) -> Node:
    """Walk from a node to a leaf, drawing a child at each fork. Algorithm 3.1.

    Raises ValueError when the temperature is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    node = root
    while node.architecture is None:
        children = node.children
        if len(children) == 1:
            node = children[0]
            continue
        probabilities = selection_probabilities(
            node,
            temperature=temperature,
            exploration=exploration,
            unvisited=unvisited,
            minimum_visits=minimum_visits,
            initial=initial,
            value=value,
            balance=balance,
        )
        node = children[_pick(probabilities, rng.random())]
    return node


def _pick(probabilities: list[float], uniform: float) -> int:
    """Return the index at which the running sum passes a number drawn from [0, 1)."""
    last = 0
    for index, probability in enumerate(probabilities):
        if probability > 0.0:
            if uniform < probability:
                return index
            uniform -= probability
            last = index
    return last


def backup(leaf: Node, reward: float, *, decay: float, initial: float | None = 1.0) -> None:
    """Add a reward to a leaf and every node above it: n <- n + 1, C <- beta C + (1 - beta) r.

    `initial` is the C of a node nobody visited: 1 in chapter 3, which makes early searches
    explore; None takes the first reward itself, as chapter 4 does.
    """
    node: Node | None = leaf
    while node is not None:
        if node.visits == 0:
            node.value = reward if initial is None else decay * initial + (1 - decay) * reward
        else:
            node.value = decay * node.value + (1 - decay) * reward
        node.visits += 1
        node = node.parent


@dataclass(frozen=True)
class Unbiased:
    """Read a node's value without the initial value, see `unbiased`."""

    decay: float
    initial: float

    def __call__(self, node: Node) -> float:
        kept = self.decay**node.visits
        return float((node.value - kept * self.initial) / (1 - kept))

    def many(self, visits: FloatArray, values: FloatArray) -> FloatArray:
        """Return the values `[n]` of visited nodes at once."""
        kept = self.decay**visits
        return (values - kept * self.initial) / (1 - kept)


def unbiased(*, decay: float, initial: float | None) -> ValueOf:
    """Return the reader of values from which the initial value is taken out.

    (C - beta^n C_0) / (1 - beta^n): what the rewards alone average to. Before some 60 visits an
    initial value of 1 outweighs them, and the highest C is then the least visited node.
    """
    return attrgetter("value") if initial is None else Unbiased(decay, initial)


def most_valued_leaf(root: Node, *, value: ValueOf = attrgetter("value")) -> Node:
    """Walk down by the highest value among visited children, ties to the lowest index.

    Never an unvisited node: its initial value of 1 beats every real accuracy. Raises ValueError
    when there was no visit at all.
    """
    if root.visits == 0:
        raise ValueError("root must have been visited to name a best leaf, got 0 visits")
    node = root
    while node.architecture is None:
        node = max((child for child in node.children if child.visits), key=value)
    return node

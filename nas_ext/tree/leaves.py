"""All leaves at once: the law of where walks end, and many draws from it.

A tree is passed level by level, with one set of array operations a level, instead of one walk
after another.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from nas_ext.architecture import Architecture
from nas_ext.estimation import FloatArray
from nas_ext.tree.nodes import Node
from nas_ext.tree.walk import Balance, Unbiased, Unvisited, ValueOf, fair_shares

__all__ = ["draw_leaves", "leaf_probabilities"]

Number = TypeVar("Number", bound=np.generic)


def leaf_probabilities(
    root: Node,
    *,
    temperature: float,
    exploration: float = 0.0,
    unvisited: Unvisited = "force",
    minimum_visits: int = 1,
    initial: float = 1.0,
    value: ValueOf = attrgetter("value"),
    balance: Balance = "branches",
) -> dict[Architecture, float]:
    """Return the exact probability that a walk ends in each leaf; leaves of probability 0 too.

    The settings are those of `descend`. Leaves come by their depth. A tree of layers is made
    whole.
    """
    rule = _Rule(temperature, exploration, unvisited, minimum_visits, initial, value, balance)
    found: dict[Architecture, float] = {}
    nodes, masses = [root], np.ones(1)
    while nodes:
        reached: list[int] = []
        missed: list[Node] = []
        for place, (node, mass) in enumerate(zip(nodes, masses.tolist(), strict=True)):
            if node.architecture is not None:
                found[node.architecture] = mass
            elif mass > 0.0:
                reached.append(place)
            else:
                missed += node.children
        forks = _Forks.of(nodes[place] for place in reached)
        shares = rule.shares(forks) * forks.each(masses[reached])
        nodes = forks.children + missed
        masses = np.concatenate([shares, np.zeros(len(missed))])
    return found


def draw_leaves(
    root: Node,
    rng: np.random.Generator,
    count: int,
    *,
    temperature: float,
    exploration: float,
    unvisited: Unvisited = "force",
    minimum_visits: int = 1,
    initial: float = 1.0,
    value: ValueOf = attrgetter("value"),
    balance: Balance = "branches",
) -> list[Node]:
    """Return the leaves of `count` independent walks, repeated ones included.

    Each has the distribution of `descend` under the same settings, while nothing is backed up in
    between; the random numbers are others. The walks at a node are divided among its children by
    one multinomial draw, and shuffled at the end. Only nodes that some walk reaches are looked
    at, or made: the cost is theirs, however large the tree.
    """
    if count < 0:
        raise ValueError(f"count must not be negative, got {count}")
    rule = _Rule(temperature, exploration, unvisited, minimum_visits, initial, value, balance)
    leaves: list[Node] = []
    nodes, counts = [root], np.full(1, count)
    while nodes:
        going = []
        for place, (node, walks) in enumerate(zip(nodes, counts.tolist(), strict=True)):
            if node.architecture is None:
                going.append(place)
            else:
                leaves += [node] * walks
        forks = _Forks.of(nodes[place] for place in going)
        counts = _divide(counts[going], forks, rule.shares(forks), rng)
        kept = np.flatnonzero(counts)
        nodes, counts = [forks.children[place] for place in kept.tolist()], counts[kept]
    return [leaves[place] for place in rng.permutation(len(leaves)).tolist()]


@dataclass(frozen=True)
class _Forks:
    """Hold nodes `[n]` and their children `[c]`, those of one node side by side.

    `sizes` `[n]` are the numbers of children, `firsts` `[n]` the places of the first ones.
    """

    nodes: list[Node]
    children: list[Node]
    sizes: NDArray[np.intp]
    firsts: NDArray[np.intp]

    @classmethod
    def of(cls, nodes: Iterable[Node]) -> _Forks:
        """Return nodes with the children they have or now get."""
        parents = list(nodes)
        families = [node.children for node in parents]
        sizes = np.fromiter(map(len, families), np.intp, len(families))
        children = list(itertools.chain.from_iterable(families))
        return cls(parents, children, sizes, np.cumsum(sizes) - sizes)

    def each(self, values: NDArray[Number]) -> NDArray[Number]:
        """Return the value of the parent for each child, `[c]`, of values `[n]`."""
        return np.repeat(values, self.sizes)

    def over(self, reduce: np.ufunc, values: FloatArray) -> FloatArray:
        """Return a sum, or another reduction, over the children of each node, for each child."""
        return self.each(reduce.reduceat(values, self.firsts))


@dataclass(frozen=True)
class _Rule:
    """Say how walks choose, for the children of many nodes at once."""

    temperature: float
    exploration: float
    unvisited: Unvisited
    minimum_visits: int
    initial: float
    value: ValueOf
    balance: Balance

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature must be positive, got {self.temperature}")

    def shares(self, forks: _Forks) -> FloatArray:
        """Return the probability `[c]` of each child, as `selection_probabilities` does.

        An only child has 1, whoever visited it.
        """
        if not forks.nodes:
            return np.empty(0)
        visits = _numbers(child.visits for child in forks.children)
        lonely: NDArray[np.bool_] = forks.each(forks.sizes == 1)
        new = (visits == 0) & ~lonely
        fair = self._fair_shares(forks)
        scores = np.zeros(len(visits))
        scores[~lonely] = self._scores(forks, visits, new, fair)[~lonely]
        weights = fair * np.exp((scores - forks.over(np.maximum, scores)) / self.temperature)
        shares = weights / forks.over(np.add, weights)
        if self.unvisited == "force":
            few = ((visits < self.minimum_visits) | new) & ~lonely
            waiting = forks.over(np.add, few.astype(np.float64))
            np.divide(few, waiting, out=shares, where=waiting > 0)
        return shares

    def _fair_shares(self, forks: _Forks) -> FloatArray:
        """Return how many times an even share of its parent's leaves each child counts for."""
        if self.balance == "branches":
            return np.ones(len(forks.children))
        families = (node.children for node in forks.nodes)
        return _numbers(itertools.chain.from_iterable(map(fair_shares, families)))

    def _scores(
        self, forks: _Forks, visits: FloatArray, new: NDArray[np.bool_], fair: FloatArray
    ) -> FloatArray:
        """Return the scores `[c]`; what nobody visited gets the prior, or none at all."""
        logs = np.log(np.maximum(_numbers(node.visits for node in forks.nodes), 1.0))
        bonus = np.sqrt(forks.each(logs) * fair / np.maximum(visits, 1.0))
        scores = np.full(len(visits), self.initial)
        known = np.flatnonzero(visits)
        scores[known] = self._values(forks.children, known, visits[known])
        scores += self.exploration * bonus
        if self.unvisited == "never":
            scores[new] = -np.inf
            if np.isneginf(forks.over(np.maximum, scores)).any():
                raise ValueError("node must have a visited child when unvisited is 'never'")
        return scores

    def _values(
        self, children: Sequence[Node], known: NDArray[np.intp], visits: FloatArray
    ) -> FloatArray:
        """Return the values of the visited children."""
        if isinstance(self.value, Unbiased):
            values = _numbers(child.value for child in children)[known]
            return self.value.many(visits, values)
        visited = (children[place] for place in known.tolist())
        return np.fromiter(map(self.value, visited), np.float64, len(known))


def _divide(
    counts: NDArray[np.int64], forks: _Forks, shares: FloatArray, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw how many of the walks at each node `[n]` go on to each of its children, `[c]`."""
    if not forks.nodes:
        return counts
    column = np.arange(len(shares)) - forks.each(forks.firsts)
    row = forks.each(np.arange(len(counts)))
    table = np.zeros((len(counts), forks.sizes.max()))
    table[row, column] = shares
    # The likeliest child comes last: that is where numpy puts what rounding leaves over.
    order = np.argsort(table, axis=1)
    drawn = rng.multinomial(counts, np.take_along_axis(table, order, axis=1))
    np.put_along_axis(table, order, drawn, axis=1)
    return np.asarray(table[row, column], dtype=np.int64)


def _numbers(values: Iterable[float]) -> FloatArray:
    return np.asarray(list(values), dtype=np.float64)

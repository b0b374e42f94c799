"""Why a tree leads to an architecture: its path, with all that was compared on the way."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from operator import attrgetter

from nas_ext.architecture import Architecture, SearchSpace
from nas_ext.tree import (
    Balance,
    LayerTree,
    Node,
    Tree,
    Unvisited,
    ValueOf,
    fair_shares,
    prefix_of,
    selection_probabilities,
)

__all__ = ["FEW", "Branch", "Fork", "branch_name", "explain"]

FEW = 4
"""How many leaves at most stand for a branch that has no name."""


@dataclass(frozen=True)
class Branch:
    """Show one way to go at a fork; `score` is None where a walk is forced to go first.

    `name` is the option in a tree of layers; in others `leaves` name the first few architectures
    there. `taken` marks the way to the architecture in question.
    """

    name: str
    leaves: tuple[str, ...]
    visits: int
    value: float | None
    score: float | None
    probability: float
    taken: bool


@dataclass(frozen=True)
class Fork:
    """Show a node with several children on the way to an architecture."""

    depth: int
    visits: int
    branches: tuple[Branch, ...]

    @property
    def taken(self) -> Branch:
        """Return the branch that leads to the architecture."""
        return next(branch for branch in self.branches if branch.taken)


def explain(
    tree: Tree,
    space: SearchSpace,
    architecture: Architecture,
    *,
    temperature: float,
    exploration: float,
    unvisited: Unvisited = "force",
    initial: float = 1.0,
    value: ValueOf = attrgetter("value"),
    balance: Balance = "branches",
) -> tuple[Fork, ...]:
    """Say why walks end in an architecture: each fork on its path, with all that was compared.

    Score and probability are those of the next walk under these settings, see
    `selection_probabilities`; the product of the taken branches' probabilities is that of the
    architecture. A sampler that adds a bonus of its own to the scores is not seen through.
    Section 3.2. Raises ValueError for an architecture without a leaf, and for a temperature that
    is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    if not math.isfinite(exploration) or exploration < 0:
        raise ValueError(f"exploration must not be negative, got {exploration}")
    path = _path(tree.leaf(space.check(architecture)))
    layers = isinstance(tree, LayerTree)
    forks = []
    for depth, (node, taken) in enumerate(itertools.pairwise(path)):
        if len(node.children) == 1:
            continue
        shares = selection_probabilities(
            node,
            temperature=temperature,
            exploration=exploration,
            unvisited=unvisited,
            initial=initial,
            value=value,
            balance=balance,
        )
        fair = fair_shares(node.children) if balance == "leaves" else [1.0] * len(shares)
        branches = [
            Branch(
                name=branch_name(tree, space, child),
                leaves=() if layers else tuple(map(space.describe, _first_leaves(child))),
                visits=child.visits,
                value=value(child) if child.visits else None,
                score=_score(node, child, exploration, unvisited, initial, value, weight),
                probability=share,
                taken=child is taken,
            )
            for child, share, weight in zip(node.children, shares, fair, strict=True)
        ]
        forks.append(Fork(depth, node.visits, tuple(branches)))
    return tuple(forks)


def _path(leaf: Node) -> list[Node]:
    """Return the nodes from the root to a leaf."""
    path = [leaf]
    while path[-1].parent is not None:
        path.append(path[-1].parent)
    return path[::-1]


def _score(
    parent: Node,
    child: Node,
    exploration: float,
    unvisited: Unvisited,
    initial: float,
    value: ValueOf,
    weight: float,
) -> float | None:
    """Return C + lambda sqrt(ln n_p / n), or None where there is no number to compare.

    Visits count as n / `weight`: the times of an even share of leaves that the child has.
    """
    log_visits = math.log(max(1, parent.visits)) * weight
    if child.visits:
        return value(child) + exploration * math.sqrt(log_visits / child.visits)
    return initial + exploration * math.sqrt(log_visits) if unvisited == "prior" else None


def _first_leaves(node: Node) -> list[Architecture]:
    """Return the first few architectures below a node."""
    found: list[Architecture] = []
    stack = [node]
    while stack and len(found) < FEW:
        top = stack.pop()
        if top.architecture is not None:
            found.append(top.architecture)
        else:
            stack.extend(reversed(top.children))
    return found


def branch_name(tree: Tree, space: SearchSpace, node: Node) -> str:
    """Return what names the way to a node: the option in a tree of layers, else nothing."""
    if not isinstance(tree, LayerTree) or node.parent is None:
        return ""
    prefix = prefix_of(node)
    choice = space.choices[len(prefix) - 1]
    return f"{choice.label}={choice.options[prefix[-1]]}"

"""Trees over the architectures of a space, and the walk down and the update up a path."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any, Literal, TypeAlias

import numpy as np
from scipy.cluster.hierarchy import linkage

from nas_ext.architecture import Architecture, SearchSpace
from nas_ext.estimation import FloatArray

__all__ = [
    "BinaryTree",
    "LayerTree",
    "Linkage",
    "Node",
    "Tree",
    "Unvisited",
    "backup",
    "caterpillar_tree",
    "cluster_tree",
    "descend",
    "layer_tree",
    "leaf_probabilities",
    "most_valued_leaf",
    "prefix_of",
    "rank_tree",
    "selection_probabilities",
    "tree_from_state",
    "unbiased",
]

Linkage: TypeAlias = Literal["average", "complete", "ward"]

Unvisited: TypeAlias = Literal["force", "prior", "never"]
"""What a walk does with children nobody visited: take one of them first, give them the initial
value and one visit, or leave them out."""

ValueOf: TypeAlias = "Callable[[Node], float]"
"""How a walk reads the value of a visited node."""


class Node:
    """One node: a set of architectures, with the visits and the value of the searches in it.

    `value` is a moving average of rewards and means nothing while `visits` is 0. `height` is the
    distance at which a clustered node was joined. A leaf has an `architecture`.
    """

    __slots__ = ("_children", "architecture", "height", "parent", "value", "visits")

    def __init__(self, *, architecture: Architecture | None = None, height: float = 0.0) -> None:
        self.architecture = architecture
        self.height = height
        self.parent: Node | None = None
        self.visits = 0
        self.value = 0.0
        self._children: tuple[Node, ...] = ()

    @property
    def children(self) -> tuple[Node, ...]:
        """Return the children, none for a leaf."""
        return self._children

    def adopt(self, children: Sequence[Node]) -> None:
        """Make these nodes the children of this one."""
        self._children = tuple(children)
        for child in children:
            child.parent = self


class _LayerNode(Node):
    """A prefix of an architecture; its children are made when somebody first asks for them."""

    __slots__ = ("prefix", "space")

    def __init__(self, space: SearchSpace, prefix: Architecture) -> None:
        super().__init__(architecture=prefix if len(prefix) == len(space.choices) else None)
        self.space = space
        self.prefix = prefix

    @property
    def children(self) -> tuple[Node, ...]:
        if not self._children and self.architecture is None:
            options = self.space.options(self.prefix)
            self.adopt([_LayerNode(self.space, (*self.prefix, option)) for option in options])
        return self._children


class Tree(ABC):
    """A root, and the leaf of every architecture."""

    def __init__(self, root: Node) -> None:
        self.root = root

    @abstractmethod
    def leaf(self, architecture: Architecture) -> Node:
        """Return the leaf of an architecture; ValueError when the tree has none."""

    def nodes(self) -> Iterator[Node]:
        """Yield the nodes that exist so far, parents before children."""
        stack = [self.root]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(reversed(node._children))

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return structure, visits and values as numbers and lists, fit for JSON."""


class LayerTree(Tree):
    """One level for each choice in network order, one child for each feasible option.

    Nodes are made when a walk first reaches their parent, so that a tree over 13^21
    architectures costs what was visited. Section 3.3.
    """

    def __init__(self, space: SearchSpace) -> None:
        super().__init__(_LayerNode(space, ()))
        self.space = space
        self._leaves: dict[Architecture, Node] = {}

    def leaf(self, architecture: Architecture) -> Node:
        known = self._leaves.get(architecture)
        if known is None:
            known = self.root
            for length in range(1, len(self.space.check(architecture)) + 1):
                known = _child(known, architecture[:length])
            self._leaves[architecture] = known
        return known

    def state_dict(self) -> dict[str, Any]:
        """Return the visited prefixes with their numbers; the rest of the tree follows."""
        visited = [n for n in self.nodes() if isinstance(n, _LayerNode) and n.visits]
        return {
            "kind": "layers",
            "prefixes": [list(node.prefix) for node in visited],
            "visits": [node.visits for node in visited],
            "values": [node.value for node in visited],
        }

    @classmethod
    def from_state(cls, space: SearchSpace, state: Mapping[str, Any]) -> LayerTree:
        """Return the tree whose `state_dict` this is."""
        tree = cls(space)
        columns = zip(state["prefixes"], state["visits"], state["values"], strict=True)
        for prefix, visits, value in columns:
            node = tree.root
            for length in range(1, len(prefix) + 1):
                node = _child(node, tuple(prefix[:length]))
            node.visits, node.value = int(visits), float(value)
        return tree


class BinaryTree(Tree):
    """Every inner node has exactly two children, and the leaves are the given architectures.

    `merges` are rows (left, right, height) in scipy's numbering: ids below N are the N
    architectures in their order, N + k is the node that row k makes.
    """

    def __init__(
        self, architectures: Sequence[Architecture], merges: Sequence[tuple[int, int, float]]
    ) -> None:
        if len(set(architectures)) != len(architectures) or not architectures:
            raise ValueError("architectures must be at least one, all different")
        if len(merges) != len(architectures) - 1:
            raise ValueError(
                f"merges must be one fewer than the {len(architectures)} architectures, "
                f"got {len(merges)}"
            )
        self.architectures = tuple(architectures)
        self.merges = tuple((int(left), int(right), float(h)) for left, right, h in merges)
        self._nodes = [Node(architecture=a) for a in architectures]
        self._leaves = dict(zip(self.architectures, self._nodes, strict=True))
        for left, right, height in self.merges:
            parent = Node(height=height)
            parent.adopt([self._nodes[left], self._nodes[right]])
            self._nodes.append(parent)
        super().__init__(self._nodes[-1])

    def leaf(self, architecture: Architecture) -> Node:
        try:
            return self._leaves[architecture]
        except KeyError:
            raise ValueError(
                f"architecture must be a leaf of the tree, got {architecture}"
            ) from None

    def state_dict(self) -> dict[str, Any]:
        return {
            "kind": "binary",
            "architectures": [list(a) for a in self.architectures],
            "merges": [list(merge) for merge in self.merges],
            "visits": [node.visits for node in self._nodes],
            "values": [node.value for node in self._nodes],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> BinaryTree:
        """Return the tree whose `state_dict` this is."""
        merges = [(int(left), int(right), float(h)) for left, right, h in state["merges"]]
        tree = cls([tuple(a) for a in state["architectures"]], merges)
        columns = zip(tree._nodes, state["visits"], state["values"], strict=True)
        for node, visits, value in columns:
            node.visits, node.value = int(visits), float(value)
        return tree


def tree_from_state(space: SearchSpace, state: Mapping[str, Any]) -> Tree:
    """Return the tree over a space whose `state_dict` this is."""
    if state.get("kind") == "layers":
        return LayerTree.from_state(space, state)
    if state.get("kind") == "binary":
        return BinaryTree.from_state(state)
    raise ValueError(f"kind of a tree must be 'layers' or 'binary', got {state.get('kind')!r}")


def _child(node: Node, prefix: Architecture) -> Node:
    """Return the child of a layer tree's node that stands for a prefix."""
    for child in node.children:
        if isinstance(child, _LayerNode) and child.prefix == prefix:
            return child
    raise ValueError(f"prefix must exist in the tree's space, got {prefix}")


def prefix_of(node: Node) -> Architecture:
    """Return the options that lead to a node of a layer tree: its level and its option.

    Raises ValueError for a node of another tree, which stands for no option of no choice.
    """
    if not isinstance(node, _LayerNode):
        raise ValueError(f"node must belong to a layer tree, got a {type(node).__name__}")
    return node.prefix


def layer_tree(space: SearchSpace) -> LayerTree:
    """Build the default tree: one level a layer, one child an operation. Section 3.3."""
    return LayerTree(space)


def cluster_tree(
    architectures: Sequence[Architecture], distances: FloatArray, *, method: Linkage = "average"
) -> BinaryTree:
    """Build the learned tree: agglomerative clustering of a condensed `[N (N-1) / 2]` vector.

    The linkage is not named in the source. Average suits divergences, which Ward's criterion
    (for Euclidean distances) does not; single linkage degenerates to a chain and is not offered.
    Section 3.6.
    """
    if method not in ("average", "complete", "ward"):
        raise ValueError(f"method must be 'average', 'complete' or 'ward', got {method!r}")
    count = len(architectures)
    if distances.shape != (count * (count - 1) // 2,):
        raise ValueError(
            f"distances must be the {count * (count - 1) // 2} pairs of {count} architectures, "
            f"got shape {distances.shape}"
        )
    if not (np.isfinite(distances).all() and (distances >= 0).all()):
        raise ValueError("distances must be finite and not negative")
    if count == 1:
        return BinaryTree(architectures, [])
    rows = linkage(distances, method=method)
    return BinaryTree(architectures, [(int(r[0]), int(r[1]), float(r[2])) for r in rows])


def rank_tree(architectures: Sequence[Architecture], accuracies: Sequence[float]) -> BinaryTree:
    """Build the tree of halves: the better half of a node is its left child, and so on down.

    Ties keep the given order. The depth is ceil(log2 N), where the printed "merge the two lowest
    ranks" makes a chain of depth N - 1. Section 4.1, D4-1.
    """
    order = _best_first(architectures, accuracies)
    merges: list[tuple[int, int, float]] = []

    def build(ranked: list[int]) -> int:
        if len(ranked) == 1:
            return ranked[0]
        half = len(ranked) // 2
        left, right = build(ranked[:half]), build(ranked[half:])
        merges.append((left, right, float(len(ranked))))
        return len(architectures) + len(merges) - 1

    build(order)
    return BinaryTree(architectures, merges)


def caterpillar_tree(
    architectures: Sequence[Architecture], accuracies: Sequence[float]
) -> BinaryTree:
    """Build the tree that chapter 4 prints: merge the two nodes of lowest average rank, repeat.

    For study. Rank 1 is the best and ties keep the given order, so that each merge joins all that
    was merged so far with the next architecture: a chain of depth N - 1 with the best at its
    bottom. The average rank of a node is its height. Section 4.1, D4-1.
    """
    order = _best_first(architectures, accuracies)
    merges: list[tuple[int, int, float]] = []
    chain = order[0]
    for place, following in enumerate(order[1:], start=2):
        merges.append((chain, following, (place + 1) / 2))
        chain = len(architectures) + len(merges) - 1
    return BinaryTree(architectures, merges)


def _best_first(architectures: Sequence[Architecture], accuracies: Sequence[float]) -> list[int]:
    """Return the places of the architectures by falling accuracy, ties in the given order."""
    scores = np.asarray(accuracies, dtype=np.float64)
    if scores.shape != (len(architectures),) or not np.isfinite(scores).all():
        raise ValueError(
            f"accuracies must be {len(architectures)} finite numbers, got shape {scores.shape}"
        )
    order: list[int] = np.argsort(-scores, kind="stable").tolist()
    return order


def selection_probabilities(
    node: Node,
    *,
    temperature: float,
    exploration: float,
    unvisited: Unvisited = "force",
    initial: float = 1.0,
    value: ValueOf = attrgetter("value"),
) -> list[float]:
    """Return the probability of each child: a softmax of C + lambda sqrt(ln n_p / n) over T.

    Recomputed at each walk, since a bonus changes when only the parent's visits grow. "force" is
    the limit of an infinite bonus: uniform over the unvisited, if any. Section 3.2.
    """
    children = node.children
    waiting = [child.visits == 0 for child in children]
    if any(waiting):
        if unvisited == "force":
            return [1.0 / sum(waiting) if new else 0.0 for new in waiting]
        if unvisited == "never" and all(waiting):
            raise ValueError("node must have a visited child when unvisited is 'never'")
    log_visits = math.log(max(1, node.visits))
    scores = []
    for child, new in zip(children, waiting, strict=True):
        if not new:
            bonus = math.sqrt(log_visits / child.visits) if exploration else 0.0
            scores.append(value(child) + exploration * bonus)
        elif unvisited == "never":
            scores.append(-math.inf)
        else:
            scores.append(initial + exploration * math.sqrt(log_visits))
    highest = max(scores)
    weights = [math.exp((score - highest) / temperature) for score in scores]
    total = sum(weights)
    return [weight / total for weight in weights]


def descend(
    root: Node,
    rng: np.random.Generator,
    *,
    temperature: float,
    exploration: float,
    unvisited: Unvisited = "force",
    initial: float = 1.0,
    value: ValueOf = attrgetter("value"),
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
            initial=initial,
            value=value,
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


def unbiased(*, decay: float, initial: float | None) -> ValueOf:
    """Return the reader of values from which the initial value is taken out.

    (C - beta^n C_0) / (1 - beta^n): what the rewards alone average to. Before some 60 visits an
    initial value of 1 outweighs them, and the highest C is then the least visited node.
    """
    if initial is None:
        return attrgetter("value")

    def value(node: Node) -> float:
        kept = decay**node.visits
        return float((node.value - kept * initial) / (1 - kept))

    return value


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


def leaf_probabilities(
    root: Node,
    *,
    temperature: float,
    exploration: float = 0.0,
    unvisited: Unvisited = "force",
    initial: float = 1.0,
    value: ValueOf = attrgetter("value"),
) -> dict[Architecture, float]:
    """Return the exact probability that a walk ends in each leaf; leaves of probability 0 too."""
    found: dict[Architecture, float] = {}
    stack: list[tuple[Node, float]] = [(root, 1.0)]
    while stack:
        node, mass = stack.pop()
        if node.architecture is not None:
            found[node.architecture] = mass
            continue
        shares = [0.0] * len(node.children)
        if mass > 0.0:
            shares = selection_probabilities(
                node,
                temperature=temperature,
                exploration=exploration,
                unvisited=unvisited,
                initial=initial,
                value=value,
            )
        below = zip(node.children, shares, strict=True)
        stack.extend(reversed([(child, mass * share) for child, share in below]))
    return found

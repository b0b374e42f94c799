"""Trees over the architectures of a space: their nodes, by layers and in pairs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nas_ext.architecture import Architecture, SearchSpace

__all__ = ["BinaryTree", "LayerTree", "Node", "Tree", "layer_tree", "prefix_of", "tree_from_state"]


class Node:
    """One node: a set of architectures, with the visits and the value of the searches in it.

    `value` is a moving average of rewards and means nothing while `visits` is 0. `height` is the
    distance at which a clustered node was joined. A leaf has an `architecture`; `leaves` counts
    those at or below a node.
    """

    __slots__ = ("_children", "_leaves", "architecture", "height", "parent", "value", "visits")

    def __init__(self, *, architecture: Architecture | None = None, height: float = 0.0) -> None:
        self.architecture = architecture
        self.height = height
        self.parent: Node | None = None
        self.visits = 0
        self.value = 0.0
        self._children: tuple[Node, ...] = ()
        self._leaves = 1

    @property
    def children(self) -> tuple[Node, ...]:
        """Return the children, none for a leaf."""
        return self._children

    @property
    def leaves(self) -> int:
        """Return the number of architectures that the node stands for."""
        return self._leaves

    def adopt(self, children: Sequence[Node]) -> None:
        """Make these nodes the children of this one."""
        self._children = tuple(children)
        self._leaves = sum(child._leaves for child in self._children)
        for child in children:
            child.parent = self


class _LayerNode(Node):
    """A prefix of an architecture; its children are made when somebody first asks for them."""

    __slots__ = ("prefix", "space")

    def __init__(self, space: SearchSpace, prefix: Architecture) -> None:
        super().__init__(architecture=prefix if len(prefix) == len(space.choices) else None)
        self.space = space
        self.prefix = prefix
        self._leaves = 0  # not asked for yet

    @property
    def children(self) -> tuple[Node, ...]:
        if not self._children and self.architecture is None:
            options = self.space.options(self.prefix)
            self.adopt([_LayerNode(self.space, (*self.prefix, option)) for option in options])
        return self._children

    @property
    def leaves(self) -> int:
        if not self._leaves:
            self._leaves = self.space.completions(self.prefix)
        return self._leaves


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
    architectures in their order, N + k is the node that row k makes. `origin` says how the tree
    was made, in JSON values, where somebody may ask later; it stays with the saved tree.
    """

    def __init__(
        self,
        architectures: Sequence[Architecture],
        merges: Sequence[tuple[int, int, float]],
        *,
        origin: Mapping[str, Any] | None = None,
    ) -> None:
        if len(set(architectures)) != len(architectures) or not architectures:
            raise ValueError("architectures must be at least one, all different")
        if len(merges) != len(architectures) - 1:
            raise ValueError(
                f"merges must be one fewer than the {len(architectures)} architectures, "
                f"got {len(merges)}"
            )
        self.architectures = tuple(architectures)
        self.origin = dict(origin or {})
        self.merges = tuple((int(left), int(right), float(h)) for left, right, h in merges)
        self._nodes = [Node(architecture=a) for a in architectures]
        self._leaves = dict(zip(self.architectures, self._nodes, strict=True))
        joined: set[int] = set()
        for left, right, height in self.merges:
            free = all(0 <= n < len(self._nodes) and n not in joined for n in (left, right))
            if left == right or not free:
                raise ValueError(f"merges must join each node once, got {left} and {right}")
            joined |= {left, right}
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
        origin = {"origin": self.origin} if self.origin else {}
        return {
            "kind": "binary",
            "architectures": [list(a) for a in self.architectures],
            "merges": [list(merge) for merge in self.merges],
            "visits": [node.visits for node in self._nodes],
            "values": [node.value for node in self._nodes],
            **origin,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> BinaryTree:
        """Return the tree whose `state_dict` this is."""
        merges = [(int(left), int(right), float(h)) for left, right, h in state["merges"]]
        architectures = [tuple(a) for a in state["architectures"]]
        tree = cls(architectures, merges, origin=state.get("origin"))
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

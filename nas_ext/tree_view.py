"""Trees one can look into: as text, JSON and Graphviz."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from operator import attrgetter
from typing import Any

from nas_ext.architecture import Architecture, SearchSpace
from nas_ext.saved_tree import tree_document
from nas_ext.tree import Node, Tree, ValueOf
from nas_ext.tree_path import branch_name

__all__ = ["NodeView", "node_views", "to_dot", "to_json", "to_text"]


@dataclass(frozen=True)
class NodeView:
    """Show one node: `parent` is the number of another, `value` None where nobody visited.

    `branch` says what leads here from the parent, `name` is that of a leaf's architecture, and
    `leaves` counts the leaves below that exist so far, itself included.
    """

    number: int
    parent: int | None
    depth: int
    branch: str
    name: str | None
    architecture: Architecture | None
    visits: int
    value: float | None
    height: float
    leaves: int


def node_views(
    tree: Tree, space: SearchSpace, *, value: ValueOf = attrgetter("value")
) -> list[NodeView]:
    """Return the nodes that exist so far, parents first, siblings in their order.

    Nodes of a tree of layers that no walk has reached do not exist, and are not made.
    """
    nodes = list(tree.nodes())
    number = {id(node): place for place, node in enumerate(nodes)}
    leaves = _leaves(nodes)
    views: list[NodeView] = []
    for node in nodes:
        parent = None if node.parent is None else number[id(node.parent)]
        known = node.architecture
        views.append(
            NodeView(
                number=len(views),
                parent=parent,
                depth=0 if parent is None else views[parent].depth + 1,
                branch=branch_name(tree, space, node),
                name=None if known is None else space.describe(known),
                architecture=known,
                visits=node.visits,
                value=value(node) if node.visits else None,
                height=node.height,
                leaves=leaves[id(node)],
            )
        )
    return views


def to_json(
    tree: Tree, space: SearchSpace, *, value: ValueOf = attrgetter("value")
) -> dict[str, Any]:
    """Return what `load_tree` reads, and beside it the list of `nodes` for people and plots.

    The list is flat, for trees may be deeper than JSON readers like.
    """
    nodes = [asdict(view) for view in node_views(tree, space, value=value)]
    listed = [{**n, "architecture": n["architecture"] and list(n["architecture"])} for n in nodes]
    return {**tree_document(tree, space), "nodes": listed}


def to_dot(
    tree: Tree,
    space: SearchSpace,
    *,
    depth: int | None = None,
    value: ValueOf = attrgetter("value"),
) -> str:
    """Return a directed graph in the language of Graphviz; edges widen with the visits.

    Nodes deeper than `depth` are left out, and what hides them says how many leaves it has.
    """
    lines = ["digraph tree {", "  rankdir=LR;", '  node [shape=box, fontname="sans-serif"];']
    views = node_views(tree, space, value=value)
    for view in _shown(views, depth):
        label = "\\n".join(map(_escaped, _words(view, depth)))
        lines.append(f'  n{view.number} [label="{label}"];')
        if view.parent is not None:
            width = 1 + 4 * view.visits / max(1, views[view.parent].visits)
            edge = f'label="{_escaped(view.branch)}", ' if view.branch else ""
            lines.append(f"  n{view.parent} -> n{view.number} [{edge}penwidth={width:.2f}];")
    return "\n".join([*lines, "}", ""])


def to_text(
    tree: Tree,
    space: SearchSpace,
    *,
    depth: int | None = None,
    value: ValueOf = attrgetter("value"),
) -> str:
    """Return an indented list, a line a node; nodes deeper than `depth` are left out."""
    views = list(_shown(node_views(tree, space, value=value), depth))
    last = {view.parent: view.number for view in views}
    rails: dict[int, str] = {}
    lines = []
    for view in views:
        head = ""
        if view.parent is not None:
            ends = last[view.parent] == view.number
            rail = rails[view.parent]
            head = rail + ("`-- " if ends else "|-- ")
            rails[view.number] = rail + ("    " if ends else "|   ")
        else:
            rails[view.number] = ""
        lines.append(head + ", ".join(filter(None, [view.branch, *_words(view, depth)])))
    return "\n".join([*lines, ""])


def _leaves(nodes: list[Node]) -> dict[int, int]:
    """Return the number of leaves at and below each node, by identity; parents come first."""
    counts = {id(node): int(node.architecture is not None) for node in nodes}
    for node in reversed(nodes):
        if node.parent is not None:
            counts[id(node.parent)] += counts[id(node)]
    return counts


def _shown(views: list[NodeView], depth: int | None) -> Iterator[NodeView]:
    if depth is not None and depth < 0:
        raise ValueError(f"depth must not be negative, got {depth}")
    return (view for view in views if depth is None or view.depth <= depth)


def _words(view: NodeView, depth: int | None) -> list[str]:
    """Return what is written at a node."""
    words = [] if view.name is None else [view.name]
    if view.name is None and (view.parent is None or view.depth == depth or not view.branch):
        words.append(f"{view.leaves} {'leaf' if view.leaves == 1 else 'leaves'}")
    if view.value is None:
        words.append("not visited")
    else:
        words += [f"visits {view.visits}", f"value {view.value:.4f}"]
    if view.height:
        words.append(f"height {view.height:.4g}")
    return words


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')

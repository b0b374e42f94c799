"""Trees in files: learned in one search, looked at or searched again in another."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from nas_ext.architecture import SearchSpace
from nas_ext.files import read_json, write_json
from nas_ext.results import FORMAT as SEARCH_FORMAT
from nas_ext.tree import BinaryTree, Tree, tree_from_state

__all__ = ["FORMAT", "TreeSource", "load_tree", "read_tree", "save_tree", "tree_document"]

FORMAT = "nas-ext/tree-1"

TreeSource: TypeAlias = str | os.PathLike[str] | Mapping[str, Any]
"""A file that `save_tree` wrote, the folder or `search.json` of a search, or what these hold."""


def tree_document(tree: Tree, space: SearchSpace) -> dict[str, Any]:
    """Return a tree as JSON values, with the name and the size of the space it is over."""
    return {
        "format": FORMAT,
        "space": {"name": space.name, "size": space.size},
        "state": tree.state_dict(),
    }


def save_tree(path: str | os.PathLike[str], tree: Tree, space: SearchSpace) -> None:
    """Write a tree as JSON, whole or not at all."""
    write_json(path, tree_document(tree, space))


def read_tree(source: TreeSource) -> dict[str, Any]:
    """Return the document of a tree, as `tree_document` makes it.

    Raises ValueError when there is no such file, when it is of another format, and for a search
    that had no tree. Whether the tree fits a space, `load_tree` says.
    """
    if isinstance(source, Mapping):
        found, name = source, "tree"
    else:
        path = Path(source) / "search.json" if Path(source).is_dir() else Path(source)
        found, name = read_json(path), str(path)
    kind = found.get("format") if isinstance(found, Mapping) else None
    if kind not in (FORMAT, SEARCH_FORMAT):
        raise ValueError(f"format of {name} must be {FORMAT!r} or {SEARCH_FORMAT!r}, got {kind!r}")
    space = found.get("space")
    state = found.get("state" if kind == FORMAT else "tree")
    if kind == SEARCH_FORMAT and state is None:
        raise ValueError(
            f"{name} must come from a search with a tree, {found.get('strategy')} has none"
        )
    if not (isinstance(space, Mapping) and {"name", "size"} <= set(space)):
        raise ValueError(f"space of {name} must have a name and a size, got {space!r}")
    if not (isinstance(state, Mapping) and state.get("kind") in ("binary", "layers")):
        raise ValueError(f"{name} must hold the state of a binary tree or of one of layers")
    return {
        "format": FORMAT,
        "space": {"name": space["name"], "size": space["size"]},
        "state": dict(state),
    }


def load_tree(source: TreeSource, space: SearchSpace) -> Tree:
    """Return a saved tree over a space, with its visits and values.

    A space is known by its name and its size, and every leaf must exist in it: what the options
    mean is not compared. Raises ValueError for a tree of another space and for a broken one.
    """
    document = read_tree(source)
    known = document["space"]
    if (known["name"], known["size"]) != (space.name, space.size):
        raise ValueError(
            f"tree must be of space {space.name!r} with {space.size:,} architectures, "
            f"got one of {known['name']!r} with {known['size']}"
        )
    try:
        if document["state"]["kind"] == "binary":
            _check_merges(document["state"])
        tree = tree_from_state(space, document["state"])
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(f"tree must be whole, got {error!r}") from error
    if isinstance(tree, BinaryTree):
        for architecture in tree.architectures:
            space.check(architecture)
    return tree


def _check_merges(state: Mapping[str, Any]) -> None:
    """Raise ValueError unless each node but the last is joined once, after it was made."""
    count = len(state["architectures"])
    joined: set[int] = set()
    for row, (left, right, _) in enumerate(state["merges"]):
        for child in (left, right):
            if not 0 <= child < count + row or child in joined:
                raise ValueError(f"merges must join each node once, got {child} in row {row}")
            joined.add(child)

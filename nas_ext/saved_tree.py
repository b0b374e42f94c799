"""Trees in files: learned in one search, looked at or searched again in another."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, TypeAlias

from nas_ext.architecture import SearchSpace
from nas_ext.files import naming, write_json
from nas_ext.saved import Source, check_space, document, read_document
from nas_ext.tree import BinaryTree, Tree, tree_from_state

__all__ = ["FORMAT", "TreeSource", "load_tree", "read_tree", "save_tree", "tree_document"]

FORMAT = "nas-ext/tree-1"

TreeSource: TypeAlias = Source
"""A file that `save_tree` wrote, the folder or `search.json` of a search, or what these hold."""


def tree_document(tree: Tree, space: SearchSpace) -> dict[str, Any]:
    """Return a tree as JSON values, with the name and the size of the space it is over."""
    return document(tree.state_dict(), space, form=FORMAT)


def save_tree(path: str | os.PathLike[str], tree: Tree, space: SearchSpace) -> None:
    """Write a tree as JSON, whole or not at all."""
    write_json(path, tree_document(tree, space))


def read_tree(source: TreeSource) -> dict[str, Any]:
    """Return the document of a tree, as `tree_document` makes it.

    Raises ValueError when there is no such file, when it is of another format, and for a search
    that had no tree. Whether the tree fits a space, `load_tree` says.
    """
    saved = read_document(source, form=FORMAT, kind="tree")
    if saved["state"].get("kind") not in ("binary", "layers"):
        name = "tree" if isinstance(source, Mapping) else str(source)
        raise ValueError(f"{name} must hold the state of a binary tree or of one of layers")
    return saved


def load_tree(source: TreeSource, space: SearchSpace) -> Tree:
    """Return a saved tree over a space, with its visits and values.

    A space is known by its name and its size, and every leaf must exist in it: what the options
    mean is not compared. Raises ValueError for a tree of another space and for a broken one.
    """
    saved = read_tree(source)
    with naming("tree" if isinstance(source, Mapping) else source):
        check_space(saved, space, kind="tree")
        if saved["state"]["kind"] == "binary":
            _check_merges(saved["state"])
        tree = tree_from_state(space, saved["state"])
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

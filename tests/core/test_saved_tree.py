"""Trees in files: what comes back, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas_ext.architecture import Choice, SearchSpace
from nas_ext.files import write_json
from nas_ext.pooling import PoolingSpace
from nas_ext.results import FORMAT as SEARCH_FORMAT
from nas_ext.saved_tree import load_tree, read_tree, save_tree, tree_document
from nas_ext.testing import small_space
from nas_ext.tree import BinaryTree, Tree, backup, layer_tree, rank_tree

SPACE = small_space()


def grown(tree: Tree) -> Tree:
    """Back some rewards up a tree."""
    rng = np.random.default_rng(0)
    for _ in range(40):
        backup(tree.leaf(SPACE.draw(rng)), float(rng.random()), decay=0.9)
    return tree


def learned() -> Tree:
    return grown(rank_tree(list(SPACE), np.arange(18).tolist()))


@pytest.mark.parametrize("make", [learned, lambda: grown(layer_tree(SPACE))])
def test_a_saved_tree_comes_back_whole(make: Any, tmp_path: Path) -> None:
    tree = make()
    save_tree(tmp_path / "tree.json", tree, SPACE)
    again = load_tree(tmp_path / "tree.json", SPACE)
    assert type(again) is type(tree)
    assert again.state_dict() == tree.state_dict()
    assert load_tree(tree_document(tree, SPACE), SPACE).state_dict() == tree.state_dict()


def test_a_file_says_what_it_is_and_of_which_space(tmp_path: Path) -> None:
    save_tree(tmp_path / "tree.json", learned(), SPACE)
    written = json.loads((tmp_path / "tree.json").read_text())
    assert written["format"] == "nas-ext/tree-1"
    assert written["space"] == {"name": "small", "size": 18}


def test_the_tree_of_a_search_is_read_from_its_folder_and_its_file(tmp_path: Path) -> None:
    tree = learned()
    search = {
        "format": SEARCH_FORMAT,
        "strategy": "Any",
        "space": {"name": "small", "size": 18, "arguments": None},
        "tree": tree.state_dict(),
    }
    write_json(tmp_path / "search.json", search)
    for source in (tmp_path, str(tmp_path), tmp_path / "search.json", search):
        assert load_tree(source, SPACE).state_dict() == tree.state_dict()


def test_a_tree_of_another_space_is_refused() -> None:
    document = tree_document(learned(), SPACE)
    larger = SearchSpace("small", [Choice(f"layer{i}", (0, 1, 2)) for i in range(3)])
    renamed = SearchSpace("other", SPACE.choices)
    with pytest.raises(
        ValueError,
        match=r"tree must be of space 'small' with 27 architectures, got one of 'small'",
    ):
        load_tree(document, larger)
    with pytest.raises(ValueError, match=r"tree must be of space 'other'.*got one of 'small'"):
        load_tree(document, renamed)


def test_a_leaf_that_the_space_lacks_is_refused_even_under_its_name() -> None:
    # 18 architectures of that name too, but of 2 x 3 x 3 options
    other = SearchSpace(
        "small", [Choice(f"layer{i}", tuple(range(n))) for i, n in enumerate((2, 3, 3))]
    )
    with pytest.raises(ValueError, match="architecture must exist in space 'small'"):
        load_tree(tree_document(learned(), SPACE), other)
    with pytest.raises(ValueError, match="prefix must exist"):
        load_tree(tree_document(grown(layer_tree(SPACE)), SPACE), other)


def broken(**changes: Any) -> dict[str, Any]:
    document = json.loads(json.dumps(tree_document(learned(), SPACE)))
    document["state"].update(changes)
    return dict(document)


STATE = learned().state_dict()


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "format of tree must be 'nas-ext/tree-1' or 'nas-ext/search-1', got None"),
        (
            {"format": "nas-ext/tree-2"},
            "written by a newer nas-ext, in the format 'nas-ext/tree-2'",
        ),
        (
            {"format": SEARCH_FORMAT, "strategy": "Uniform", "tree": None},
            "tree must come from a search with a tree, Uniform has none",
        ),
        ({"format": "nas-ext/tree-1", "state": STATE}, "space of tree must have a name"),
        (
            {"format": "nas-ext/tree-1", "space": {"name": "small", "size": 18}},
            "tree must hold the state of a tree, got NoneType",
        ),
        (broken(kind="ternary"), "tree must hold the state of a binary tree"),
        (broken(merges=STATE["merges"][:-1]), "merges must be one fewer than the 18"),
        (broken(merges=[[0, 0, 1.0]] * 17), "merges must join each node once, got 0 in row 0"),
        (broken(merges=[[0, 99, 1.0]] * 17), "merges must join each node once, got 99 in row 0"),
        (broken(merges=[[0, -1, 1.0]] * 17), "merges must join each node once, got -1 in row 0"),
        (broken(merges=[["a", 1, 1.0]] * 17), "tree must be whole, got TypeError"),
        (broken(visits=[0]), "zip"),
        (broken(architectures=[[0, 0, 0]] * 18), "architectures must be .* all different"),
    ],
)
def test_what_is_no_tree_is_refused(document: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_tree(document, SPACE)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.json does not exist"):
        read_tree(tmp_path / "none.json")
    with pytest.raises(ValueError, match=r"search\.json does not exist"):
        read_tree(tmp_path)


def test_a_tree_over_part_of_a_space_is_a_tree_too() -> None:
    space = PoolingSpace(layers=10, poolings=2)
    some = list(space)[::3]
    tree = load_tree(tree_document(rank_tree(some, [0.5] * 12), space), space)
    assert isinstance(tree, BinaryTree)
    assert list(tree.architectures) == some

"""What is shown of a tree: every node once, with its numbers and its place."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from nas_ext.architecture import Architecture, Choice, SearchSpace
from nas_ext.saved_tree import load_tree
from nas_ext.testing import small_space
from nas_ext.tree import BinaryTree, Tree, backup, cluster_tree, layer_tree, unbiased
from nas_ext.tree_view import node_views, to_dot, to_json, to_text

SPACE = small_space()
NAMES = SearchSpace("names", [Choice("layer", ('say "a"', "back\\slash", "c"))])


def three() -> BinaryTree:
    """Join leaves 0 and 1 at height 1, and both with 2 at height 2.5; two rewards."""
    points = np.asarray([1.0, 2.0, 3.0])  # distances 0-1, 0-2, 1-2: average linkage by hand
    tree = cluster_tree([(0,), (1,), (2,)], points)
    backup(tree.leaf((0,)), 0.5, decay=0.5)
    backup(tree.leaf((0,)), 0.25, decay=0.5)
    return tree


def visited_layers() -> Tree:
    tree = layer_tree(SPACE)
    for architecture in ((0, 0, 0), (0, 0, 0), (0, 1, 2)):
        backup(tree.leaf(architecture), 0.5, decay=0.9, initial=None)
    return tree


def test_nodes_are_shown_with_their_numbers_by_hand() -> None:
    views = node_views(three(), NAMES)
    # the later merge is the root; scipy puts the leaf before the cluster: its id is lower
    assert [(v.parent, v.depth, v.leaves, v.height) for v in views] == [
        (None, 0, 3, 2.5),
        (0, 1, 1, 0.0),
        (0, 1, 2, 1.0),
        (2, 2, 1, 0.0),
        (2, 2, 1, 0.0),
    ]
    assert [v.name for v in views] == [None, "c", None, 'say "a"', "back\\slash"]
    # C: 1 -> .5 * 1 + .5 * .5 = .75 -> .5 * .75 + .5 * .25 = .5
    assert [(v.visits, v.value) for v in views] == [
        (2, 0.5),
        (0, None),
        (2, 0.5),
        (2, 0.5),
        (0, None),
    ]


def test_values_are_read_as_asked() -> None:
    read = unbiased(decay=0.5, initial=1.0)
    # without the initial value: (.5 - .25) / .75
    assert node_views(three(), NAMES, value=read)[0].value == pytest.approx(1 / 3)


def test_a_tree_of_layers_shows_what_walks_have_reached_and_grows_no_further() -> None:
    tree = visited_layers()
    before = len(list(tree.nodes()))
    views = node_views(tree, SPACE)
    assert len(views) == before == len(list(tree.nodes()))
    # root; 3 options, of which the first was entered: 2; both entered: 3 each
    assert before == 1 + 3 + 2 + 3 + 3
    by_way = {(v.depth, v.branch): v.visits for v in views if v.visits}
    assert by_way == {
        (0, ""): 3,
        (1, "layer0=a"): 3,
        (2, "layer1=a"): 2,
        (2, "layer1=b"): 1,
        (3, "layer2=a"): 2,
        (3, "layer2=c"): 1,
    }
    assert {v.name for v in views if v.depth == 3 and v.visits} == {"a-a-a", "a-b-c"}


def test_what_json_shows_can_be_loaded_as_the_same_tree() -> None:
    trees: list[tuple[Tree, SearchSpace]] = [(three(), NAMES), (visited_layers(), SPACE)]
    for tree, space in trees:
        shown = json.loads(json.dumps(to_json(tree, space), allow_nan=False))
        assert load_tree(shown, space).state_dict() == tree.state_dict()
        views = node_views(tree, space)
        assert [node["number"] for node in shown["nodes"]] == list(range(len(views)))
        for node, view in zip(shown["nodes"], views, strict=True):
            assert node["value"] == view.value
            assert node["architecture"] == (view.architecture and list(view.architecture))


def test_graphviz_gets_every_node_and_edge_once_with_quotes_escaped() -> None:
    dot = to_dot(three(), NAMES)
    nodes = re.findall(r"^  n(\d+) \[label=", dot, re.MULTILINE)
    edges = re.findall(r"^  n(\d+) -> n(\d+) \[", dot, re.MULTILINE)
    assert nodes == ["0", "1", "2", "3", "4"]
    assert edges == [("0", "1"), ("0", "2"), ("2", "3"), ("2", "4")]
    assert '  n3 [label="say \\"a\\"\\nvisits 2\\nvalue 0.5000"];' in dot
    assert '  n4 [label="back\\\\slash\\nnot visited"];' in dot
    assert dot.startswith("digraph tree {")
    assert dot.endswith("}\n")
    # in every line, the quotes that are not escaped come in pairs
    for line in dot.splitlines():
        assert re.sub(r"\\.", "", line).count('"') % 2 == 0
    # an edge is as wide as its share of the visits: 1 + 4 * 0 / 2 and 1 + 4 * 2 / 2
    assert "n0 -> n1 [penwidth=1.00];" in dot
    assert "n0 -> n2 [penwidth=5.00];" in dot


def test_edges_of_a_tree_of_layers_name_the_options() -> None:
    assert 'n0 -> n1 [label="layer0=a", penwidth=5.00];' in to_dot(visited_layers(), SPACE)


def test_text_draws_the_tree() -> None:
    assert to_text(three(), NAMES).splitlines() == [
        "3 leaves, visits 2, value 0.5000, height 2.5",
        "|-- c, not visited",
        "`-- 2 leaves, visits 2, value 0.5000, height 1",
        '    |-- say "a", visits 2, value 0.5000',
        "    `-- back\\slash, not visited",
    ]


def test_depth_hides_what_is_deeper() -> None:
    assert to_text(three(), NAMES, depth=0) == "3 leaves, visits 2, value 0.5000, height 2.5\n"
    assert len(to_text(three(), NAMES, depth=1).splitlines()) == 3
    assert "n3" not in to_dot(three(), NAMES, depth=1)
    assert to_dot(three(), NAMES, depth=2) == to_dot(three(), NAMES)
    with pytest.raises(ValueError, match="depth must not be negative, got -1"):
        to_text(three(), NAMES, depth=-1)


def test_a_chain_of_thousands_of_levels_is_shown_without_recursion() -> None:
    count = 3000
    space = SearchSpace("long", [Choice("layer", tuple(range(count)))])
    names: list[Architecture] = [(i,) for i in range(count)]
    merges = [(0, 1, 1.0)] + [(count + k, k + 2, float(k + 2)) for k in range(count - 2)]
    tree = BinaryTree(names, merges)
    shown = json.loads(json.dumps(to_json(tree, space)))
    assert max(node["depth"] for node in shown["nodes"]) == count - 1
    assert to_dot(tree, space).count(" -> ") == 2 * (count - 1)
    assert len(to_text(tree, space, depth=3).splitlines()) == 1 + 2 * 3

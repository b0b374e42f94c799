"""Average linkage on a line: golden merges, and scipy's linkage of all pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import cophenet, linkage
from scipy.spatial.distance import pdist, squareform

from nas_ext.estimation import FloatArray
from nas_ext.line_tree import line_tree
from nas_ext.tree import BinaryTree, Node


def depth(tree: BinaryTree) -> int:
    deepest, stack = 0, [(tree.root, 0)]
    while stack:
        node, level = stack.pop()
        deepest = max(deepest, level)
        stack.extend((child, level + 1) for child in node.children)
    return deepest


def leaves(node: Node) -> list[int]:
    if node.architecture is not None:
        return [node.architecture[0]]
    return [leaf for child in node.children for leaf in leaves(child)]


def joined_at(tree: BinaryTree, count: int) -> FloatArray:
    """The height at which each pair of leaves is first in one node, `[N, N]`."""
    found = np.zeros((count, count))
    for node in tree.nodes():
        if node.children:
            left, right = (leaves(child) for child in node.children)
            found[np.ix_(left, right)] = found[np.ix_(right, left)] = 0.0
            for i in left:
                for j in right:
                    found[i, j] = found[j, i] = node.height
    return found


def test_four_points_are_joined_at_the_golden_heights() -> None:
    # Golden number 21: 0, 1, 5, 6.5 merge at 1, 1.5 and 5.25
    tree = line_tree([(i,) for i in range(4)], [0.0, 1.0, 5.0, 6.5])
    assert [height for _, _, height in tree.merges] == [1.0, 1.5, 5.25]
    assert sorted(leaves(tree.root.children[0])) == [2, 3]  # the higher values are on the left
    assert leaves(tree.root) == [3, 2, 1, 0]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-10_000, 10_000), min_size=2, max_size=24, unique=True))
def test_it_is_the_average_linkage_of_all_pairs(values: list[int]) -> None:
    # where no two distances are equal there is one tree of average linkage
    noise = np.random.default_rng(0).normal(size=len(values))
    points = noise + np.asarray(values, dtype=np.float64)
    wanted = squareform(cophenet(linkage(pdist(points[:, None]), method="average")))
    tree = line_tree([(i,) for i in range(len(points))], points)
    assert joined_at(tree, len(points)) == pytest.approx(wanted, abs=1e-9)


def test_equal_values_make_a_balanced_tree() -> None:
    tree = line_tree([(i,) for i in range(64)], [0.5] * 64)
    assert depth(tree) == 6
    assert {height for _, _, height in tree.merges} == {0.0}


def test_many_points_need_no_pairs() -> None:
    count = 5_000  # all pairs would be 12 million numbers
    points = np.random.default_rng(0).normal(size=count)
    tree = line_tree([(i,) for i in range(count)], points)
    assert len(tree.merges) == count - 1
    heights = [height for _, _, height in tree.merges]
    assert heights == sorted(heights)  # average linkage has no inversions


def test_one_point_is_a_tree_and_infinity_is_no_place_on_a_line() -> None:
    assert line_tree([(0,)], [3.0]).root.architecture == (0,)
    for wrong in ([0.0, -np.inf], [0.0, np.nan], [0.0]):
        with pytest.raises(ValueError, match="values must be 2 finite numbers"):
            line_tree([(0,), (1,)], wrong)

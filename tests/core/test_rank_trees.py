"""The two trees of a ranking: halves, and the chain that chapter 4 prints."""

from __future__ import annotations

import numpy as np
import pytest

from nas_ext.architecture import Architecture
from nas_ext.tree import BinaryTree, Node, backup, caterpillar_tree, most_valued_leaf, rank_tree


def names(count: int) -> list[Architecture]:
    return [(i,) for i in range(count)]


def depth(tree: BinaryTree) -> int:
    deepest, stack = 0, [(tree.root, 0)]
    while stack:
        node, level = stack.pop()
        deepest = max(deepest, level)
        stack += [(child, level + 1) for child in node.children]
    return deepest


def under(node: Node) -> set[Architecture]:
    found, stack = set(), [node]
    while stack:
        last = stack.pop()
        stack += last.children
        if last.architecture is not None:
            found.add(last.architecture)
    return found


def literally(accuracies: list[float]) -> set[frozenset[int]]:
    """Merge the two nodes of lowest average rank until one is left; return the sets merged."""
    order = sorted(range(len(accuracies)), key=lambda i: -accuracies[i])
    nodes = [(float(rank), frozenset([i])) for rank, i in enumerate(order, start=1)]
    ranks = {i: rank for rank, i in enumerate(order, start=1)}
    merged = set()
    while len(nodes) > 1:
        nodes.sort(key=lambda node: node[0])
        both = nodes[0][1] | nodes[1][1]
        nodes = [(sum(ranks[i] for i in both) / len(both), both), *nodes[2:]]
        merged.add(both)
    return merged


@pytest.mark.parametrize("count", [2, 5, 36])
def test_the_caterpillar_is_what_the_printed_merging_makes(count: int) -> None:
    accuracies = np.random.default_rng(count).random(count).tolist()
    tree = caterpillar_tree(names(count), accuracies)
    inner = [node for node in tree.nodes() if node.children]
    assert {frozenset(i for (i,) in under(node)) for node in inner} == literally(accuracies)
    # D4-1 and golden number 20: depth N - 1
    assert depth(tree) == count - 1


def test_the_best_architecture_is_at_the_bottom_of_the_caterpillar() -> None:
    tree = caterpillar_tree(names(5), [0.5, 0.9, 0.7, 0.8, 0.6])
    node, levels = tree.leaf((1,)), 0
    while node.parent is not None:
        node, levels = node.parent, levels + 1
    assert levels == 4
    assert [child.architecture for child in tree.root.children][1] == (0,)


def test_a_caterpillar_over_15625_architectures_needs_no_recursion() -> None:
    # Pitfall 15: NAS-Bench-201 has 15,625.
    count = 15_625
    tree = caterpillar_tree(names(count), np.arange(count).tolist())
    backup(tree.leaf((count - 1,)), 0.5, decay=0.95)
    assert most_valued_leaf(tree.root).architecture == (count - 1,)


@pytest.mark.parametrize(("count", "levels"), [(36, 6), (37, 6), (64, 6), (65, 7), (15_625, 14)])
def test_halves_are_ceil_log2_deep(count: int, levels: int) -> None:
    assert depth(rank_tree(names(count), np.arange(count).tolist())) == levels


def test_the_better_half_is_the_left_child_at_every_node() -> None:
    # Pitfall 15: values sorted ascending would put the best architectures right.
    accuracies = np.random.default_rng(0).random(37).tolist()
    for node in rank_tree(names(37), accuracies).nodes():
        if node.children:
            left, right = (under(child) for child in node.children)
            assert min(accuracies[i] for (i,) in left) > max(accuracies[i] for (i,) in right)
            assert len(right) - len(left) in (0, 1)


def test_equal_accuracies_chain_in_the_given_order() -> None:
    tree = caterpillar_tree(names(4), [0.5] * 4)
    assert tree.merges == ((0, 1, 1.5), (4, 2, 2.0), (5, 3, 2.5))


def test_one_architecture_is_a_tree_and_nan_is_no_rank() -> None:
    assert caterpillar_tree(names(1), [0.5]).root.architecture == (0,)
    with pytest.raises(ValueError, match="accuracies must be 2 finite numbers"):
        caterpillar_tree(names(2), [0.5, float("nan")])

"""Many leaves at once against single walks, and against the product of the shares on each path."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from scipy.stats import chi2_contingency, chisquare

from nas_ext.architecture import Architecture, Choice, SearchSpace
from nas_ext.testing import small_space
from nas_ext.tree import (
    Node,
    Tree,
    backup,
    caterpillar_tree,
    descend,
    draw_leaves,
    layer_tree,
    leaf_probabilities,
    rank_tree,
    selection_probabilities,
    unbiased,
)
from nas_ext.tree.walk import Unbiased

SPACE = small_space()
RULES: dict[str, dict[str, Any]] = {
    "scores": {"temperature": 0.3, "exploration": 0.0},
    "bonuses": {"temperature": 0.2, "exploration": 0.7},
    "force": {"temperature": 0.1, "exploration": 0.5, "unvisited": "force"},
    "few visits": {"temperature": 0.1, "exploration": 0.5, "minimum_visits": 3},
    "prior": {"temperature": 0.5, "exploration": 0.5, "unvisited": "prior", "initial": 0.8},
    "never": {"temperature": 0.1, "exploration": 0.0, "unvisited": "never"},
    "unbiased": {
        "temperature": 0.1,
        "exploration": 0.2,
        "unvisited": "never",
        "value": unbiased(decay=0.8, initial=1.0),
    },
    "own reader": {"temperature": 0.3, "exploration": 0.0, "value": lambda node: -node.value},
    "cold": {"temperature": 1e-4, "exploration": 0.0},
    "leaves": {"temperature": 0.2, "exploration": 0.7, "balance": "leaves"},
    "leaves, never": {
        "temperature": 0.2,
        "exploration": 0.0,
        "unvisited": "never",
        "balance": "leaves",
    },
}


def trees(visits: int) -> list[Tree]:
    """Return a tree of layers and one of pairs after so many visits of some architectures."""
    rng = np.random.default_rng(visits)
    architectures = list(SPACE)
    ranked = rank_tree(architectures, rng.random(len(architectures)).tolist())
    made: list[Tree] = [layer_tree(SPACE), ranked]
    for tree in made:
        for _ in range(visits):
            chosen = architectures[int(len(architectures) * rng.random() ** 2)]
            backup(tree.leaf(chosen), rng.random(), decay=0.8)
    return made


def along_the_path(leaf: Node, rule: dict[str, Any]) -> float:
    """The product of the shares on the way down, each from its own fork."""
    share, node = 1.0, leaf
    while node.parent is not None and share > 0.0:
        siblings = node.parent.children
        if len(siblings) > 1:
            above = along_the_path(node.parent, rule)
            if above == 0.0:
                return 0.0
            return above * selection_probabilities(node.parent, **rule)[siblings.index(node)]
        node = node.parent
    return share


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
@pytest.mark.parametrize("visits", [5, 300])
def test_the_law_is_the_product_of_the_shares_on_each_path(
    rule: dict[str, Any], visits: int
) -> None:
    for tree in trees(visits):
        law = leaf_probabilities(tree.root, **rule)
        assert set(law) == set(SPACE)
        assert sum(law.values()) == pytest.approx(1.0, abs=1e-12)
        for architecture, probability in law.items():
            expected = along_the_path(tree.leaf(architecture), rule)
            assert probability == pytest.approx(expected, rel=1e-9, abs=1e-300)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
def test_leaves_are_drawn_by_the_law(rule: dict[str, Any]) -> None:
    for tree in trees(40):
        law = leaf_probabilities(tree.root, **rule)
        drawn = draw_leaves(tree.root, np.random.default_rng(1), 5_000, **rule)
        counts = Counter(leaf.architecture for leaf in drawn)
        assert len(drawn) == 5_000
        assert set(counts) <= {a for a, share in law.items() if share > 0}
        likely = [a for a, share in law.items() if 5_000 * share >= 5]
        expected = [5_000 * law[a] for a in likely]
        observed = [counts[a] for a in likely]
        rest = 5_000 - sum(expected)
        if rest > 1e-6:
            expected, observed = [*expected, rest], [*observed, 5_000 - sum(observed)]
        assert len(expected) == 1 or chisquare(observed, expected).pvalue > 1e-4


def test_leaves_are_drawn_as_single_walks_end() -> None:
    # Two samples of one law: a test of independence.
    (tree, _), rule = trees(60), RULES["bonuses"]
    rng = np.random.default_rng(2)
    walked = Counter(descend(tree.root, rng, **rule).architecture for _ in range(4_000))
    drawn = Counter(leaf.architecture for leaf in draw_leaves(tree.root, rng, 4_000, **rule))
    table = [
        [counts[a] for a in SPACE if walked[a] + drawn[a] >= 10] for counts in (walked, drawn)
    ]
    assert chi2_contingency(np.asarray(table)).pvalue > 1e-4


def test_leaves_come_in_no_order() -> None:
    # The first thousand of many have the law of all.
    (_, tree), rule = trees(60), RULES["prior"]
    law = leaf_probabilities(tree.root, **rule)
    drawn = draw_leaves(tree.root, np.random.default_rng(3), 20_000, **rule)[:1_000]
    counts = Counter(leaf.architecture for leaf in drawn)
    assert chisquare([counts[a] for a in law], [1_000 * p for p in law.values()]).pvalue > 1e-4


def test_the_same_generator_draws_the_same_leaves() -> None:
    tree, _ = trees(60)
    first, second = (
        draw_leaves(tree.root, np.random.default_rng(4), 50, **RULES["scores"]) for _ in range(2)
    )
    assert first == second


def test_only_the_nodes_above_drawn_leaves_are_made() -> None:
    # 13^21 architectures cannot all have nodes: a walk makes at most 13 at each of 21 forks.
    options = tuple(map(str, range(13)))
    space = SearchSpace("large", [Choice(f"layer{i}", options) for i in range(21)])
    tree = layer_tree(space)
    drawn = draw_leaves(tree.root, np.random.default_rng(5), 20, temperature=1.0, exploration=0.5)
    assert len({leaf.architecture for leaf in drawn}) == 20
    assert sum(1 for _ in tree.nodes()) <= 1 + 20 * 21 * 13


def test_no_walks_are_no_leaves_and_one_leaf_is_drawn_every_time() -> None:
    tree, _ = trees(5)
    assert draw_leaves(tree.root, np.random.default_rng(0), 0, **RULES["scores"]) == []
    leaf = Node(architecture=(0,))
    assert draw_leaves(leaf, np.random.default_rng(0), 3, **RULES["scores"]) == [leaf] * 3


def test_a_deep_chain_needs_no_recursion() -> None:
    # Nobody was visited: each fork of the chain halves what is left, the first at depth 1.
    names: list[Architecture] = [(i,) for i in range(3_000)]
    tree = caterpillar_tree(names, [-float(i) for i in range(3_000)])
    law = leaf_probabilities(tree.root, temperature=1.0)
    assert law[(2_999,)] == 0.5
    assert law[(2_990,)] == 2.0**-10
    drawn = draw_leaves(tree.root, np.random.default_rng(6), 100, temperature=1.0, exploration=0.0)
    assert len(drawn) == 100


def test_many_values_are_read_as_one_by_one() -> None:
    rng = np.random.default_rng(7)
    nodes = [Node() for _ in range(20)]
    for node in nodes:
        node.visits, node.value = int(rng.integers(1, 90)), rng.random()
    read = Unbiased(0.95, 1.0)
    visits, values = (np.asarray([getattr(n, k) for n in nodes]) for k in ("visits", "value"))
    np.testing.assert_allclose(read.many(visits, values), [read(n) for n in nodes], rtol=1e-12)


def test_an_only_child_is_taken_whoever_visited_it() -> None:
    # As `descend` does: where there is no choice there is no rule.
    root, leaf = Node(), Node(architecture=(0,))
    root.adopt([leaf])
    rule = RULES["never"]
    assert descend(root, np.random.default_rng(0), **rule) is leaf
    assert draw_leaves(root, np.random.default_rng(0), 2, **rule) == [leaf, leaf]
    assert leaf_probabilities(root, **rule) == {(0,): 1.0}


def test_wrong_settings_are_named() -> None:
    root, rng = layer_tree(SPACE).root, np.random.default_rng(0)
    with pytest.raises(ValueError, match="count must not be negative, got -1"):
        draw_leaves(root, rng, -1, temperature=1.0, exploration=0.0)
    for temperature in (0.0, math.nan):
        with pytest.raises(ValueError, match="temperature must be positive"):
            draw_leaves(root, rng, 1, temperature=temperature, exploration=0.0)
        with pytest.raises(ValueError, match="temperature must be positive"):
            leaf_probabilities(root, temperature=temperature)
    with pytest.raises(ValueError, match="node must have a visited child when unvisited is"):
        draw_leaves(root, rng, 1, temperature=1.0, exploration=0.0, unvisited="never")

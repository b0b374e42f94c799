"""Trees, walks and updates against hand calculations and the numbers of the thesis."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform
from scipy.stats import chisquare

from nas_ext.architecture import Architecture
from nas_ext.benchmarks import pooling_table
from nas_ext.pooling import PoolingSpace
from nas_ext.similarity import encoding
from nas_ext.testing import small_space
from nas_ext.tree import (
    BinaryTree,
    Node,
    Tree,
    backup,
    cluster_tree,
    descend,
    layer_tree,
    leaf_probabilities,
    most_valued_leaf,
    rank_tree,
    selection_probabilities,
    tree_from_state,
    unbiased,
)

POOLING = PoolingSpace(layers=10, poolings=2)


def expand(root: Node) -> list[list[Node]]:
    """Return all nodes of a tree by depth, making those that wait to be made."""
    levels, level = [], [root]
    while level:
        levels.append(level)
        level = [child for node in level for child in node.children]
    return levels


def siblings(*numbers: tuple[float, int]) -> Node:
    """Return a node with leaves of given values and visits."""
    root = Node()
    root.adopt([Node(architecture=(i,)) for i in range(len(numbers))])
    for child, (value, visits) in zip(root.children, numbers, strict=True):
        child.value, child.visits = value, visits
    root.visits = sum(visits for _, visits in numbers)
    return root


def test_the_default_tree_of_pooling_has_the_published_shape() -> None:
    # Golden number 19.
    levels = expand(layer_tree(POOLING).root)
    inner = [n for level in levels for n in level if n.architecture is None]
    assert [len(level) for level in levels[1:]] == [2, 4, 7, 11, 16, 22, 29, 36, 36]
    assert len(inner) == 128
    assert sum(len(node.children) == 1 for node in inner) == 93


def test_uniform_choice_at_each_branch_is_far_from_uniform_over_architectures() -> None:
    # Golden number 19: nobody was visited, so "force" is uniform at each branch.
    p = leaf_probabilities(layer_tree(POOLING).root, temperature=1.0)
    table = pooling_table()
    by_name = {POOLING.describe(a): share for a, share in p.items()}
    assert by_name["[1,1,8]"] == 0.25
    assert by_name["[1,2,7]"] == by_name["[2,1,7]"] == 0.125
    assert by_name["[4,3,3]"] == pytest.approx(0.0078, abs=5e-5)
    assert by_name["[6,2,2]"] == pytest.approx(0.0039, abs=5e-5)
    truth = table.accuracies
    assert 100 * sum(share * truth[a] for a, share in p.items()) == pytest.approx(88.728, abs=5e-4)
    assert 100 * sum(truth.values()) / 36 == pytest.approx(90.124, abs=5e-4)


def test_the_rank_tree_of_the_published_example() -> None:
    # Section 4.1: accuracies [.5, .9, .7, .8, .6].
    names: list[Architecture] = [(i,) for i in range(5)]
    tree = rank_tree(names, [0.5, 0.9, 0.7, 0.8, 0.6])
    leaves = [n.architecture for n in tree.nodes() if n.architecture is not None]
    assert leaves == [(1,), (3,), (2,), (4,), (0,)]
    left = tree.root.children[0]
    assert [child.architecture for child in left.children] == [(1,), (3,)]
    assert len(expand(tree.root)) - 1 == 3


def test_the_rank_tree_of_36_is_balanced() -> None:
    # Golden number 20: depth 6, root 18/18, leaf probabilities 1/64 to 1/32 by branches.
    tree = rank_tree(list(POOLING), np.arange(36).tolist())
    levels = expand(tree.root)
    p = leaf_probabilities(tree.root, temperature=1.0)
    under_left = leaf_probabilities(tree.root.children[0], temperature=1.0)
    assert len(levels) - 1 == 6
    assert len(under_left) == 18
    assert (min(p.values()), max(p.values())) == (1 / 64, 1 / 32)


def test_equal_accuracies_keep_the_given_order() -> None:
    tree = rank_tree(list(POOLING), [0.5] * 36)
    assert [n.architecture for n in tree.nodes() if n.architecture is not None] == list(POOLING)


def test_average_linkage_joins_points_at_their_mean_distances() -> None:
    # Golden number 21: points 0, 1, 5, 6.5.
    points = np.asarray([[0.0], [1.0], [5.0], [6.5]])
    tree = cluster_tree([(i,) for i in range(4)], encoding(points, weights=np.ones(1)))
    assert [height for _, _, height in tree.merges] == pytest.approx([1.0, 1.5, 5.25])


def test_a_learned_tree_holds_every_architecture_once_and_always_forks_in_two() -> None:
    rows = np.random.default_rng(0).random((36, 5))
    tree = cluster_tree(list(POOLING), encoding(rows))
    nodes = [n for level in expand(tree.root) for n in level]
    assert Counter(n.architecture for n in nodes if n.architecture) == Counter(POOLING)
    assert {len(n.children) for n in nodes if n.architecture is None} == {2}
    assert len(tree.merges) == 35


def test_single_linkage_would_be_a_chain_and_average_is_not() -> None:
    # Section 3.6: on pooling encodings single linkage gives depth 35, average 7 to 9.
    flags = np.asarray([a for a in POOLING], dtype=np.float64)
    distances = encoding(flags, weights=np.ones(9))
    tree = cluster_tree(list(POOLING), distances)
    chain = linkage(distances, method="single")
    depth = BinaryTree(list(POOLING), [(int(a), int(b), float(h)) for a, b, h, _ in chain])
    assert 7 <= len(expand(tree.root)) - 1 <= 9
    assert len(expand(depth.root)) - 1 > 2 * (len(expand(tree.root)) - 1)


def test_a_leaf_is_found_under_the_name_of_its_architecture() -> None:
    trees: list[Tree] = [layer_tree(POOLING), rank_tree(list(POOLING), [0.5] * 36)]
    for tree, architecture in itertools.product(trees, POOLING):
        assert tree.leaf(architecture).architecture == architecture


def test_unknown_architectures_have_no_leaf() -> None:
    with pytest.raises(ValueError, match="must exist in space"):
        layer_tree(POOLING).leaf((0,) * 9)
    with pytest.raises(ValueError, match="must be a leaf of the tree"):
        rank_tree([(0,), (1,)], [0.5, 0.6]).leaf((2,))


def test_uct_scores_and_probabilities_are_the_worked_example() -> None:
    # Golden number 17: C .80 with 60 visits against .78 with 40, lambda .5.
    root = siblings((0.80, 60), (0.78, 40))
    first = 0.80 + 0.5 * math.sqrt(math.log(100) / 60)
    second = 0.78 + 0.5 * math.sqrt(math.log(100) / 40)
    assert (first, second) == pytest.approx((0.93852, 0.94965), abs=5e-6)
    for temperature, share in ((0.02, 0.3643), (0.0025, 0.0115)):
        p = selection_probabilities(root, temperature=temperature, exploration=0.5)
        assert p[0] == pytest.approx(share, abs=5e-5)
        assert sum(p) == pytest.approx(1.0, abs=1e-15)


def test_the_bonus_of_a_child_grows_when_its_sibling_alone_is_visited() -> None:
    # Pitfall 11, D3-8: a cached score would keep sqrt(ln 20 / 10) where ln 21 belongs
    root = siblings((0.5, 10), (0.5, 10))
    backup(root.children[1], 0.5, decay=0.95)
    p = selection_probabilities(root, temperature=0.1, exploration=0.5)
    first = 0.5 * math.sqrt(math.log(21) / 10)
    second = 0.5 * math.sqrt(math.log(21) / 11)
    assert p[0] / p[1] == pytest.approx(math.exp((first - second) / 0.1))


@pytest.mark.parametrize("visits", [0, 1])
def test_a_parent_of_one_visit_or_none_has_finite_scores(visits: int) -> None:
    # Pitfall 9: ln 0 and ln 1 below the root of a bonus
    root = siblings((0.8, 1), (0.6, 0))
    root.visits = visits
    p = selection_probabilities(
        root, temperature=0.1, exploration=0.5, unvisited="prior", initial=0.7
    )
    # both bonuses are sqrt(ln 1 / 1) = 0
    assert p[0] / p[1] == pytest.approx(math.exp(0.1 / 0.1))


def test_children_of_few_visits_come_first_where_a_minimum_is_asked_for() -> None:
    # Section 3.4: in the search stage, children of fewer visits than about 6 are taken first
    root = siblings((0.9, 50), (0.1, 5), (0.2, 6), (0.0, 0))
    p = selection_probabilities(root, temperature=0.01, exploration=0.0, minimum_visits=6)
    assert p == [0.0, 0.5, 0.0, 0.5]
    assert selection_probabilities(root, temperature=0.01, exploration=0.0) == [0, 0, 0, 1.0]


def test_two_children_have_the_shares_of_the_rule_for_many_to_the_bit() -> None:
    # A third child that never counts, exp(-inf) = 0, takes the general way.
    rng = np.random.default_rng(0)
    for _ in range(200):
        pair = [(float(rng.random()), int(rng.integers(1, 99))) for _ in range(2)]
        rule: dict[str, Any] = {
            "temperature": 10 ** rng.uniform(-4, 0),
            "exploration": rng.random(),
        }
        two, three = siblings(*pair), siblings(*pair, (0.0, 0))
        expected = selection_probabilities(three, unvisited="never", **rule)
        assert [*selection_probabilities(two, **rule), 0.0] == expected


def test_balanced_by_leaves_a_walk_without_preference_is_a_uniform_draw() -> None:
    # Without visits counting (exploration 0) and with equal values, each leaf must have 1 / 36;
    # by branches the first has .25 and [6,2,2] .0039, as the thesis's numbers say.
    tree = layer_tree(POOLING)
    for leaf in POOLING:
        backup(tree.leaf(leaf), 0.5, decay=0.95)
    for level in expand(tree.root):
        for node in level:
            node.value = 0.5
    law = leaf_probabilities(tree.root, temperature=0.01, exploration=0.0, balance="leaves")
    assert list(law.values()) == pytest.approx([1 / 36] * 36, rel=1e-12)


def test_balanced_by_leaves_even_visits_leave_the_bonus_without_a_say() -> None:
    # One visit of each of the 36 leaves: whatever the constant, the draw stays uniform.
    tree = layer_tree(POOLING)
    for leaf in POOLING:
        backup(tree.leaf(leaf), 0.5, decay=0.0)
    law = leaf_probabilities(tree.root, temperature=0.02, exploration=0.5, balance="leaves")
    assert list(law.values()) == pytest.approx([1 / 36] * 36, rel=1e-9)
    by_branches = leaf_probabilities(tree.root, temperature=0.02, exploration=0.5)
    assert max(by_branches.values()) > 0.25


def test_balanced_by_leaves_the_worked_example() -> None:
    # Children with 1 and 3 leaves: even shares 1/2 and 3/2 of two. C = .8 and .7, n = 10 and 20,
    # n_p = 30: scores .8 + .1 sqrt(ln 30 / (10 / .5)) and .7 + .1 sqrt(ln 30 / (20 / 1.5)).
    root, inner = Node(), Node()
    inner.adopt([Node(architecture=(i,)) for i in range(1, 4)])
    root.adopt([Node(architecture=(0,)), inner])
    (first, second), root.visits = root.children, 30
    first.value, first.visits, second.value, second.visits = 0.8, 10, 0.7, 20
    scores = (
        0.8 + 0.1 * math.sqrt(math.log(30) / 20),
        0.7 + 0.1 * math.sqrt(math.log(30) / 13.333333333333334),
    )
    odds = 0.5 * math.exp(scores[0] / 0.05) / (1.5 * math.exp(scores[1] / 0.05))
    found = selection_probabilities(root, temperature=0.05, exploration=0.1, balance="leaves")
    assert found[0] / found[1] == pytest.approx(odds)
    many = leaf_probabilities(
        root, temperature=0.05, exploration=0.1, unvisited="prior", balance="leaves"
    )
    assert many[(0,)] == pytest.approx(found[0])


def test_nodes_count_their_leaves_without_being_made() -> None:
    tree = layer_tree(POOLING)
    assert tree.root.leaves == 36
    # A pooling at the first of nine places leaves eight for the other; else C(8, 2) are left.
    assert [child.leaves for child in tree.root.children] == [8, 28]
    assert len(list(tree.nodes())) == 3


@pytest.mark.parametrize(("temperature", "odds"), [(0.02, 1.649), (0.01, 2.718), (0.0025, 54.6)])
def test_one_percent_of_accuracy_is_worth_so_much(temperature: float, odds: float) -> None:
    # Golden number 17, lambda 0.
    p = selection_probabilities(
        siblings((0.81, 9), (0.80, 1)), temperature=temperature, exploration=0.0
    )
    assert p[0] / p[1] == pytest.approx(odds, rel=5e-4)


def test_a_minute_temperature_neither_overflows_nor_leaves_the_simplex() -> None:
    p = selection_probabilities(siblings((1.0, 5), (0.0, 5)), temperature=1e-6, exploration=0.0)
    assert p == [1.0, 0.0]


@pytest.mark.parametrize(("accuracy", "visits"), [(0.3, 83), (0.5, 77), (0.8, 59)])
def test_an_initial_value_of_one_fades_after_so_many_visits(accuracy: float, visits: int) -> None:
    # Golden number 18: first visit count with |C - a| < .01.
    leaf = Node(architecture=())
    count = 0
    while abs(leaf.value - accuracy) >= 0.01:
        backup(leaf, accuracy, decay=0.95)
        count += 1
    assert count == visits


def test_the_first_reward_is_the_value_when_there_is_no_initial_one() -> None:
    leaf = Node(architecture=())
    backup(leaf, 0.4, decay=0.95, initial=None)
    assert leaf.value == 0.4
    backup(leaf, 0.8, decay=0.95, initial=None)
    assert leaf.value == pytest.approx(0.95 * 0.4 + 0.05 * 0.8)


def test_taking_out_the_initial_value_leaves_the_average_of_the_rewards() -> None:
    # Independent formula: weights (1 - b) b^(n - k), normalised by 1 - b^n.
    rewards, decay = [0.2, 0.9, 0.4, 0.7], 0.95
    leaf = Node(architecture=())
    for reward in rewards:
        backup(leaf, reward, decay=decay)
    weights = [(1 - decay) * decay ** (len(rewards) - k - 1) for k in range(len(rewards))]
    expected = np.dot(weights, rewards) / (1 - decay ** len(rewards))
    assert unbiased(decay=decay, initial=1.0)(leaf) == pytest.approx(expected)


def test_a_reward_reaches_every_node_above_its_leaf_and_no_other() -> None:
    tree = layer_tree(POOLING)
    target = POOLING.from_stages((4, 3, 3))
    backup(tree.leaf(target), 0.5, decay=0.95)
    visited = [node for node in tree.nodes() if node.visits]
    assert len(visited) == 10
    assert all(node.value == pytest.approx(0.975) for node in visited)


def test_an_unvisited_child_is_taken_first() -> None:
    root = siblings((0.9, 5), (0.0, 0), (0.0, 0))
    assert selection_probabilities(root, temperature=0.01, exploration=0.5) == [0.0, 0.5, 0.5]


def test_an_unvisited_child_may_stand_on_the_prior_instead() -> None:
    root = siblings((0.9, 5), (0.0, 0))
    p = selection_probabilities(
        root, temperature=1.0, exploration=0.5, unvisited="prior", initial=1.0
    )
    scores = [0.9 + 0.5 * math.sqrt(math.log(5) / 5), 1.0 + 0.5 * math.sqrt(math.log(5))]
    expected = np.exp(scores) / np.exp(scores).sum()
    assert p == pytest.approx(expected.tolist())


def test_an_unvisited_child_is_never_final() -> None:
    root = siblings((0.3, 5), (0.0, 0))
    p = selection_probabilities(root, temperature=1.0, exploration=0.0, unvisited="never")
    assert p == [1.0, 0.0]
    assert most_valued_leaf(root).architecture == (0,)


def test_ties_go_to_the_lowest_index() -> None:
    assert most_valued_leaf(siblings((0.3, 5), (0.3, 5))).architecture == (0,)


def test_a_tree_that_saw_nothing_has_no_best_leaf() -> None:
    with pytest.raises(ValueError, match="must have been visited"):
        most_valued_leaf(layer_tree(POOLING).root)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_must_be_positive(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature must be positive"):
        descend(
            layer_tree(POOLING).root,
            np.random.default_rng(0),
            temperature=temperature,
            exploration=0.5,
        )


def test_walks_end_in_leaves_with_their_exact_probabilities() -> None:
    space = small_space()
    tree, rng = layer_tree(space), np.random.default_rng(5)
    for architecture in space:
        backup(tree.leaf(architecture), rng.random(), decay=0.5, initial=None)
    p = leaf_probabilities(tree.root, temperature=0.3, exploration=0.5)
    walks = (descend(tree.root, rng, temperature=0.3, exploration=0.5) for _ in range(20_000))
    counts = Counter(leaf.architecture for leaf in walks)
    assert sum(p.values()) == pytest.approx(1.0)
    assert (
        chisquare([counts[a] for a in p], [20_000 * share for share in p.values()]).pvalue > 1e-4
    )


def test_trees_survive_json() -> None:
    rng = np.random.default_rng(3)
    trees: list[Tree] = [layer_tree(POOLING), rank_tree(list(POOLING), rng.random(36).tolist())]
    for tree in trees:
        for _ in range(50):
            backup(tree.leaf(POOLING.draw(rng)), rng.random(), decay=0.95)
        state = json.loads(json.dumps(tree.state_dict()))
        again = tree_from_state(POOLING, state)
        assert again.state_dict() == tree.state_dict()
        for architecture in POOLING:
            assert again.leaf(architecture).visits == tree.leaf(architecture).visits


def test_a_tree_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="kind of a tree must be"):
        tree_from_state(POOLING, {"kind": "graph"})


def test_clustering_refuses_what_is_no_set_of_distances() -> None:
    names: list[Architecture] = [(0,), (1,), (2,)]
    with pytest.raises(ValueError, match="the 3 pairs of 3 architectures"):
        cluster_tree(names, np.ones(4))
    with pytest.raises(ValueError, match="finite and not negative"):
        cluster_tree(names, np.asarray([1.0, np.nan, 1.0]))
    with pytest.raises(ValueError, match="method must be"):
        cluster_tree(names, np.ones(3), method="single")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="accuracies must be 3 finite numbers"):
        rank_tree(names, [0.5, float("nan"), 0.5])


def test_one_architecture_is_a_tree_too() -> None:
    tree = cluster_tree([(0,)], np.empty(0))
    assert tree.root.architecture == (0,)


def test_a_tree_of_deep_chains_needs_no_recursion() -> None:
    # 5,000 levels: a caterpillar, as the printed merging rule would build it.
    names: list[Architecture] = [(i,) for i in range(5000)]
    merges = [(0, 1, 1.0)] + [(5000 + k, k + 2, float(k + 2)) for k in range(4998)]
    tree = BinaryTree(names, merges)
    backup(tree.leaf((0,)), 0.5, decay=0.95)
    assert most_valued_leaf(tree.root).architecture == (0,)
    assert len(leaf_probabilities(tree.root, temperature=1.0)) == 5000


def test_squareform_reads_the_condensed_order_of_our_distances() -> None:
    rows = np.random.default_rng(0).random((5, 3))
    square = squareform(encoding(rows, weights=np.ones(3)))
    expected = np.linalg.norm(rows[:, None] - rows[None], axis=-1)
    np.testing.assert_allclose(square, expected, atol=1e-12)

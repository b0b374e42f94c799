"""Why a tree leads somewhere, against the worked example and the exact law of walks."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nas_ext.architecture import Architecture, Choice, SearchSpace
from nas_ext.pooling import PoolingSpace
from nas_ext.testing import small_space
from nas_ext.tree import (
    BinaryTree,
    Tree,
    Unvisited,
    backup,
    layer_tree,
    leaf_probabilities,
    rank_tree,
    unbiased,
)
from nas_ext.tree_path import explain

SPACE = small_space()
POOLING = PoolingSpace(layers=10, poolings=2)


def grown(space: SearchSpace, *, layers: bool, rewards: int = 200) -> Tree:
    everything = list(space)
    tree: Tree = (
        layer_tree(space) if layers else rank_tree(everything, np.arange(len(everything)).tolist())
    )
    rng = np.random.default_rng(0)
    for _ in range(rewards):
        backup(tree.leaf(space.draw(rng)), float(rng.random()), decay=0.9)
    return tree


def two_leaves() -> tuple[SearchSpace, Tree]:
    """Golden number 17: C .80 with 60 visits beside C .78 with 40."""
    space = SearchSpace("two", [Choice("layer", ("a", "b"))])
    tree = BinaryTree([(0,), (1,)], [(0, 1, 1.0)])
    for node, value, visits in zip(tree.root.children, (0.80, 0.78), (60, 40), strict=True):
        node.value, node.visits = value, visits
    tree.root.visits = 100
    return space, tree


@pytest.mark.parametrize(("temperature", "first"), [(0.02, 0.3643), (0.0025, 0.0115)])
def test_the_numbers_of_a_fork_are_the_worked_example(temperature: float, first: float) -> None:
    space, tree = two_leaves()
    (fork,) = explain(tree, space, (1,), temperature=temperature, exploration=0.5)
    assert (fork.depth, fork.visits) == (0, 100)
    assert [branch.leaves for branch in fork.branches] == [("a",), ("b",)]
    assert [branch.visits for branch in fork.branches] == [60, 40]
    assert [branch.value for branch in fork.branches] == [0.80, 0.78]
    assert [branch.score for branch in fork.branches] == pytest.approx(
        [0.93852, 0.94965], abs=5e-6
    )
    assert fork.branches[0].probability == pytest.approx(first, abs=5e-5)
    assert fork.taken is fork.branches[1]


@pytest.mark.parametrize("layers", [True, False])
@pytest.mark.parametrize("rewards", [0, 5, 200])
@pytest.mark.parametrize("unvisited", ["force", "prior"])
def test_the_taken_probabilities_multiply_to_the_law_of_walks(
    layers: bool, rewards: int, unvisited: Unvisited
) -> None:
    tree = grown(POOLING, layers=layers, rewards=rewards)
    rule = {"temperature": 0.05, "exploration": 0.3, "unvisited": unvisited, "initial": 0.9}
    law = leaf_probabilities(tree.root, **rule)  # type: ignore[arg-type]  # one dict for both
    for architecture in POOLING:
        forks = explain(tree, POOLING, architecture, **rule)  # type: ignore[arg-type]  # ditto
        reached = math.prod(fork.taken.probability for fork in forks)
        assert reached == pytest.approx(law[architecture], abs=1e-15)


@pytest.mark.parametrize("exploration", [0.0, 0.7])
def test_probabilities_are_the_softmax_of_the_scores(exploration: float) -> None:
    tree = grown(SPACE, layers=True)
    for fork in explain(tree, SPACE, (2, 1, 0), temperature=0.1, exploration=exploration):
        scores = np.asarray([branch.score for branch in fork.branches], dtype=np.float64)
        weights = np.exp(scores / 0.1)
        shares = [branch.probability for branch in fork.branches]
        np.testing.assert_allclose(shares, weights / weights.sum(), rtol=1e-12)


def test_options_name_the_branches_of_a_tree_of_layers() -> None:
    forks = explain(layer_tree(SPACE), SPACE, (2, 0, 1), temperature=1.0, exploration=0.0)
    assert [[b.name for b in fork.branches] for fork in forks] == [
        ["layer0=a", "layer0=b", "layer0=c"],
        ["layer1=a", "layer1=b"],
        ["layer2=a", "layer2=b", "layer2=c"],
    ]
    assert [fork.taken.name for fork in forks] == ["layer0=c", "layer1=a", "layer2=b"]


def test_nodes_with_one_child_are_no_forks() -> None:
    # [1,1,8] pools in front of layers 2 and 3, and nothing is left to choose.
    early = POOLING.from_stages([1, 1, 8])
    forks = explain(layer_tree(POOLING), POOLING, early, temperature=1.0, exploration=0.0)
    assert [fork.taken.name for fork in forks] == ["layer2=pool", "layer3=pool"]


def test_leaves_name_the_branches_of_a_learned_tree() -> None:
    names: list[Architecture] = list(SPACE)
    tree = rank_tree(names, np.arange(18)[::-1].tolist())
    fork = explain(tree, SPACE, names[0], temperature=1.0, exploration=0.0)[0]
    assert [b.leaves for b in fork.branches] == [
        tuple(map(SPACE.describe, names[:4])),
        tuple(map(SPACE.describe, names[9:13])),
    ]


def test_who_was_never_visited_goes_first_and_has_no_score() -> None:
    space, tree = two_leaves()
    first = tree.root.children[0]
    first.visits = 0
    (fork,) = explain(tree, space, (0,), temperature=0.1, exploration=0.5)
    assert (fork.taken.value, fork.taken.score, fork.taken.probability) == (None, None, 1.0)
    prior = {"unvisited": "prior", "initial": 0.9}
    (fork,) = explain(tree, space, (0,), temperature=0.1, exploration=0.5, **prior)  # type: ignore[arg-type]  # names of settings
    assert fork.taken.score == pytest.approx(0.9 + 0.5 * math.sqrt(math.log(100)))


def test_values_are_read_as_asked() -> None:
    tree = grown(SPACE, layers=True)
    read = unbiased(decay=0.9, initial=1.0)
    fork = explain(tree, SPACE, (0, 0, 0), temperature=0.1, exploration=0.0, value=read)[0]
    assert fork.branches[0].value == read(tree.root.children[0]) == fork.branches[0].score


def test_what_cannot_be_explained_is_refused() -> None:
    tree = rank_tree([(0, 0, 0), (0, 0, 1)], [0.5, 0.6])
    with pytest.raises(ValueError, match="must be a leaf of the tree"):
        explain(tree, SPACE, (1, 1, 1), temperature=1.0, exploration=0.0)
    with pytest.raises(ValueError, match="architecture must exist in space"):
        explain(tree, SPACE, (9, 9, 9), temperature=1.0, exploration=0.0)
    with pytest.raises(ValueError, match="temperature must be positive, got 0"):
        explain(tree, SPACE, (0, 0, 0), temperature=0.0, exploration=0.0)
    with pytest.raises(ValueError, match="exploration must not be negative, got -1"):
        explain(tree, SPACE, (0, 0, 0), temperature=1.0, exploration=-1.0)

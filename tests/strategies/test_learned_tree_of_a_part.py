"""Trees learned over a part of a space, and how they are clustered."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest

from nas_ext.additive_cost import AdditiveCost
from nas_ext.architecture import Architecture, Choice, SearchSpace
from nas_ext.budget import BudgetedSpace
from nas_ext.estimation import FloatArray
from nas_ext.samplers import TreeSampler
from nas_ext.search import Search, Setting
from nas_ext.strategies import LearnedTree
from nas_ext.strategies.fits import misfit
from nas_ext.testing import small_space
from nas_ext.tree import BinaryTree

HUGE = SearchSpace("huge", [Choice(f"layer{i}", tuple(range(13))) for i in range(21)])
MACS = AdditiveCost(1000, tuple(tuple(range(0, 130, 10)) for _ in range(21)))


class Flat:
    """An estimator that knows no architecture by name, since there are too many."""

    def reward(self, architecture: Architecture) -> float:
        return 0.25 + architecture[0] / 26

    def accuracies(
        self, architectures: Sequence[Architecture], *, batches: int | None = None
    ) -> FloatArray:
        return np.asarray([self.reward(a) for a in architectures])

    def outputs(self, architectures: Sequence[Architecture]) -> FloatArray:
        raise AssertionError("encodings need no network")

    def reinitialise(self) -> None:
        """Have no weights."""


def searched(strategy: LearnedTree, space: SearchSpace, steps: int = 200) -> Search:
    """Run a search whole."""
    setting = Setting(space, Flat(), np.random.default_rng(0))
    search = Search(strategy.phases(steps), setting)
    for _ in range(steps):
        (architecture,) = search.ask()
        if search.sampler.needs_reward:
            search.tell(architecture, setting.estimator.reward(architecture))
    return search


def tree_of(search: Search) -> BinaryTree:
    assert isinstance(search.sampler, TreeSampler)
    assert isinstance(search.sampler.tree, BinaryTree)
    return search.sampler.tree


def test_a_part_of_a_huge_space_is_the_tree_and_all_that_is_drawn_after_the_first_phase() -> None:
    search = searched(LearnedTree(distance="encoding", subset=30, candidates=5), HUGE)
    leaves = set(tree_of(search).architectures)
    assert len(leaves) == 30
    after = [draw.architecture for draw in search.draws if draw.phase > 0]
    assert set(after) <= leaves
    assert len(set(after)) > 20  # the warm-up draws uniformly over the leaves
    assert {ranked.architecture for ranked in search.rank(5)} <= leaves


def test_a_part_of_a_budget_stays_within_it() -> None:
    space = BudgetedSpace(HUGE, MACS, low=1900, high=1950)
    search = searched(LearnedTree(distance="encoding", subset=20), space, 60)
    assert all(1900 <= MACS(draw.architecture) <= 1950 for draw in search.draws)
    assert len(tree_of(search).architectures) == 20


def test_a_search_over_a_part_goes_on_from_its_state() -> None:
    strategy = LearnedTree(distance="encoding", subset=12)
    whole = searched(strategy, HUGE, 100)
    setting = Setting(HUGE, Flat(), np.random.default_rng(0))
    first = Search(strategy.phases(100), setting)
    for _ in range(55):  # in the middle of the tree's warm-up
        (architecture,) = first.ask()
        if first.sampler.needs_reward:
            first.tell(architecture, setting.estimator.reward(architecture))
    state = json.loads(json.dumps(first.state_dict()))
    second = Search(strategy.phases(100), Setting(HUGE, Flat(), np.random.default_rng(9)))
    second.load_state_dict(state)
    for _ in range(45):
        (architecture,) = second.ask()
        second.tell(architecture, Flat().reward(architecture))
    assert [d.architecture for d in second.draws] == [d.architecture for d in whole.draws]


def test_a_part_as_large_as_the_space_is_the_space() -> None:
    space = small_space()
    one = searched(LearnedTree(distance="encoding", subset=space.size), space)
    other = searched(LearnedTree(distance="encoding"), space)
    assert one.draws == other.draws


@pytest.mark.parametrize("clustering", ["exact", "bisecting"])
def test_the_way_of_clustering_is_chosen_and_stands_in_the_tree(clustering: str) -> None:
    strategy = LearnedTree(distance="encoding", subset=200, clustering=clustering)  # type: ignore[arg-type]  # both are valid
    tree = tree_of(searched(strategy, HUGE, 20))
    assert tree.state_dict()["origin"]["clustering"] == clustering


def test_huge_spaces_fit_with_a_subset_alone() -> None:
    assert "must have at most 20,000" in str(misfit(LearnedTree(candidates=5), HUGE))
    assert misfit(LearnedTree(candidates=5, subset=50), HUGE) is None


def test_settings_that_contradict_are_named() -> None:
    with pytest.raises(ValueError, match=r"subset must lie in \[2, 20000\] or be None, got 1"):
        LearnedTree(subset=1)
    with pytest.raises(ValueError, match="clustering must be one of"):
        LearnedTree(clustering="halves")  # type: ignore[arg-type]  # the point of the test
    with pytest.raises(ValueError, match="clustering 'bisecting' needs linkage average"):
        LearnedTree(clustering="bisecting", linkage="complete")
    with pytest.raises(ValueError, match="warm_up_sampling must be uniform with a subset"):
        LearnedTree(subset=5, warm_up_sampling="density")

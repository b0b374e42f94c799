"""Iterative MCTS: rankings, trees that start again, weights that go on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from nas_ext.architecture import Architecture, Choice, SearchSpace
from nas_ext.benchmarks import pooling_table, run
from nas_ext.estimation import FloatArray
from nas_ext.samplers import TreeSampler
from nas_ext.search import Search, Setting
from nas_ext.strategies.iterative_mcts import IterativeMCTS
from nas_ext.testing import FakeSupernet, small_space
from nas_ext.tree import BinaryTree, Node

SPACE = small_space()


class Recording(FakeSupernet):
    """A supernet of numbers that remembers what it was asked to rank."""

    def __init__(self, space: SearchSpace, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        super().__init__(space, {a: float(rng.random()) for a in space})
        self.ranked: list[tuple[tuple[Architecture, ...], int | None]] = []

    def accuracies(
        self, architectures: Sequence[Architecture], *, batches: int | None = None
    ) -> FloatArray:
        self.ranked.append((tuple(architectures), batches))
        return super().accuracies(architectures, batches=batches)


def make(strategy: IterativeMCTS, steps: int, seed: int = 0) -> tuple[Search, Recording]:
    supernet = Recording(SPACE)
    rng = np.random.default_rng(seed)
    return Search(strategy.phases(steps), Setting(SPACE, supernet, rng)), supernet


def advance(search: Search, steps: int) -> list[Architecture]:
    asked = []
    for _ in range(steps):
        for architecture in search.ask():
            if search.sampler.needs_reward:
                search.tell(architecture, search.setting.estimator.reward(architecture))
            asked.append(architecture)
    return asked


def tree_of(search: Search) -> BinaryTree:
    assert isinstance(search.sampler, TreeSampler)
    assert isinstance(search.sampler.tree, BinaryTree)
    return search.sampler.tree


def leaves(node: Node) -> list[Architecture]:
    if node.architecture is not None:
        return [node.architecture]
    return [leaf for child in node.children for leaf in leaves(child)]


def test_the_defaults_are_the_published_ones() -> None:
    made = IterativeMCTS()
    # section 4.1: M = 4, B = 3, first reward as initial value, beta .95; 40 % uniform
    assert (made.iterations, made.batches, made.initial_value) == (4, 3, None)
    assert (made.decay, made.merge, made.shares) == (0.95, "halves", (0.40, 0.60))


@pytest.mark.parametrize(
    ("strategy", "steps"),
    [
        (IterativeMCTS(), [400, 150, 150, 150, 150]),
        (IterativeMCTS(iterations=1), [400, 600]),
        (IterativeMCTS(iterations=3, shares=(1, 1)), [500, 167, 167, 166]),
    ],
)
def test_the_steps_are_uniform_training_and_equal_iterations(
    strategy: IterativeMCTS, steps: list[int]
) -> None:
    phases = strategy.phases(1000)
    assert [phase.steps for phase in phases] == steps
    names = ["uniform", *(f"iteration {m}" for m in range(1, len(steps)))]
    assert [phase.name for phase in phases] == names


def test_each_phase_needs_a_step() -> None:
    assert [phase.steps for phase in IterativeMCTS().phases(5)] == [1] * 5
    with pytest.raises(ValueError, match="steps must be at least 1 for each of 5 phases, got 4"):
        IterativeMCTS().phases(4)


def test_every_iteration_ranks_the_space_on_the_same_batches() -> None:
    search, supernet = make(IterativeMCTS(iterations=3, batches=2), 100)
    advance(search, 100)
    assert supernet.ranked == [(tuple(SPACE), 2)] * 3
    assert supernet.asked["outputs"] == 0
    # D4-2: the first tree is a ranking too
    assert [d.phase for d in search.draws].index(1) == 40


def test_the_tree_is_that_of_the_ranking() -> None:
    search, supernet = make(IterativeMCTS(), 100)
    advance(search, 41)
    ranking = sorted(SPACE, key=lambda a: -supernet.values[a])
    assert leaves(tree_of(search).root) == ranking
    assert leaves(tree_of(search).root.children[0]) == ranking[:9]


def test_statistics_start_again_with_each_tree_and_weights_do_not() -> None:
    # Pitfall 16 and D4-3.
    search, supernet = make(IterativeMCTS(iterations=3), 100)
    advance(search, 60)
    first = tree_of(search)
    assert first.root.visits == 20
    supernet.values = {a: 1 - value for a, value in supernet.values.items()}
    advance(search, 1)
    assert tree_of(search) is not first
    assert tree_of(search).root.visits == 1
    assert leaves(tree_of(search).root) == leaves(first.root)[::-1]
    visited = [node for node in tree_of(search).nodes() if node.visits]
    drawn = search.draws[-1]
    assert all(node.value == drawn.reward for node in visited)
    advance(search, 39)
    assert supernet.asked["reinitialise"] == 0
    assert not any(phase.reinitialise for phase in search.phases)


def test_the_temperature_falls_anew_in_each_iteration() -> None:
    search, _ = make(IterativeMCTS(iterations=2), 100)
    for start in (40, 70):
        advance(search, start + 1 - search.step)
        assert isinstance(search.sampler, TreeSampler)
        assert search.sampler.temperature is not None
        # 30 steps an iteration
        assert search.sampler.temperature(0) == 0.02
        assert search.sampler.temperature(29) == pytest.approx(0.0025)


def test_a_caterpillar_can_be_searched_too() -> None:
    search, supernet = make(IterativeMCTS(merge="caterpillar"), 100)
    advance(search, 41)
    node, levels = tree_of(search).leaf(max(SPACE, key=lambda a: supernet.values[a])), 0
    while node.parent is not None:
        node, levels = node.parent, levels + 1
    assert levels == 17


def test_a_subset_is_drawn_once_and_holds_every_tree() -> None:
    search, supernet = make(IterativeMCTS(iterations=2, rank_subset=6), 100)
    asked = advance(search, 100)
    (chosen, _), (again, _) = supernet.ranked
    assert len(set(chosen)) == 6
    assert list(chosen) == sorted(chosen)
    assert again == chosen
    assert set(asked[40:]) <= set(chosen)
    assert len(set(asked[:40])) > 6
    # 6 leaves where 50 candidates are asked for: those that were visited
    assert {r.architecture for r in search.rank(50)} <= set(chosen)


def test_a_large_space_is_ranked_by_a_subset_or_not_at_all() -> None:
    space = SearchSpace("large", [Choice(f"l{i}", tuple(range(13))) for i in range(21)])
    supernet = FakeSupernet(SPACE)
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="rank_subset must be a number in a space of 247,0"):
        Search(IterativeMCTS().phases(10), Setting(space, supernet, rng)).ask()
    strategy = IterativeMCTS(rank_subset=20, iterations=1)
    setting = Setting(space, _Constant(space), rng)
    search = Search(strategy.phases(60), setting)
    advance(search, 60)
    assert len(set(tree_of(search).architectures)) == 20


class _Constant(FakeSupernet):
    """A supernet of a space too large for a table: every share is a half."""

    def __init__(self, space: SearchSpace) -> None:
        super().__init__(space, {})

    def reward(self, architecture: Architecture) -> float:
        return 0.5

    def accuracies(
        self, architectures: Sequence[Architecture], *, batches: int | None = None
    ) -> FloatArray:
        return np.full(len(architectures), 0.5)


@pytest.mark.parametrize("subset", [None, 7])
@pytest.mark.parametrize("stop", [30, 41, 55, 70, 85])
def test_a_search_resumed_in_mid_phase_goes_on_as_if_it_had_not_stopped(
    stop: int, subset: int | None
) -> None:
    strategy = IterativeMCTS(iterations=3, rank_subset=subset)
    whole, _ = make(strategy, 100)
    expected = advance(whole, 100)
    first, ranked_before = make(strategy, 100)
    before = advance(first, stop)
    state = json.loads(json.dumps(first.state_dict()))
    second, ranked_after = make(strategy, 100, seed=5)
    second.load_state_dict(state)
    assert before + advance(second, 100 - stop) == expected
    assert second.state_dict() == whole.state_dict()
    # no tree is ranked twice
    assert len(ranked_before.ranked) + len(ranked_after.ranked) == 3


def test_phases_run_on_the_pooling_table() -> None:
    table = pooling_table()
    found = run(IterativeMCTS().phases(700), table, seed=0)
    assert found.found in table.space
    # 700 rewards, and 36 architectures on 3 batches in each of 4 rankings
    assert found.evaluations == 700 + 36 * 3 * 4
    assert run(IterativeMCTS().phases(700), table, seed=0).search.draws == found.search.draws
    assert run(IterativeMCTS().phases(700), table, seed=1).search.draws != found.search.draws


def test_walks_without_a_visit_bonus_prefer_the_best_of_the_table() -> None:
    # Uniform draws fall on the 5 best of 36 with p = 5/36. Walks that never explore may also stay
    # with the first good leaf, so the mean over 10 seeds is held against it: 10 x 300 uniform
    # draws are within 5 sigma = .032 of p.
    shares = [
        run(IterativeMCTS(exploration=0.0).phases(2000), pooling_table(), seed=seed).top_share
        for seed in range(10)
    ]
    assert np.mean(shares) > 5 / 36 + 0.032


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"iterations": 0}, "iterations must be at least 1, got 0"),
        ({"batches": 0}, "batches must be at least 1, got 0"),
        ({"merge": "thirds"}, "merge must be halves or caterpillar, got 'thirds'"),
        ({"rank_subset": 1}, r"rank_subset must lie in \[2, 20000\] or be None, got 1"),
        ({"rank_subset": 20_001}, r"rank_subset must lie in \[2, 20000\] or be None, got 20001"),
        ({"shares": (1.0,)}, r"shares must be 2 positive numbers, got \[1.0\]"),
        ({"decay": 1.0}, r"decay must lie in \[0, 1\), got 1.0"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        IterativeMCTS(**settings)


def test_settings_survive_json() -> None:
    settings = json.loads(json.dumps(IterativeMCTS(rank_subset=9, batches=None).settings))
    assert (settings["rank_subset"], settings["batches"]) == (9, None)
    settings.pop("reward")
    assert json.loads(json.dumps(IterativeMCTS(**settings).settings))["rank_subset"] == 9

"""Absolute and relative rewards of accuracy and loss in every strategy that learns from them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from nas_ext.oneshot import OnTrainingBatch, SampledStrategy, accuracy, likelihood
from nas_ext.reward_shaping import RelativeReward
from nas_ext.samplers import TreeSampler
from nas_ext.samplers.averages import AveragedTreeSampler, AveragedUniformSampler
from nas_ext.samplers.mixture_space import MixtureSpace
from nas_ext.search import Search, Setting
from nas_ext.strategies import (
    GAEA,
    MCTS,
    PADA,
    BalancedMixture,
    Boltzmann,
    DensityAware,
    Independent,
    IterativeMCTS,
    LearnedTree,
    PrototypeDensity,
    ResolutionDARTS,
    StrictFairness,
    Uniform,
)
from nas_ext.strategies.registry import create
from nas_ext.testing import FakeSupernet, small_space

SPACE = small_space()
LOGITS = np.random.default_rng(0).normal(size=(SPACE.size, 4, 3))

LEARNERS: list[Any] = [
    MCTS,
    LearnedTree,
    IterativeMCTS,
    Boltzmann,
    Independent,
    BalancedMixture,
]
OTHERS: list[Any] = [
    Uniform,
    StrictFairness,
    DensityAware,
    PrototypeDensity,
    PADA,
    ResolutionDARTS,
    GAEA,
]


def searched(strategy: SampledStrategy, seed: int = 0, steps: int = 40) -> Search:
    space = MixtureSpace(SPACE, 4) if isinstance(strategy, BalancedMixture) else SPACE
    estimator = FakeSupernet(space, logits=LOGITS)
    return Search(strategy.phases(steps), Setting(space, estimator, np.random.default_rng(seed)))


def told(search: Search, steps: int) -> list[tuple[Any, float]]:
    """Take steps, each told a reward of its architecture; return those that samplers asked for."""
    pairs = []
    for _ in range(steps):
        for architecture in search.ask():
            if search.sampler.needs_reward:
                reward = 0.2 + 0.6 * (sum(architecture) % 4) / 3
                search.tell(architecture, reward)
                pairs.append((architecture, reward))
    return pairs


@pytest.mark.parametrize("strategy", LEARNERS)
def test_rewards_are_absolute_accuracies_on_validation_data_by_default(strategy: Any) -> None:
    # Section 1.3
    assert (strategy().relative, strategy().reward) == (None, accuracy)
    search = searched(strategy())
    told(search, 40)
    assert search.sampler.relative is None


@pytest.mark.parametrize("of", ["accuracy", "loss"])
@pytest.mark.parametrize("strategy", LEARNERS)
def test_relative_rewards_are_against_the_mean_of_all_rewards(strategy: Any, of: Any) -> None:
    search = searched(strategy(relative=of, reward=likelihood))
    pairs = told(search, 40)
    expected = RelativeReward(of=of, decay=0.95)
    for _, reward in pairs:
        expected(reward)
    found = search.sampler.relative
    assert found is not None
    # one mean from the first reward to the last, across phases
    assert found.of == of
    assert found.mean == pytest.approx(expected.mean)
    if isinstance(search.sampler, TreeSampler):
        visited = [n for n in search.sampler.tree.nodes() if n.visits]
        assert all(0 <= n.value <= 1 for n in visited)


@pytest.mark.parametrize("stop", [5, 20, 30])
@pytest.mark.parametrize("strategy", LEARNERS)
def test_a_relative_search_resumed_anywhere_goes_on_as_if_it_had_not_stopped(
    strategy: Any, stop: int
) -> None:
    made = strategy(relative="accuracy")
    whole, first, second = searched(made), searched(made), searched(made, seed=9)
    expected = told(whole, 40)
    before = told(first, stop)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert before + told(second, 40 - stop) == expected
    assert second.state_dict() == whole.state_dict()


@pytest.mark.parametrize("strategy", LEARNERS)
def test_losses_and_training_batches_are_rewards_of_every_learner(strategy: Any) -> None:
    for reward in (likelihood, OnTrainingBatch(accuracy), OnTrainingBatch(likelihood)):
        assert strategy(reward=reward).reward is reward
    wrong = "reward must be exp\\(-loss\\) for relative='loss', got accuracy"
    for reward in (accuracy, OnTrainingBatch(accuracy)):
        with pytest.raises(ValueError, match=wrong):
            strategy(relative="loss", reward=reward)
    with pytest.raises(ValueError, match="relative must be accuracy, loss or None, got 'both'"):
        strategy(relative="both")


@pytest.mark.parametrize("strategy", OTHERS)
def test_where_no_reward_changes_a_draw_variants_are_refused_by_name(strategy: Any) -> None:
    name = strategy.__name__
    message = f"reward must be on validation data for {name}, whose draws no reward changes"
    with pytest.raises(ValueError, match=message):
        strategy(reward=OnTrainingBatch(accuracy))
    with pytest.raises(TypeError, match="relative"):
        strategy(relative="accuracy")
    # the final ranking may be by any reward
    assert strategy(reward=likelihood).reward is likelihood


def test_the_registry_names_the_strategy_that_has_no_relative_rewards() -> None:
    with pytest.raises(ValueError, match=r"setting of uniform must be one of .*, got 'relative'"):
        create("uniform", relative="accuracy")
    with pytest.raises(ValueError, match=r"setting of learned-tree must be .*'minimum_visits'"):
        create("learned-tree", minimum_visits=6)


def test_a_mixture_of_one_supernet_asks_for_no_rewards() -> None:
    with pytest.raises(ValueError, match="relative must be None for models=1"):
        BalancedMixture(models=1, relative="accuracy")
    with pytest.raises(ValueError, match="reward must be on validation data for models=1"):
        BalancedMixture(models=1, reward=OnTrainingBatch(accuracy))


# Su et al.'s minimum of visits.


def test_walks_visit_every_child_so_often_before_they_trust_averages() -> None:
    # Section 3.4: children with fewer than n visits are first evaluated
    strategy = MCTS(communication="shared", minimum_visits=6, shares=(1, 199))
    search = searched(strategy, steps=200)
    told(search, 60)
    sampler = search.sampler
    assert isinstance(sampler, TreeSampler)
    # at the root and below, nobody waits for a sixth visit while a sibling has a seventh
    for node in sampler.tree.nodes():
        visits = [child.visits for child in node.children]
        if visits and max(visits) > 6 + 1:  # one draw is the warm-up's
            assert min(visits) >= 6
    with pytest.raises(ValueError, match="minimum_visits must be at least 1, got 0"):
        MCTS(minimum_visits=0)


# Table 4.4: ranking by moving averages.


def test_trees_rank_by_the_moving_averages_of_all_phases() -> None:
    search = searched(IterativeMCTS(rank_by="averages", iterations=2), steps=40)
    pairs = told(search, 16)
    assert isinstance(search.sampler, AveragedUniformSampler)
    assert len(pairs) == 16  # the uniform phase asks for rewards too
    averages: dict[Any, float] = {}
    for architecture, reward in pairs:
        before = averages.get(architecture, reward)
        averages[architecture] = 0.95 * before + 0.05 * reward
    told(search, 1)
    assert isinstance(search.sampler, AveragedTreeSampler)
    mean = float(np.mean(list(averages.values())))
    ranked = sorted(SPACE, key=lambda a: -averages.get(a, mean))
    leaves = [n.architecture for n in search.sampler.tree.nodes() if n.architecture is not None]
    assert leaves == ranked
    estimator = search.setting.estimator
    assert isinstance(estimator, FakeSupernet)
    assert estimator.asked["accuracies"] == 0
    told(search, 23)
    last = search.sampler
    assert isinstance(last, AveragedTreeSampler)
    assert set(averages) <= set(last.averages.values)


@pytest.mark.parametrize("stop", [5, 16, 20, 39])
def test_a_search_by_averages_resumed_anywhere_goes_on(stop: int) -> None:
    made = IterativeMCTS(rank_by="averages", iterations=2)
    whole, first, second = searched(made), searched(made), searched(made, seed=9)
    expected = told(whole, 40)
    before = told(first, stop)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert before + told(second, 40 - stop) == expected


def test_an_unknown_ranking_is_named() -> None:
    with pytest.raises(ValueError, match="rank_by must be batches or averages, got 'ema'"):
        IterativeMCTS(rank_by="ema")  # type: ignore[arg-type]

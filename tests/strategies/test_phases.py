"""The phases of the strategies, without a network: on stubs and on the pooling table."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nas_ext.benchmarks import pooling_table, run
from nas_ext.oneshot import SampledStrategy
from nas_ext.samplers import Sampler, TreeSampler
from nas_ext.search import Phase, Search, Setting
from nas_ext.strategies import MCTS, LearnedTree, Uniform
from nas_ext.testing import FakeSupernet, SamplerContract, small_space

SPACE = small_space()
ENCODED = LearnedTree(distance="encoding")


def setting(rng: np.random.Generator) -> Setting:
    return Setting(SPACE, FakeSupernet(SPACE), rng)


def last(phases: tuple[Phase, ...], rng: np.random.Generator) -> Sampler:
    """The sampler of the last phase, with those before it built but not used."""
    sampler: Sampler | None = None
    for phase in phases:
        sampler = phase.build(replace(setting(rng), previous=sampler))
    assert sampler is not None
    return sampler


class TestWalksOfMCTS(SamplerContract):
    def make(self, rng: np.random.Generator) -> Sampler:
        return last(MCTS(temperature=0.2, final_temperature=0.1).phases(100), rng)


class TestWarmUpOfTheLearnedTree(SamplerContract):
    def make(self, rng: np.random.Generator) -> Sampler:
        return last(ENCODED.phases(100)[:2], rng)


@pytest.mark.parametrize(
    ("strategy", "names", "steps"),
    [
        (Uniform(), ["uniform"], [1000]),
        (MCTS(), ["warm-up", "search"], [650, 350]),
        (LearnedTree(), ["uniform", "tree warm-up", "search"], [400, 250, 350]),
        (LearnedTree(shares=(1, 1, 2)), ["uniform", "tree warm-up", "search"], [250, 250, 500]),
    ],
)
def test_steps_are_divided_by_the_shares(
    strategy: SampledStrategy, names: list[str], steps: list[int]
) -> None:
    phases = strategy.phases(1000)
    assert [phase.name for phase in phases] == names
    assert [phase.steps for phase in phases] == steps


@pytest.mark.parametrize(("strategy", "least"), [(Uniform(), 1), (MCTS(), 2), (LearnedTree(), 3)])
def test_each_phase_needs_a_step(strategy: SampledStrategy, least: int) -> None:
    assert [phase.steps for phase in strategy.phases(least)] == [1] * least
    with pytest.raises(ValueError, match="steps"):
        strategy.phases(least - 1)


@pytest.mark.parametrize(
    ("strategy", "fresh"),
    [
        (Uniform(), [False]),
        (MCTS(), [False, False]),
        (LearnedTree(), [False, False, False]),
        (LearnedTree(reinitialise=True), [False, True, False]),
    ],
)
def test_only_a_new_tree_may_start_the_weights_again(
    strategy: SampledStrategy, fresh: list[bool]
) -> None:
    assert [phase.reinitialise for phase in strategy.phases(10)] == fresh


def test_the_temperature_falls_over_the_last_phase_alone() -> None:
    sampler = last(ENCODED.phases(1000), np.random.default_rng(0))
    assert isinstance(sampler, TreeSampler)
    assert sampler.temperature is not None
    # v(t) = v0 + (v1 - v0) t / (S - 1), S = 350
    assert sampler.temperature(0) == 0.02
    assert sampler.temperature(349) == pytest.approx(0.0025)
    assert sampler.temperature(100) == pytest.approx(0.02 - 0.0175 * 100 / 349)


def test_settings_reach_the_sampler() -> None:
    strategy = MCTS(exploration=0.1, decay=0.5, initial_value=None, final_temperature=0.01)
    for phases in (strategy.phases(10)[:1], strategy.phases(10)):
        sampler = last(phases, np.random.default_rng(0))
        assert isinstance(sampler, TreeSampler)
        assert (sampler.exploration, sampler.decay) == (0.1, 0.5)
        assert (sampler.initial, sampler.final_temperature) == (None, 0.01)


def test_the_walks_go_on_with_the_tree_and_its_statistics() -> None:
    rng = np.random.default_rng(0)
    warm = last(MCTS().phases(10)[:1], rng)
    assert isinstance(warm, TreeSampler)
    warm.tell(SPACE.at(3), 0.25)
    walks = MCTS().phases(10)[1].build(replace(setting(rng), previous=warm))
    assert isinstance(walks, TreeSampler)
    assert walks.tree is warm.tree
    assert walks.tree.leaf(SPACE.at(3)).visits == 1


def test_walks_need_a_tree_before_them() -> None:
    with pytest.raises(RuntimeError, match="the phase before walks must have a tree"):
        MCTS().phases(10)[1].build(setting(np.random.default_rng(0)))


def test_the_learned_tree_is_built_once_from_the_outputs_and_then_the_weights_start_again() -> (
    None
):
    logits = np.random.default_rng(0).normal(size=(SPACE.size, 4, 3))
    supernet = FakeSupernet(SPACE, logits=logits)
    strategy = LearnedTree(reinitialise=True)
    search = Search(strategy.phases(20), Setting(SPACE, supernet, np.random.default_rng(0)))
    for step in range(20):
        (architecture,) = search.ask()
        if search.sampler.needs_reward:
            search.tell(architecture, supernet.reward(architecture))
        assert supernet.asked["outputs"] == (0 if step < 8 else SPACE.size)
        assert supernet.asked["reinitialise"] == (0 if step < 8 else 1)
    assert supernet.asked["reward"] == 12


def test_a_space_too_large_for_a_tree_is_refused_at_the_first_step() -> None:
    small = LearnedTree(max_architectures=17)
    supernet = FakeSupernet(SPACE, logits=np.zeros((SPACE.size, 1, 2)))
    search = Search(small.phases(20), Setting(SPACE, supernet, np.random.default_rng(0)))
    with pytest.raises(ValueError, match="has 18 architectures, it must have at most 17"):
        search.ask()


@pytest.mark.parametrize("strategy", [Uniform(), MCTS(), ENCODED])
def test_phases_run_on_the_pooling_table(strategy: SampledStrategy) -> None:
    table = pooling_table()
    steps = 700
    found = run(strategy.phases(steps), table, seed=0)
    assert found.found in table.space
    assert found.evaluations == steps == len(found.search.draws)
    assert found.accuracy == table.accuracies[found.found]
    assert all(draw.reward is not None for draw in found.search.draws)
    again = run(strategy.phases(steps), table, seed=0)
    assert again.search.draws == found.search.draws
    assert run(strategy.phases(steps), table, seed=1).search.draws != found.search.draws


def test_walks_without_a_visit_bonus_prefer_the_best_of_the_table() -> None:
    table = pooling_table()

    def shares(strategy: SampledStrategy) -> list[float]:
        return [run(strategy.phases(2000), table, seed=seed).top_share for seed in range(5)]

    # Uniform draws fall on the 5 best of 36 with probability 5/36: over 5 x 2000 draws within
    # 5 sigma = 5 sqrt(p (1 - p) / 10000) = .017 of it
    p = 5 / 36
    assert np.mean(shares(Uniform())) == pytest.approx(p, abs=0.0173)
    # 700 walks: 5 sigma are .066. The published bonus of .5 is not tested so: after 2000 steps it
    # still outweighs the differences of this table, and walks even out the branches' visits.
    for strategy in (
        MCTS(exploration=0.0),
        LearnedTree(distance="encoding", exploration=0.0),
    ):
        assert min(shares(strategy)) > p + 0.066


@pytest.mark.parametrize("distance", ["kl", "l2", "cross-entropy", "cosine"])
def test_a_table_has_no_outputs_for_a_tree(distance: str) -> None:
    strategy = LearnedTree(distance=distance)  # type: ignore[arg-type]  # each name is a distance
    with pytest.raises(ValueError, match=r"has no network outputs.*distance='encoding'"):
        run(strategy.phases(100), pooling_table(), seed=0)

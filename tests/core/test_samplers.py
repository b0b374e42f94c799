"""Every sampler keeps the contract."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from scipy.stats import chisquare

from nas_ext.samplers import Sampler, TreeSampler, UniformSampler
from nas_ext.schedule import Schedule, linear
from nas_ext.testing import SamplerContract, small_space
from nas_ext.tree import Tree, layer_tree, rank_tree

SPACE = small_space()


def tree_sampler(
    rng: np.random.Generator, tree: Tree, temperature: Schedule | None, initial: float | None = 1.0
) -> TreeSampler:
    return TreeSampler(
        SPACE,
        rng,
        tree=tree,
        temperature=temperature,
        final_temperature=0.0025,
        exploration=0.5,
        decay=0.95,
        initial=initial,
    )


class TestUniform(SamplerContract):
    def make(self, rng: np.random.Generator) -> Sampler:
        return UniformSampler(self.space, rng)


class TestTreeWarmUp(SamplerContract):
    def make(self, rng: np.random.Generator) -> Sampler:
        return tree_sampler(rng, layer_tree(self.space), None)


class TestTreeOverLayers(SamplerContract):
    def make(self, rng: np.random.Generator) -> Sampler:
        return tree_sampler(rng, layer_tree(self.space), linear(0.2, 0.05, 100))


class TestTreeOfHalves(SamplerContract):
    def make(self, rng: np.random.Generator) -> Sampler:
        accuracies = [self.reward(a) for a in self.space]
        return tree_sampler(
            rng, rank_tree(list(self.space), accuracies), linear(0.2, 0.05, 100), None
        )


@pytest.mark.parametrize("temperature", [None])
def test_the_warm_up_of_a_tree_draws_uniformly_and_keeps_statistics(temperature: None) -> None:
    sampler = tree_sampler(np.random.default_rng(0), layer_tree(SPACE), temperature)
    counts: Counter[tuple[int, ...]] = Counter()
    for _ in range(3600):
        (architecture,) = sampler.ask()
        counts[architecture] += 1
        sampler.tell(architecture, 0.5)
    assert chisquare([counts[a] for a in SPACE]).pvalue > 1e-4
    assert sampler.tree.root.visits == 3600
    assert all(sampler.tree.leaf(a).visits == counts[a] for a in SPACE)


def test_walks_gather_on_the_architecture_that_pays() -> None:
    best = (2, 1, 0)
    sampler = tree_sampler(
        np.random.default_rng(1), layer_tree(SPACE), linear(0.1, 0.0025, 2000), None
    )
    last = []
    for _ in range(2000):
        (architecture,) = sampler.ask()
        last.append(architecture)
        sampler.tell(architecture, 0.9 if architecture == best else 0.3)
    assert Counter(last[-500:]).most_common(1)[0][0] == best
    assert sampler.candidates(1) == (best,)


def test_a_short_search_does_not_name_its_least_visited_leaf() -> None:
    # One visit leaves C = .95 + .05 r, ten leave .6 + .4 r: by C alone the worst wins.
    sampler = tree_sampler(np.random.default_rng(0), layer_tree(SPACE), None)
    sampler.tell((0, 0, 0), 0.1)
    for _ in range(10):
        sampler.tell((1, 0, 0), 0.9)
    assert sampler.candidates(1) == ((1, 0, 0),)


def test_candidates_were_all_visited() -> None:
    sampler = tree_sampler(np.random.default_rng(0), layer_tree(SPACE), None)
    seen = {(0, 0, 0), (1, 1, 1), (2, 0, 2)}
    for architecture in seen:
        sampler.tell(architecture, 0.5)
    assert set(sampler.candidates(50)) <= seen


def test_a_tree_that_saw_no_reward_names_no_candidate() -> None:
    sampler = tree_sampler(np.random.default_rng(0), layer_tree(SPACE), None)
    with pytest.raises(ValueError, match="must have been visited"):
        sampler.candidates(5)


def test_uniform_names_its_highest_mean_rewards() -> None:
    sampler = UniformSampler(SPACE, np.random.default_rng(0))
    for architecture, rewards in (
        ((0, 0, 0), (0.9, 0.1)),
        ((1, 0, 0), (0.6,)),
        ((2, 0, 0), (0.2,)),
    ):
        for reward in rewards:
            sampler.tell(architecture, reward)
    assert sampler.candidates(2) == ((1, 0, 0), (0, 0, 0))


def test_uniform_without_rewards_names_the_space_or_draws() -> None:
    sampler = UniformSampler(SPACE, np.random.default_rng(0))
    assert sampler.candidates(18) == tuple(SPACE)
    assert len(sampler.candidates(5)) <= 5


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"decay": 1.0}, r"decay must lie in \[0, 1\), got 1.0"),
        ({"exploration": -0.1}, "exploration must not be negative, got -0.1"),
        ({"exploration": float("nan")}, "exploration must not be negative"),
        ({"final_temperature": 0.0}, "final_temperature must be positive, got 0.0"),
    ],
)
def test_settings_are_checked_when_a_sampler_is_made(
    changed: dict[str, float], message: str
) -> None:
    settings: dict[str, Any] = {
        **{"final_temperature": 0.01, "exploration": 0.5, "decay": 0.95},
        **changed,
    }
    with pytest.raises(ValueError, match=message):
        TreeSampler(
            SPACE, np.random.default_rng(0), tree=layer_tree(SPACE), temperature=None, **settings
        )


def test_a_schedule_that_reaches_zero_is_refused_by_the_walk() -> None:
    sampler = tree_sampler(np.random.default_rng(0), layer_tree(SPACE), lambda step: 0.0)
    with pytest.raises(ValueError, match=r"temperature must be positive, got 0\.0"):
        sampler.ask()

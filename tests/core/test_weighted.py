"""Sampling from a fixed law."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy.stats import chisquare

from nas_ext.samplers import Sampler, UniformSampler
from nas_ext.samplers.weighted import WeightedSampler
from nas_ext.testing import SamplerContract, small_space

SPACE = small_space()
LAW = np.arange(1.0, 19.0) / 171


def sampler(law: object = LAW, seed: int = 0) -> WeightedSampler:
    return WeightedSampler(SPACE, np.random.default_rng(seed), probabilities=np.asarray(law))


class TestWeighted(SamplerContract):
    def make(self, rng: np.random.Generator) -> Sampler:
        return WeightedSampler(self.space, rng, probabilities=np.arange(1.0, 19.0) / 171)


def test_draws_follow_the_law() -> None:
    made, counts = sampler(), dict.fromkeys(SPACE, 0)
    for _ in range(10_000):
        counts[made.ask()[0]] += 1
    assert chisquare([counts[a] for a in SPACE], 10_000 * LAW).pvalue > 1e-4


def test_what_has_no_probability_is_never_drawn() -> None:
    law = np.zeros(18)
    law[[3, 9, 17]] = 1 / 3
    made = sampler(law)
    assert {SPACE.index(made.ask()[0]) for _ in range(500)} == {3, 9, 17}


def test_rewards_change_no_draw() -> None:
    one, other = sampler(), sampler()
    for architecture in SPACE:
        one.tell(architecture, 1.0)
    assert not one.needs_reward
    assert [one.ask() for _ in range(50)] == [other.ask() for _ in range(50)]


def test_rewards_of_the_warm_up_are_not_forgotten() -> None:
    warm = UniformSampler(SPACE, np.random.default_rng(0))
    warm.tell((1, 0, 1), 0.9)
    made = WeightedSampler(SPACE, np.random.default_rng(0), probabilities=LAW, previous=warm)
    made.tell((0, 0, 0), 0.5)
    assert made.candidates(2) == ((1, 0, 1), (0, 0, 0))
    assert warm.candidates(2) == ((1, 0, 1),)


def test_diagnostics_say_how_much_of_the_space_is_sampled() -> None:
    uniform = sampler(np.full(18, 1 / 18)).diagnostics()
    assert uniform["perplexity"] == pytest.approx(1.0)
    assert uniform["maximum_share"] == uniform["minimum_share"] == 1 / 18
    assert UniformSampler(SPACE, np.random.default_rng(0)).diagnostics() == {}


def test_one_architecture_that_takes_over_is_warned_of_once() -> None:
    law = np.full(18, 0.4 / 17)
    law[5] = 0.6
    with pytest.warns(UserWarning, match=r"architecture a-b-c gets 60\.0% of all draws"):
        made = sampler(law)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(20):
            made.ask()
        sampler(np.full(18, 1 / 18))


@pytest.mark.parametrize(
    ("law", "message"),
    [
        (np.full(17, 1 / 17), r"one for each of 18 architectures, got shape \(17,\)"),
        (np.full(18, 0.1), "probabilities must be shares that sum to 1, got sum 1.8"),
        (np.asarray([1.5, -0.5, *[0.0] * 16]), "probabilities must be shares"),
        (np.full(18, np.nan), "probabilities must be shares"),
    ],
)
def test_what_is_no_law_is_refused(law: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sampler(law)

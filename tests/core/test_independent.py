"""Sampling each choice by itself against laws written out over the whole space."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import chisquare

from nas_ext.architecture import Choice, SearchSpace
from nas_ext.pooling import PoolingSpace
from nas_ext.samplers import Sampler
from nas_ext.samplers.independent import IndependentSampler
from nas_ext.schedule import Schedule, linear
from nas_ext.testing import SamplerContract, small_space

POOLING = PoolingSpace(layers=10, poolings=2)
SPACE = small_space()


def make_sampler(
    temperature: Schedule | None = None,
    *,
    rng: np.random.Generator | None = None,
    space: SearchSpace = SPACE,
    initial: float | None = 1.0,
    exploration: float = 0.0,
    after: IndependentSampler | None = None,
) -> IndependentSampler:
    return IndependentSampler(
        space,
        np.random.default_rng(0) if rng is None else rng,
        temperature=temperature,
        final_temperature=0.01,
        decay=0.95,
        initial=initial,
        exploration=exploration,
        after=after,
    )


class TestIndependent(SamplerContract):
    def make(self, rng: np.random.Generator) -> Sampler:
        return make_sampler(linear(0.2, 0.05, 100), rng=rng)


class TestIndependentWithABonus(SamplerContract):
    def make(self, rng: np.random.Generator) -> Sampler:
        return make_sampler(linear(0.2, 0.05, 100), rng=rng, initial=None, exploration=0.5)


class TestIndependentOverPoolings(SamplerContract):
    space = POOLING

    def make(self, rng: np.random.Generator) -> Sampler:
        return make_sampler(linear(0.2, 0.05, 100), rng=rng, space=self.space)


def filled(sampler: IndependentSampler, count: int, seed: int) -> dict[tuple[int, int], float]:
    """Tell random rewards; return C_l[o] kept by hand, from an initial 1."""
    values: dict[tuple[int, int], float] = {}
    rng = np.random.default_rng(seed)
    for _ in range(count):
        architecture, reward = sampler.space.draw(rng), float(rng.random())
        sampler.tell(architecture, reward)
        for place in enumerate(architecture):
            values[place] = 0.95 * values.get(place, 1.0) + 0.05 * reward
    return values


@pytest.mark.parametrize("space", [SPACE, POOLING])
def test_the_law_is_the_product_of_softmaxes_conditioned_on_existence(space: SearchSpace) -> None:
    sampler = make_sampler(space=space)
    values = filled(sampler, 80, seed=1)
    law = sampler.law(0.1)
    layers = [
        softmax([values[layer, option] / 0.1 for option in range(len(choice.options))])
        for layer, choice in enumerate(space.choices)
    ]
    weights = np.asarray([math.prod(layers[at][o] for at, o in enumerate(a)) for a in space])
    p = [math.exp(law.log_probability(a)) for a in space]
    np.testing.assert_allclose(p, weights / weights.sum(), rtol=1e-10)


def test_pooling_draws_have_two_poolings_and_follow_the_law() -> None:
    sampler = make_sampler(lambda step: 0.1, space=POOLING)
    filled(sampler, 80, seed=2)
    counts = Counter(sampler.ask()[0] for _ in range(6_000))
    law = sampler.law(0.1)
    expected = [6_000 * math.exp(law.log_probability(a)) for a in POOLING]
    assert set(counts) <= set(POOLING)
    assert chisquare([counts[a] for a in POOLING], expected).pvalue > 1e-4


def test_the_visit_bonus_counts_the_visits_of_the_option_among_all() -> None:
    sampler = make_sampler(initial=None, exploration=0.5)
    for architecture, times in (((0, 0, 0), 5), ((1, 0, 0), 2)):
        for _ in range(times):
            sampler.tell(architecture, 0.5)
    law = sampler.law(1.0)
    # first choice: n = 7; options taken 5, 2 and 0 times, the last stands at 1 with one visit
    scores = [
        0.5 + 0.5 * math.sqrt(math.log(7) / 5),
        0.5 + 0.5 * math.sqrt(math.log(7) / 2),
        1.0 + 0.5 * math.sqrt(math.log(7) / 1),
    ]
    ratio = law.log_probability((1, 0, 0)) - law.log_probability((0, 0, 0))
    unseen = law.log_probability((2, 0, 0)) - law.log_probability((0, 0, 0))
    assert (ratio, unseen) == pytest.approx((scores[1] - scores[0], scores[2] - scores[0]))


def test_the_warm_up_draws_uniformly_over_architectures() -> None:
    sampler = make_sampler(space=POOLING)
    counts = Counter[tuple[int, ...]]()
    for _ in range(3600):
        (architecture,) = sampler.ask()
        counts[architecture] += 1
        sampler.tell(architecture, 0.3)
    assert chisquare([counts[a] for a in POOLING]).pvalue > 1e-4


def test_the_next_phase_knows_what_the_one_before_learned() -> None:
    warm = make_sampler(initial=None)
    for architecture in SPACE:
        warm.tell(architecture, 0.9 if architecture[0] == 2 else 0.1)
    following = make_sampler(lambda step: 0.01, after=warm)
    assert {following.ask()[0][0] for _ in range(20)} == {2}
    assert following.told == 18


def test_the_first_candidate_is_the_best_option_of_each_choice() -> None:
    sampler = make_sampler(initial=None)
    for architecture in SPACE:
        sampler.tell(architecture, 0.2 * (architecture[0] == 1) + 0.3 * architecture[1] + 0.1)
    assert sampler.candidates(1)[0][:2] == (1, 1)


def test_options_that_do_not_go_together_leave_the_most_probable_architecture() -> None:
    # On the pooling space the best option of every layer may be to pool: the mode has two.
    sampler = make_sampler(space=POOLING, initial=None)
    filled(sampler, 200, seed=5)
    law = sampler.law(0.01)
    assert sampler.candidates(1)[0] == max(POOLING, key=law.log_probability)


def test_a_small_space_is_sorted_whole() -> None:
    sampler = make_sampler(initial=None)
    filled(sampler, 100, seed=6)
    found = sampler.candidates(18)
    law = sampler.law(0.01)
    assert sorted(found) == list(SPACE)
    assert found == tuple(sorted(SPACE, key=lambda a: -law.log_probability(a)))


def test_no_candidate_has_an_option_that_nobody_took() -> None:
    # Pitfall 8: an initial value of 1 wins every greedy choice.
    sampler = make_sampler()
    sampler.tell((0, 0, 0), 0.3)
    sampler.tell((1, 0, 2), 0.4)
    for count in (1, 5, 18):
        assert all(a[1] == 0 and a[0] < 2 and a[2] != 1 for a in sampler.candidates(count))


def test_a_space_of_13_to_the_21_is_walked_not_listed() -> None:
    space = SearchSpace("large", [Choice(f"l{i}", tuple(range(13))) for i in range(21)])
    sampler = make_sampler(lambda step: 0.05, space=space, initial=None)
    for _ in range(20):
        (architecture,) = sampler.ask()
        sampler.tell(architecture, architecture[0] / 12)
    assert 1 <= len(sampler.candidates(10)) <= 10


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"decay": 1.0}, r"decay must lie in \[0, 1\), got 1.0"),
        ({"exploration": -0.1}, "exploration must not be negative, got -0.1"),
        ({"final_temperature": 0.0}, "final_temperature must be positive, got 0.0"),
    ],
)
def test_wrong_settings_are_named(changed: dict[str, float], message: str) -> None:
    settings: dict[str, Any] = {"decay": 0.9, "final_temperature": 0.1, **changed}
    with pytest.raises(ValueError, match=message):
        IndependentSampler(SPACE, np.random.default_rng(0), temperature=None, **settings)


def test_wrong_questions_are_named() -> None:
    with pytest.raises(ValueError, match=r"temperature must be positive, got 0\.0"):
        make_sampler(lambda step: 0.0).ask()
    with pytest.raises(ValueError, match="a reward must have been told to name candidates"):
        make_sampler().candidates(3)

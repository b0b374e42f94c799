"""Boltzmann exploration against laws written out over the whole space."""

from __future__ import annotations

import json
import math
from collections import Counter

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import chisquare

from nas_ext.architecture import Choice, SearchSpace
from nas_ext.samplers import Sampler
from nas_ext.samplers.boltzmann import BoltzmannSampler
from nas_ext.schedule import Schedule, linear
from nas_ext.testing import SamplerContract, small_space

SPACE = small_space()


def make_sampler(
    temperature: Schedule | None = None,
    *,
    rng: np.random.Generator | None = None,
    space: SearchSpace = SPACE,
    initial: float | None = 1.0,
    after: BoltzmannSampler | None = None,
) -> BoltzmannSampler:
    return BoltzmannSampler(
        space,
        np.random.default_rng(0) if rng is None else rng,
        temperature=temperature,
        decay=0.95,
        initial=initial,
        after=after,
    )


class TestBoltzmann(SamplerContract):
    def make(self, rng: np.random.Generator) -> Sampler:
        return make_sampler(linear(0.2, 0.05, 100), rng=rng)


class TestBoltzmannFromFirstRewards(SamplerContract):
    def make(self, rng: np.random.Generator) -> Sampler:
        return make_sampler(linear(0.2, 0.05, 100), rng=rng, initial=None)


class TestBoltzmannWarmUp(SamplerContract):
    def make(self, rng: np.random.Generator) -> Sampler:
        return make_sampler(rng=rng)


@pytest.mark.parametrize("initial", [1.0, 0.4, None])
def test_draws_are_a_softmax_over_visited_and_unvisited_together(initial: float | None) -> None:
    sampler = make_sampler(lambda step: 0.3, initial=initial)
    values = dict.fromkeys(SPACE, 1.0 if initial is None else initial)
    rng = np.random.default_rng(3)
    for place in (0, 5, 6, 17, 2):
        reward = float(rng.random())
        sampler.tell(SPACE.at(place), reward)
        old = reward if initial is None else initial
        values[SPACE.at(place)] = 0.95 * old + 0.05 * reward
    counts = Counter(sampler.ask()[0] for _ in range(10_000))
    expected = 10_000 * softmax([values[a] / 0.3 for a in SPACE])
    assert chisquare([counts[a] for a in SPACE], expected).pvalue > 1e-4


def test_only_the_drawn_entry_moves() -> None:
    sampler = make_sampler()
    for architecture in SPACE:
        sampler.tell(architecture, 0.5)
    before = {a: sampler.value(a) for a in SPACE}
    sampler.tell((1, 0, 2), 0.8)
    # eps <- .95 eps + .05 r
    assert sampler.value((1, 0, 2)) == pytest.approx(0.95 * 0.975 + 0.05 * 0.8)
    assert all(sampler.value(a) == before[a] for a in SPACE if a != (1, 0, 2))


def test_the_warm_up_draws_uniformly_whatever_was_told() -> None:
    sampler, counts = make_sampler(), Counter[tuple[int, ...]]()
    for _ in range(3600):
        (architecture,) = sampler.ask()
        counts[architecture] += 1
        sampler.tell(architecture, 0.9 if architecture == (0, 0, 0) else 0.1)
    assert chisquare([counts[a] for a in SPACE]).pvalue > 1e-4


def test_the_next_phase_knows_what_the_one_before_learned() -> None:
    warm = make_sampler()
    for architecture in SPACE:
        warm.tell(architecture, 0.9 if architecture == (2, 1, 1) else 0.1)
    following = make_sampler(lambda step: 0.0025, after=warm, initial=None)
    assert {following.ask()[0] for _ in range(20)} == {(2, 1, 1)}
    assert following.candidates(1) == warm.candidates(1) == ((2, 1, 1),)


def test_a_space_of_13_to_the_21_costs_what_was_visited() -> None:
    space = SearchSpace("large", [Choice(f"l{i}", tuple(range(13))) for i in range(21)])
    sampler = make_sampler(lambda step: 0.02, space=space)
    drawn = []
    for _ in range(30):
        (architecture,) = sampler.ask()
        sampler.tell(architecture, 0.5)
        drawn.append(architecture)
    # 13^21 unvisited at 1 against 30 visited below it
    assert len(set(drawn)) == 30
    # a value of .95 against an initial 0: odds of exp(.95 / T) / 13^21, 13^17 at this temperature
    cold = make_sampler(lambda step: 0.5 / (21 * math.log(13)), space=space, initial=0.0)
    cold.tell(drawn[0], 1.0)
    for _ in range(60):
        cold.tell(drawn[0], 1.0)
    assert {cold.ask()[0] for _ in range(20)} == {drawn[0]}


def test_unvisited_architectures_are_all_reachable_when_most_were_visited() -> None:
    sampler = make_sampler(lambda step: 1e-3)
    left = {SPACE.at(place) for place in (0, 9, 17)}
    for architecture in SPACE:
        if architecture not in left:
            sampler.tell(architecture, 0.5)
    counts = Counter(sampler.ask()[0] for _ in range(600))
    assert set(counts) == left
    assert chisquare([counts[a] for a in left]).pvalue > 1e-4


def test_candidates_are_the_highest_values_without_the_initial_one() -> None:
    # C of one reward .1 is .955, of twenty rewards .9 it is .9 + .1 * .95^20 = .936
    sampler = make_sampler()
    sampler.tell((0, 0, 0), 0.1)
    for _ in range(20):
        sampler.tell((1, 0, 0), 0.9)
    sampler.tell((2, 0, 0), 0.5)
    assert sampler.value((0, 0, 0)) > sampler.value((1, 0, 0))
    assert sampler.candidates(5) == ((1, 0, 0), (2, 0, 0), (0, 0, 0))
    assert sampler.candidates(2) == ((1, 0, 0), (2, 0, 0))


def test_rewards_gather_draws_as_the_temperature_falls() -> None:
    sampler = make_sampler(linear(0.1, 0.0025, 1500))
    last = []
    for _ in range(1500):
        (architecture,) = sampler.ask()
        sampler.tell(architecture, 0.9 if architecture == (2, 1, 0) else 0.3)
        last.append(architecture)
    assert Counter(last[-300:]).most_common(1) == [((2, 1, 0), 300)]


def test_a_table_that_grew_survives_json() -> None:
    space = SearchSpace("square", [Choice("a", tuple(range(20))), Choice("b", tuple(range(20)))])
    first, second = (make_sampler(lambda step: 0.5, space=space) for _ in range(2))
    rng = np.random.default_rng(0)
    for architecture in space:
        first.tell(architecture, float(rng.random()))
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert [second.ask() for _ in range(50)] == [first.ask() for _ in range(50)]
    assert all(second.value(a) == first.value(a) for a in space)


def test_wrong_settings_and_questions_are_named() -> None:
    with pytest.raises(ValueError, match=r"decay must lie in \[0, 1\), got 1.0"):
        BoltzmannSampler(SPACE, np.random.default_rng(0), temperature=None, decay=1.0)
    with pytest.raises(ValueError, match=r"temperature must be positive, got 0\.0"):
        make_sampler(lambda step: 0.0).ask()
    with pytest.raises(ValueError, match="a reward must have been told to name candidates"):
        make_sampler().candidates(3)
    with pytest.raises(ValueError, match="architecture must have been told a reward"):
        make_sampler().value((0, 0, 0))


def test_diagnostics_are_those_of_the_law_listed_whole() -> None:
    sampler = BoltzmannSampler(
        SPACE, np.random.default_rng(0), temperature=lambda step: 0.1, decay=0.9, initial=0.8
    )
    for place in (0, 3, 7):
        sampler.tell(SPACE.at(place), place / 7)
    known = {SPACE.at(p): sampler.value(SPACE.at(p)) for p in (0, 3, 7)}
    law = softmax([known.get(a, 0.8) / 0.1 for a in SPACE])
    assert sampler.diagnostics() == pytest.approx(
        {
            "visited": 3.0,
            "temperature": 0.1,
            "maximum_share": law.max(),
            "perplexity": math.exp(-(law * np.log(law)).sum()) / 18,
        }
    )


def test_diagnostics_of_a_space_of_13_to_the_21_are_finite() -> None:
    large = SearchSpace("large", [Choice(f"l{i}", tuple(range(13))) for i in range(21)])
    sampler = BoltzmannSampler(
        large, np.random.default_rng(0), temperature=lambda step: 0.02, decay=0.9
    )
    sampler.tell(large.at(0), 0.5)
    # all but one architecture are alike
    assert sampler.diagnostics()["perplexity"] == pytest.approx(1.0)

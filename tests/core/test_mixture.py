"""A balanced mixture of supernets: its space, its draws, and what it hands out at the end."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
from scipy.stats import chisquare

from nas_ext.architecture import Architecture
from nas_ext.ipf import divergence
from nas_ext.pooling import PoolingSpace
from nas_ext.reward_shaping import RelativeReward
from nas_ext.samplers import Sampler, UniformSampler
from nas_ext.samplers.mixture import MixtureSampler, TabularMixtureSampler
from nas_ext.samplers.mixture_space import MixtureSpace
from nas_ext.schedule import linear
from nas_ext.testing import SamplerContract, small_space

BASE = small_space()
SPACE = MixtureSpace(BASE, 3)


def mixture(
    rng: np.random.Generator, space: MixtureSpace = SPACE, **settings: Any
) -> MixtureSampler:
    given = {"inverse_temperature": linear(1.0, 100.0 * space.models, 100), **settings}
    return MixtureSampler(space, rng, **given)


def seeded(space: MixtureSpace = SPACE, seed: int = 0, **settings: Any) -> MixtureSampler:
    return mixture(np.random.default_rng(seed), space, **settings)


class TestMixture(SamplerContract):
    space = SPACE

    def make(self, rng: np.random.Generator) -> Sampler:
        return mixture(rng)


class TestMixtureOnATable(SamplerContract):
    def make(self, rng: np.random.Generator) -> Sampler:
        return TabularMixtureSampler(mixture(rng))


class TestRelativeMixtureOnATable(SamplerContract):
    def make(self, rng: np.random.Generator) -> Sampler:
        return TabularMixtureSampler(mixture(rng, relative=RelativeReward()))


# The space.


def test_the_space_has_every_architecture_once_for_each_supernet() -> None:
    expected = [(*architecture, m) for architecture in BASE for m in range(3)]
    assert list(SPACE) == expected
    assert SPACE.size == 54
    assert [SPACE.at(i) for i in range(54)] == expected
    assert [SPACE.index(a) for a in expected] == list(range(54))
    assert SPACE.options((0, 0, 0)) == (0, 1, 2)
    assert (0, 0, 0, 3) not in SPACE
    assert (0, 0, 0) not in SPACE


def test_the_space_of_a_rule_keeps_the_rule() -> None:
    base = PoolingSpace(layers=10, poolings=2)
    space = MixtureSpace(base, 4)
    assert space.size == 36 * 4
    chosen = space.place(base.from_stages((4, 3, 3)), 2)
    assert space.decode(chosen) == {"pooling": "0000100100", "supernet": 2}
    assert space.encode({"pooling": "0000100100", "supernet": 2}) == chosen
    assert space.describe(chosen) == "[4,3,3]@2"
    assert space.split(chosen) == (base.from_stages((4, 3, 3)), 2)
    assert (*(0,) * 9, 0) not in space
    assert space.canonical(chosen) == chosen
    assert space.encoding(chosen).tolist() == [0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 0, 0, 1, 0]


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ({"pooling": "0101"}, "sample must have the label 'supernet', got"),
        ({"pooling": "0101", "supernet": 2}, r"choice 'supernet' must be one of \[0, 1\], got 2"),
        ({"pooling": "0111", "supernet": 0}, "code must be a 0 and 3 digits with 2 ones"),
    ],
)
def test_wrong_samples_are_named(sample: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MixtureSpace(PoolingSpace(layers=4, poolings=2), 2).encode(sample)


def test_a_space_is_not_mixed_twice() -> None:
    with pytest.raises(ValueError, match=r"labels of space 'small' must differ"):
        MixtureSpace(SPACE, 2)
    with pytest.raises(ValueError, match="models must be at least 1, got 0"):
        MixtureSpace(BASE, 0)


# Draws.


def run(sampler: MixtureSampler, steps: int, reward: Any) -> list[Architecture]:
    asked = []
    for _ in range(steps):
        (architecture,) = sampler.ask()
        sampler.tell(architecture, reward(architecture))
        asked.append(architecture)
    return asked


def test_only_the_cell_that_was_trained_changes() -> None:
    sampler = seeded()
    sampler.tell((1, 0, 2, 1), 0.4)
    sampler.tell((1, 0, 2, 1), 0.6)
    row = BASE.index((1, 0, 2))
    expected = np.ones((18, 3))
    # a = 1 before, a' = .95 a + .05 r
    expected[row, 1] = 0.95 * (0.95 + 0.05 * 0.4) + 0.05 * 0.6
    assert sampler.balance.values == pytest.approx(expected, abs=1e-15)
    assert sampler.visits[row, 1] == sampler.visits.sum() == 2


def test_architectures_are_uniform_and_supernets_equally_busy_whatever_they_earn() -> None:
    # Supernet 2 is better everywhere: a softmax alone, at s of 300, would train no other.
    sampler = seeded(inverse_temperature=lambda step: 300.0)
    asked = run(sampler, 3000, lambda a: 0.5 + 0.2 * a[-1])
    assert chisquare(list(Counter(a[:-1] for a in asked).values())).pvalue > 1e-4
    counts = Counter(a[-1] for a in asked)
    # 5 sigma of a binomial with p = 1/3: 5 sqrt(3000 * 2/9) = 129
    assert all(abs(counts[m] - 1000) < 129 for m in range(3))


def test_each_supernet_comes_to_train_what_it_is_good_at() -> None:
    sampler = seeded(inverse_temperature=linear(1.0, 300.0, 4000))
    run(sampler, 4000, lambda a: 0.9 if a[0] == a[-1] else 0.6)
    owners = sampler.probabilities().argmax(axis=1).tolist()
    assert owners == [architecture[0] for architecture in BASE]
    assert sampler.probabilities().max(axis=1).min() > 0.9
    assert all(a[0] == a[-1] for a in sampler.candidates(18))
    assert sampler.diagnostics()["specialisation"] > 0.9


def test_it_is_balanced_at_every_step() -> None:
    sampler = seeded()
    for step in range(150):
        run(sampler, 1, lambda a: 0.2 + 0.2 * a[-1])
        found = sampler.probabilities()
        assert divergence(found.mean(axis=0)) <= 1e-4 + 1e-12, step
        # pitfall 1: rows, not columns, sum to 1
        assert found.sum(axis=1) == pytest.approx(np.ones(18), abs=1e-14)
        assert sampler.diagnostics()["divergence"] <= 1e-4


def test_temperature_and_prices_are_held_between_two_balancings() -> None:
    sampler = seeded(hold=10, rebalanced=False)
    seen = []
    for _ in range(30):
        run(sampler, 1, lambda a: 0.2 + 0.2 * a[-1])
        seen.append((sampler.balance.inverse_temperature, *sampler.balance.prices.tolist()))
    assert [seen.index(one) for one in seen] == [0] * 10 + [10] * 10 + [20] * 10
    schedule = linear(1.0, 300.0, 100)
    assert [one[0] for one in seen[::10]] == [schedule(0), schedule(10), schedule(20)]


@pytest.mark.parametrize("stop", [9, 10, 23])
def test_prices_that_are_held_survive_a_restart(stop: int) -> None:
    held: dict[str, Any] = {"hold": 10, "rebalanced": False}
    whole, first, second = seeded(**held), seeded(**held), seeded(seed=9, **held)

    def reward(architecture: Architecture) -> float:
        return 0.2 + 0.2 * architecture[-1]

    expected = run(whole, 40, reward)
    asked = run(first, stop, reward)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert asked + run(second, 40 - stop, reward) == expected


def test_a_stair_of_temperature_still_lets_the_mixture_be_balanced_within() -> None:
    sampler = seeded(hold=50)
    for _ in range(150):
        run(sampler, 1, lambda a: 0.2 + 0.2 * a[-1])
        assert divergence(sampler.probabilities().mean(axis=0)) <= 1e-4 + 1e-12


def test_one_supernet_draws_what_uniform_draws() -> None:
    sampler = seeded(MixtureSpace(BASE, 1), seed=5)
    uniform = UniformSampler(BASE, np.random.default_rng(5))
    asked = run(sampler, 200, lambda a: 0.5)
    assert [a[:-1] for a in asked] == [uniform.ask()[0] for _ in range(200)]
    assert {a[-1] for a in asked} == {0}
    assert sampler.rng.bit_generator.state == uniform.rng.bit_generator.state


# What is evaluated in the end.


def test_candidates_are_architectures_once_by_what_they_earned() -> None:
    sampler = seeded()
    for architecture, reward in (((0, 0, 0, 1), 0.7), ((1, 0, 0, 2), 0.9), ((2, 1, 0, 0), 0.8)):
        sampler.tell(architecture, reward)
    assert sampler.candidates(3) == ((1, 0, 0, 2), (2, 1, 0, 0), (0, 0, 0, 1))
    assert sampler.candidates(2) == ((1, 0, 0, 2), (2, 1, 0, 0))
    every = sampler.candidates(18)
    assert every[:3] == sampler.candidates(3)
    assert sorted(a[:-1] for a in every) == list(BASE)
    assert sampler.candidates(99) == every


def test_a_supernet_that_never_trained_an_architecture_is_not_its_own() -> None:
    # Unvisited cells keep a = 1, above every real reward, and would win every argmax.
    sampler = seeded(inverse_temperature=lambda step: 300.0)
    row = BASE.index((1, 1, 1))
    for _ in range(40):
        sampler.tell((1, 1, 1, 2), 0.3)
    sampler.tell((1, 1, 1, 1), 0.1)
    sampler.ask()
    assert sampler.probabilities()[row].argmax() == 0
    ((*inner, supernet),) = sampler.candidates(1)
    assert (tuple(inner), supernet) == ((1, 1, 1), 1)


def test_a_single_visit_does_not_outshine_many_right_answers() -> None:
    # a is .955 after one visit of reward .1, and .9 + .1 * .95^20 = .936 after twenty of .9.
    sampler = seeded()
    sampler.tell((0, 0, 0, 0), 0.1)
    for _ in range(20):
        sampler.tell((2, 1, 2, 0), 0.9)
    first, second = (sampler.balance.values[BASE.index(a), 0] for a in ((0, 0, 0), (2, 1, 2)))
    assert (first, second) == pytest.approx((0.955, 0.936), abs=1e-3)
    assert sampler.candidates(1) == ((2, 1, 2, 0),)


def test_a_large_space_needs_a_reward_before_its_candidates() -> None:
    sampler = seeded()
    with pytest.raises(ValueError, match="a reward must be told before candidates are named"):
        sampler.candidates(17)
    assert sorted(a[:-1] for a in sampler.candidates(18)) == list(BASE)


def test_a_state_holds_no_more_than_what_was_visited() -> None:
    sampler = seeded()
    run(sampler, 5, lambda a: 0.5)
    state = json.loads(json.dumps(sampler.state_dict()))
    assert len(state["cells"]) == len(np.argwhere(sampler.visits))
    other = seeded(seed=9)
    run(other, 20, lambda a: 0.1)
    other.load_state_dict(state)
    assert (other.balance.values == sampler.balance.values).all()
    assert (other.visits == sampler.visits).all()


def test_on_a_table_rewards_are_spread_over_the_columns() -> None:
    inner = seeded(inverse_temperature=lambda step: 1.0)
    sampler = TabularMixtureSampler(inner)
    for _ in range(300):
        sampler.tell((0, 1, 2), 0.5)
    visits = inner.visits[BASE.index((0, 1, 2))]
    assert visits.sum() == inner.visits.sum() == 300
    # p(m|c) stays near 1/3 at s = 1: 5 sqrt(300 * 2/9) = 41
    assert all(abs(v - 100) < 41 for v in visits)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"decay": 1.0}, r"decay must lie in \[0, 1\), got 1.0"),
        ({"decay": float("nan")}, r"decay must lie in \[0, 1\), got nan"),
        ({"initial": 1.5}, r"initial must lie in \[0, 1\], got 1.5"),
        ({"hold": 0}, "hold must be at least 1, got 0"),
        ({"tolerance": 0.0}, "tolerance must be positive, got 0.0"),
        ({"limit": 17}, "has 18 architectures, it must have at most 17"),
        ({"inverse_temperature": lambda step: 0.0}, "inverse_temperature must be positive, got"),
    ],
)
def test_settings_are_checked_when_a_sampler_is_made(
    changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        seeded(**changed)

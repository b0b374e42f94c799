"""Second-stage searches on chosen numbers: what they evaluate, and what they find."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from nas_ext.architecture import Architecture, Choice, SearchSpace
from nas_ext.benchmarks import TabularEstimator, pooling_table
from nas_ext.estimation import FloatArray
from nas_ext.samplers import UniformSampler
from nas_ext.search import Ranked
from nas_ext.selection import (
    Evolution,
    boltzmann,
    distinct_networks,
    evolution,
    evolve,
    exhaustive,
    explore,
    random_k,
    rank,
)
from nas_ext.testing import FakeSupernet, small_space

SPACE = small_space()
TRUTH = {a: (i + 1) / 20 for i, a in enumerate(SPACE)}
WIDE = SearchSpace("wide", [Choice(f"layer{i}", (0, 1, 2)) for i in range(16)])


class Ones:
    """An estimator of a large space: the share of options that are the last one."""

    def __init__(self, space: SearchSpace = WIDE) -> None:
        self.space = space
        self.evaluated: list[tuple[Architecture, ...]] = []

    def reward(self, architecture: Architecture) -> float:
        return float(np.mean([option == 2 for option in architecture]))

    def accuracies(
        self, architectures: Sequence[Architecture], *, batches: int | None = None
    ) -> FloatArray:
        self.evaluated.append(tuple(architectures))
        return np.asarray([self.reward(a) for a in architectures])

    def outputs(self, architectures: Sequence[Architecture]) -> FloatArray:
        raise ValueError("nothing here has outputs")

    def reinitialise(self) -> None:
        raise ValueError("a second stage must not start the weights again")


def fake() -> FakeSupernet:
    return FakeSupernet(SPACE, TRUTH)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_the_whole_space_is_ranked_by_its_accuracies() -> None:
    estimator = fake()
    ranking = exhaustive(SPACE, estimator)
    assert [r.architecture for r in ranking] == list(SPACE)[::-1]
    assert [r.accuracy for r in ranking] == sorted(TRUTH.values(), reverse=True)
    assert estimator.asked == {"reward": 0, "accuracies": 18, "outputs": 0, "reinitialise": 0}


def test_ties_keep_their_order() -> None:
    assert [r.architecture for r in exhaustive(SPACE, FakeSupernet(SPACE))] == list(SPACE)


def test_a_space_that_is_too_large_is_not_enumerated() -> None:
    with pytest.raises(ValueError, match="has 43,046,721 architectures, it must have at most"):
        exhaustive(WIDE, Ones())


def test_random_architectures_differ_and_are_as_many_as_asked() -> None:
    estimator = fake()
    ranking = random_k(SPACE, estimator, count=7, rng=rng())
    assert len({r.architecture for r in ranking}) == 7 == estimator.asked["accuracies"]
    assert random_k(SPACE, fake(), count=99, rng=rng()) == exhaustive(SPACE, fake())
    assert len(random_k(WIDE, Ones(), count=50, rng=rng())) == 50


def test_random_architectures_are_uniform() -> None:
    # 600 times 3 of 18: each is there with p = 1/6; 5 sigma = 5 sqrt(600 p (1 - p)) = 46
    generator, counts = rng(), dict.fromkeys(SPACE, 0)
    for _ in range(600):
        for line in random_k(SPACE, fake(), count=3, rng=generator):
            counts[line.architecture] += 1
    assert max(abs(count - 100) for count in counts.values()) < 46


def test_random_architectures_are_drawn_from_a_space_of_any_size() -> None:
    huge = SearchSpace("huge", [Choice(f"layer{i}", tuple(range(13))) for i in range(21)])
    estimator = Ones(huge)
    ranking = random_k(huge, estimator, count=20, rng=rng())
    assert len({r.architecture for r in ranking}) == 20
    assert all(r.architecture in huge for r in ranking)


@pytest.mark.parametrize(
    "method",
    [
        lambda e, g: random_k(SPACE, e, count=5, rng=g),
        lambda e, g: boltzmann(SPACE, e, rng=g, steps=9),
        lambda e, g: evolution(SPACE, e, rng=g, settings=Evolution(evaluations=6)),
    ],
)
def test_the_same_seed_finds_the_same(
    method: Callable[[FakeSupernet, np.random.Generator], tuple[Ranked, ...]],
) -> None:
    assert method(fake(), rng(3)) == method(fake(), rng(3))
    assert len({method(fake(), rng(seed)) for seed in range(5)}) > 1


def test_exploration_spends_one_reward_a_step_and_ranks_the_top_in_full() -> None:
    estimator = fake()
    ranking = boltzmann(SPACE, estimator, rng=rng(), steps=100, top=4)
    assert estimator.asked["reward"] == 100
    assert estimator.asked["accuracies"] == 4 == len(ranking)
    # a hundred steps visit all 18 first, since no reward beats the initial value of 1
    assert [r.architecture for r in ranking] == list(SPACE)[::-1][:4]


def test_boltzmann_exploration_finds_the_top_of_the_pooling_table() -> None:
    table = pooling_table()
    for seed in range(3):
        estimator = TabularEstimator(table, rng(seed + 100))
        ranking = boltzmann(table.space, estimator, rng=rng(seed))
        assert len(ranking) == 10
        # uniform candidates would hold 10 * 5 / 36 = 1.4 of the true top 5
        assert len({r.architecture for r in ranking} & table.top(5)) >= 3


def test_any_sampler_can_lead_an_exploration() -> None:
    ranking = explore(UniformSampler(SPACE, rng()), fake(), steps=200, top=3)
    assert [r.architecture for r in ranking] == list(SPACE)[::-1][:3]


def test_evolution_beats_as_many_random_architectures() -> None:
    # 16 layers, 3 options: a random share of ones has mean 1/3 and sigma .118, so 300 of them
    # hardly exceed .75; by adding and combining ones evolution goes beyond.
    for seed in range(3):
        best = evolution(WIDE, Ones(), rng=rng(seed), settings=Evolution(evaluations=300))[0]
        chance = random_k(WIDE, Ones(), count=300, rng=rng(seed))[0]
        assert best.accuracy > chance.accuracy
        assert best.accuracy >= 0.8


def test_evolution_spends_its_evaluations_in_generations_and_none_of_them_twice() -> None:
    estimator = Ones()
    ranking = evolution(WIDE, estimator, rng=rng(), settings=Evolution(evaluations=120))
    assert [len(generation) for generation in estimator.evaluated] == [50, 50, 20]
    everything = [a for generation in estimator.evaluated for a in generation]
    assert len(set(everything)) == 120 == len(ranking)
    assert [r.accuracy for r in ranking] == sorted((r.accuracy for r in ranking), reverse=True)


def test_evolution_of_a_small_space_ends_when_all_of_it_is_known() -> None:
    estimator = fake()
    ranking = evolution(
        SPACE, estimator, rng=rng(), settings=Evolution(population=5, mutations=2, crossovers=2)
    )
    assert [r.architecture for r in ranking] == [r.architecture for r in exhaustive(SPACE, fake())]
    assert estimator.asked["accuracies"] == 18


def test_scores_of_few_batches_are_followed_by_a_ranking_on_all() -> None:
    seen: list[int | None] = []

    class Noisy(Ones):
        def accuracies(
            self, architectures: Sequence[Architecture], *, batches: int | None = None
        ) -> FloatArray:
            seen.append(batches)
            return super().accuracies(architectures, batches=batches)

    few = Evolution(evaluations=60, population=30, mutations=15, crossovers=15)
    estimator = Noisy()
    ranking = evolution(WIDE, estimator, rng=rng(), settings=few, batches=2, top=7)
    assert seen == [2, 2, None]
    assert [len(generation) for generation in estimator.evaluated] == [30, 30, 7]
    assert len(ranking) == 7


def generations(settings: Evolution, **changes: Any) -> list[tuple[Architecture, ...]]:
    estimator = Ones()

    def score(architectures: Sequence[Architecture]) -> list[float]:
        return [float(x) for x in estimator.accuracies(architectures)]

    evolve(WIDE, score, rng(), settings=settings, **changes)
    return estimator.evaluated


def test_crossings_take_every_option_from_one_of_the_parents() -> None:
    only = Evolution(evaluations=24, population=12, parents=2, mutations=0, crossovers=12)
    first, second = generations(only)
    ranked = sorted(first, key=lambda a: -Ones().reward(a))[:2]
    for child in second:
        assert all(option in options for option, *options in zip(child, *ranked, strict=True))
    assert len(second) == 12


def test_mutants_keep_most_options_of_a_parent() -> None:
    only = Evolution(evaluations=60, population=30, parents=1, mutations=30, crossovers=0)
    first, second = generations(only)
    parent = max(first, key=Ones().reward)
    changed = [sum(a != b for a, b in zip(child, parent, strict=True)) for child in second]
    # each of 16 options is replaced with p = .1, by itself in a third of the cases; a child
    # without a change is refused: mean 16 * .0667 / (1 - .9333^16) = 1.6
    assert min(changed) >= 1
    assert np.mean(changed) < 3
    half = Evolution(
        evaluations=60, population=30, parents=1, mutations=30, crossovers=0, mutation_rate=1.0
    )
    first, second = generations(half)
    parent = max(first, key=Ones().reward)
    changed = [sum(a != b for a, b in zip(child, parent, strict=True)) for child in second]
    assert np.mean(changed) > 8  # 16 * 2/3 expected


def test_again_lets_later_generations_return_but_none_hold_anybody_twice() -> None:
    counts: dict[Architecture, int] = {}

    def score(architectures: Sequence[Architecture]) -> list[float]:
        assert len(set(architectures)) == len(architectures)
        for architecture in architectures:
            counts[architecture] = counts.get(architecture, 0) + 1
        return [TRUTH[a] for a in architectures]

    settings = Evolution(evaluations=40, population=8, mutations=4, crossovers=4)
    scores = evolve(SPACE, score, rng(), settings=settings, again=True)
    assert sum(counts.values()) == 40
    assert max(counts.values()) > 1
    assert scores == {a: TRUTH[a] for a in counts}


def test_the_last_score_of_an_architecture_counts() -> None:
    calls = iter(range(1, 100))

    def score(architectures: Sequence[Architecture]) -> list[float]:
        return [next(calls) / 100 for _ in architectures]

    tiny = SearchSpace("tiny", [Choice("layer", (0, 1))])
    settings = Evolution(evaluations=6, population=2, mutations=1, crossovers=1)
    scores = evolve(tiny, score, rng(), settings=settings, again=True)
    assert sorted(scores.values()) == [0.05, 0.06]


def test_nothing_that_is_not_allowed_is_evaluated() -> None:
    def light(architecture: Architecture) -> bool:
        return sum(architecture) <= 16

    estimator = Ones()
    few = Evolution(evaluations=200)
    evolution(WIDE, estimator, rng=rng(), settings=few, allowed=light)
    everything = [a for generation in estimator.evaluated for a in generation]
    assert len(everything) == 200
    assert all(map(light, everything))


def test_a_rare_architecture_of_a_small_space_is_found_all_the_same() -> None:
    (line,) = evolution(SPACE, fake(), rng=rng(), allowed=lambda a: a == (2, 1, 2))
    assert line.architecture == (2, 1, 2)


@pytest.mark.parametrize(
    ("space", "reason"), [(SPACE, "none at all"), (WIDE, "none of 10,000 draws")]
)
def test_a_limit_that_nobody_meets_is_an_error_and_no_endless_loop(
    space: SearchSpace, reason: str
) -> None:
    with pytest.raises(ValueError, match=f"allowed must admit an architecture.*{reason}"):
        evolution(space, Ones(space), rng=rng(), allowed=lambda a: False)


def test_one_line_a_network_where_encodings_repeat() -> None:
    class Repeating(SearchSpace):
        def canonical(self, architecture: Architecture) -> Architecture:
            return (0, *architecture[1:])

    space = Repeating("repeating", SPACE.choices)
    kept = distinct_networks(space, exhaustive(space, FakeSupernet(space, TRUTH)))
    # of the three encodings of a network the last in the space is the best here
    assert [r.architecture for r in kept] == [a for a in list(SPACE)[::-1] if a[0] == 2]
    assert distinct_networks(SPACE, exhaustive(SPACE, fake())) == exhaustive(SPACE, fake())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"evaluations": 0}, "evaluations must be at least 1, got 0"),
        ({"population": 0}, "population must be at least 1, got 0"),
        ({"parents": 0}, "parents must be at least 1, got 0"),
        ({"mutations": -1}, "mutations must not be negative, got -1"),
        ({"crossovers": -1}, "crossovers must not be negative, got -1"),
        ({"population": 49}, "mutations and crossovers must not exceed the population 49"),
        ({"mutation_rate": 0.0}, r"mutation_rate must lie in \(0, 1\], got 0.0"),
        ({"mutation_rate": float("nan")}, r"mutation_rate must lie in \(0, 1\], got nan"),
    ],
)
def test_a_wrong_setting_of_evolution_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Evolution(**settings)


def test_the_defaults_of_evolution_are_the_published_ones() -> None:
    # Section 4.4: 20 generations of 50, 10 parents, 25 and 25, probability .1
    made = Evolution()
    assert (made.evaluations, made.population, made.parents) == (20 * 50, 50, 10)
    assert (made.mutations, made.crossovers, made.mutation_rate) == (25, 25, 0.1)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        random_k(SPACE, fake(), count=0, rng=rng())
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        boltzmann(SPACE, fake(), rng=rng(), steps=0)
    with pytest.raises(ValueError, match="top must be at least 1, got 0"):
        boltzmann(SPACE, fake(), rng=rng(), top=0)
    with pytest.raises(ValueError, match="top must be at least 1, got 0"):
        evolution(SPACE, fake(), rng=rng(), top=0)
    with pytest.raises(ValueError, match=r"final_temperature must be positive and at most"):
        boltzmann(SPACE, fake(), rng=rng(), temperature=0.001)
    with pytest.raises(ValueError, match="architectures must be at least one"):
        rank(fake(), [])


def test_accuracies_that_are_no_numbers_are_not_ranked() -> None:
    estimator = FakeSupernet(SPACE, {**TRUTH, (0, 0, 0): float("nan")})
    with pytest.raises(ValueError, match="accuracies must be finite"):
        exhaustive(SPACE, estimator)
    with pytest.raises(ValueError, match="reward must be a share"):
        evolution(SPACE, estimator, rng=rng())

"""Random search, regularised evolution and Optuna's TPE keep the contract and their promises."""

from __future__ import annotations

import numpy as np
import optuna
import pytest

from nas_ext.architecture import Choice, SearchSpace
from nas_ext.benchmarks import BASELINES, NASBenchMacroSpace, pooling_table, run
from nas_ext.benchmarks.baselines import (
    EvolutionSampler,
    TPESampler,
    neighbours,
    regularised_evolution,
)
from nas_ext.pooling import PoolingSpace
from nas_ext.samplers import Sampler
from nas_ext.search import Phase
from nas_ext.testing import SamplerContract, small_space

POOLING = PoolingSpace(layers=10, poolings=2)


class TestEvolution(SamplerContract):
    def make(self, rng: np.random.Generator) -> Sampler:
        return EvolutionSampler(self.space, rng, population=6, tournament=3)


class TestEvolutionOverPoolings(TestEvolution):
    space = PoolingSpace(layers=6, poolings=2)


class TestTPE(SamplerContract):
    def make(self, rng: np.random.Generator) -> Sampler:
        return TPESampler(self.space, rng)


class TestTPEOverPoolings(TestTPE):
    space = PoolingSpace(layers=6, poolings=2)


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_spends_the_same_and_returns_the_same_record(name: str) -> None:
    result = run(BASELINES[name](120), pooling_table(), seed=1)
    assert result.evaluations == 120
    assert len(result.search.draws) == 120
    assert result.accuracy == pooling_table().accuracies[result.found]


def test_the_best_of_a_baseline_has_the_highest_mean_reward() -> None:
    sampler = EvolutionSampler(POOLING, np.random.default_rng(0))
    first, second, third = list(POOLING)[:3]
    for architecture, reward in ((first, 1.0), (first, 0.0), (second, 0.8), (third, 0.8)):
        sampler.tell(architecture, reward)
    # The single reward of 1.0 was luck: its mean is .5. Equal means keep the space's order.
    assert sampler.candidates(3) == (second, third, first)


@pytest.mark.parametrize(
    ("space", "count"),
    # By hand: each of three choices changed, 2 + 1 + 2; 8 choices, 2 others each; 2 poolings
    # moved to one of 7 free places.
    [(small_space(), 5), (NASBenchMacroSpace(), 16), (POOLING, 14)],
)
def test_neighbours_differ_in_as_few_choices_as_can_be(space: SearchSpace, count: int) -> None:
    rng = np.random.default_rng(0)
    for architecture in (space.draw(rng) for _ in range(5)):
        near = neighbours(space, architecture)
        assert len(near) == len(set(near)) == count
        assert architecture not in near
        assert all(architecture in neighbours(space, other) for other in near)


def test_a_space_of_one_architecture_has_no_neighbours() -> None:
    with pytest.raises(ValueError, match="must have another architecture, it has 1"):
        neighbours(SearchSpace("one", [Choice("a", ("x",))]), (0,))


def test_evolution_mutates_the_best_until_it_is_the_oldest() -> None:
    # A tournament of 200 out of 4 misses the best with a probability of .75^200.
    sampler = EvolutionSampler(POOLING, np.random.default_rng(0), population=4, tournament=200)
    best, *others = [POOLING.draw(np.random.default_rng(seed)) for seed in range(4)]
    for other in others:
        sampler.tell(other, 0.0)
    sampler.tell(best, 1.0)
    for _ in range(4):
        (child,) = sampler.ask()
        assert child in neighbours(POOLING, best)
        sampler.tell(others[0], 0.0)
    # Four have come since: it died, although it is still the best.
    (child,) = sampler.ask()
    assert child in neighbours(POOLING, others[0])


def test_evolution_checks_its_settings() -> None:
    for name in ("population", "tournament"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
            EvolutionSampler(POOLING, np.random.default_rng(0), **{name: 0})
    (phase,) = regularised_evolution(50, population=10, tournament=2)
    assert phase.steps == 50


@pytest.mark.parametrize(
    "phases", [regularised_evolution(1000, population=50, tournament=10), BASELINES["tpe"](300)]
)
def test_a_baseline_learns_where_the_good_ones_are(phases: tuple[Phase, ...]) -> None:
    # Uniform draws fall on the top 10 of 36 with a probability of .278 and deviate by
    # sqrt(.278 * .722 / n): the bound is 4 sigma above.
    result = run(phases, pooling_table(), seed=0)
    sigma = (10 / 36 * 26 / 36 / result.evaluations) ** 0.5
    assert result.draws_in_top10 > 10 / 36 + 4 * sigma


def test_tpe_draws_what_optuna_would() -> None:
    # Optuna with its own search for the parameters, seeded alike before each trial.
    space = small_space()
    sampler = TPESampler(space, np.random.default_rng(5))
    seeds = np.random.default_rng(5)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    for _ in range(40):
        study.sampler = optuna.samplers.TPESampler(seed=int(seeds.integers(2**32)))
        trial = study.ask()
        sizes = [len(choice.options) for choice in space.choices]
        expected = tuple(
            trial.suggest_categorical(f"choice{i}", list(range(size)))
            for i, size in enumerate(sizes)
        )
        (chosen,) = sampler.ask()
        assert chosen == expected
        reward = space.index(chosen) / space.size
        sampler.tell(chosen, reward)
        study.tell(trial, reward)


def test_tpe_says_nothing_and_leaves_optunas_logging_alone(
    capfd: pytest.CaptureFixture[str],
) -> None:
    optuna.logging.set_verbosity(optuna.logging.INFO)
    TPESampler(small_space(), np.random.default_rng(0)).ask()
    assert optuna.logging.get_verbosity() == optuna.logging.INFO
    assert capfd.readouterr().err == ""


def test_a_draw_that_was_never_rewarded_does_not_count() -> None:
    space = small_space()
    forgetful, plain = (TPESampler(space, np.random.default_rng(0)) for _ in range(2))
    forgetful.ask()
    for sampler in (forgetful, plain):
        for architecture in space:
            sampler.tell(architecture, space.index(architecture) / 17)
    plain.rng.bit_generator.state = forgetful.rng.bit_generator.state
    assert [forgetful.ask() for _ in range(5)] == [plain.ask() for _ in range(5)]

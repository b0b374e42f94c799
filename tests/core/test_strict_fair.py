"""Strict fairness: equal counts after every step, and nothing else fixed."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from scipy.stats import chisquare

from nas_ext.architecture import Architecture, Choice, SearchSpace
from nas_ext.pooling import PoolingSpace
from nas_ext.samplers import Sampler
from nas_ext.samplers.strict_fair import StrictFairSampler
from nas_ext.testing import SamplerContract

MACRO = SearchSpace("macro", [Choice(f"l{i}", (0, 1, 2)) for i in range(8)])
UNEVEN = SearchSpace(
    "uneven", [Choice(f"l{i}", tuple(range(n))) for i, n in enumerate((5, 3, 2, 1))]
)
POOLING = PoolingSpace(layers=10, poolings=2)


def make_sampler(space: SearchSpace, seed: int = 0) -> StrictFairSampler:
    return StrictFairSampler(space, np.random.default_rng(seed))


class TestStrictFair(SamplerContract):
    def make(self, rng: np.random.Generator) -> Sampler:
        return StrictFairSampler(self.space, rng)


class TestStrictFairOnPoolings(SamplerContract):
    space = POOLING

    def make(self, rng: np.random.Generator) -> Sampler:
        return StrictFairSampler(self.space, rng)


def used(architectures: tuple[Architecture, ...]) -> Counter[tuple[int, int]]:
    return Counter(place for architecture in architectures for place in enumerate(architecture))


@pytest.mark.parametrize(("space", "width"), [(MACRO, 3), (UNEVEN, 5), (POOLING, 9)])
def test_a_step_takes_as_many_architectures_as_fairness_needs(
    space: SearchSpace, width: int
) -> None:
    # Section 4.2: m = 3 on NAS-Bench-Macro; the largest m where counts differ; 9 positions
    sampler = make_sampler(space)
    assert sampler.width == StrictFairSampler.passes_per_step(space) == width
    for _ in range(20):
        asked = sampler.ask()
        assert len(asked) == len(set(asked)) == width
        assert all(architecture in space for architecture in asked)


def test_after_every_step_every_operation_of_every_layer_was_used_equally_often() -> None:
    # Golden number 23.
    sampler, counts = make_sampler(MACRO), Counter[tuple[int, int]]()
    for step in range(1, 50):
        counts += used(sampler.ask())
        assert set(counts.values()) == {step}
        assert len(counts) == 24


def test_after_every_step_every_position_was_pooled_equally_often() -> None:
    # Golden number 23, the Hamiltonian variant: each position lies on two edges of a cycle.
    sampler, counts = make_sampler(POOLING), Counter[tuple[int, int]]()
    for step in range(1, 50):
        counts += used(sampler.ask())
        assert [counts[position, 0] for position in range(9)] == [2 * step] * 9


def test_two_poolings_are_the_edges_of_one_cycle_through_all_positions() -> None:
    edges = [{p for p, option in enumerate(a) if option == 0} for a in make_sampler(POOLING).ask()]
    position, walked = 0, [0]
    while edges:
        edge = next(e for e in edges if position in e)
        edges.remove(edge)
        (position,) = edge - {position}
        walked.append(position)
    assert sorted(walked[:-1]) == list(range(9))
    assert walked[-1] == 0


@pytest.mark.parametrize(("layers", "poolings"), [(5, 1), (9, 3), (4, 2), (6, 4)])
def test_other_numbers_of_poolings_pool_every_position_so_often(
    layers: int, poolings: int
) -> None:
    space = PoolingSpace(layers=layers, poolings=poolings)
    asked = make_sampler(space).ask()
    assert len(set(asked)) == layers - 1
    assert {used(asked)[p, 0] for p in range(layers - 1)} == {poolings}


def test_a_pooling_space_of_one_architecture_trains_it_once() -> None:
    space = PoolingSpace(layers=3, poolings=2)
    assert make_sampler(space).ask() == ((0, 0),)
    assert StrictFairSampler.passes_per_step(space) == 1


def test_choices_with_fewer_options_never_differ_by_more_than_one() -> None:
    sampler, counts = make_sampler(UNEVEN), Counter[tuple[int, int]]()
    for step in range(1, 60):
        counts += used(sampler.ask())
        for layer, choice in enumerate(UNEVEN.choices):
            of_layer = [counts[layer, option] for option in range(len(choice.options))]
            assert max(of_layer) - min(of_layer) <= 1
            assert sum(of_layer) == 5 * step


def test_permutations_are_drawn_anew_at_every_step() -> None:
    # Pitfall 17: a published baseline trains the same architectures for a whole epoch.
    sampler = make_sampler(MACRO)
    steps = [frozenset(sampler.ask()) for _ in range(100)]
    assert len(set(steps)) == 100


@pytest.mark.parametrize("space", [POOLING, SearchSpace("s", MACRO.choices[:3])])
def test_a_single_architecture_is_uniform_over_the_space(space: SearchSpace) -> None:
    sampler = make_sampler(space)
    for place in (0, sampler.width - 1):
        counts = Counter(sampler.ask()[place] for _ in range(2000))
        assert chisquare([counts[a] for a in space]).pvalue > 1e-4


def test_the_rest_of_a_permutation_survives_json() -> None:
    first, second = make_sampler(UNEVEN), make_sampler(UNEVEN, seed=9)
    for _ in range(7):
        first.ask()
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert [second.ask() for _ in range(20)] == [first.ask() for _ in range(20)]


def test_choices_that_depend_on_each_other_are_refused() -> None:
    class Increasing:
        def start(self) -> int:
            return 0

        def step(self, state: int, position: int, option: int) -> int | None:
            return option if option >= state else None

        def accepts(self, state: int) -> bool:
            return True

    space = SearchSpace("stairs", MACRO.choices[:3], rule=Increasing())
    # 10 multisets of size 3 from 3
    message = "'stairs' must be a free product or a pooling space.*only 10 of its products exist"
    with pytest.raises(ValueError, match=message):
        make_sampler(space)

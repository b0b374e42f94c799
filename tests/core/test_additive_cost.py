"""Costs that are sums: their values, their bounds, and what they refuse."""

from __future__ import annotations

import pytest

from nas_ext.additive_cost import AdditiveCost
from nas_ext.architecture import Choice, SearchSpace
from nas_ext.pooling import PoolingSpace

COST = AdditiveCost(100, ((0, 5), (7, 1, 3)))


def test_a_cost_is_the_fixed_part_and_that_of_each_option() -> None:
    # By hand: 100 + 5 + 3.
    assert COST((1, 2)) == 108
    assert [COST((a, b)) for a in range(2) for b in range(3)] == [107, 101, 103, 112, 106, 108]


def test_the_bounds_are_those_of_the_cheapest_and_the_dearest_options() -> None:
    assert (COST.minimum, COST.maximum) == (101, 112)


def test_the_bounds_of_a_space_are_those_of_what_exists_in_it() -> None:
    free = SearchSpace("free", [Choice("a", (0, 1)), Choice("b", (0, 1, 2))])
    assert COST.bounds(free) == (101, 112)
    space = PoolingSpace(layers=6, poolings=2)
    cost = AdditiveCost(1, ((0, 9), (8, 1), (2, 7), (6, 3), (4, 5)))
    listed = [cost(architecture) for architecture in space]
    assert cost.bounds(space) == (min(listed), max(listed))
    assert cost.minimum < min(listed)


@pytest.mark.parametrize("architecture", [(0,), (0, 0, 0), (2, 0), (0, -1), (0, 3)])
def test_options_outside_the_table_are_refused(architecture: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"architecture|options of an architecture"):
        COST(architecture)


@pytest.mark.parametrize(
    ("fixed", "options", "reason"),
    [
        (-1, ((1,),), "costs must be integers of at least 0, got -1"),
        (0, ((1, 2.5),), "costs must be integers of at least 0, got 2.5"),
        (0, ((1, -2),), "costs must be integers of at least 0, got -2"),
        (True, ((1,),), "costs must be integers of at least 0, got True"),
        (0, (), "options must be a row of costs for each choice"),
        (0, ((1,), ()), "options must be a row of costs for each choice"),
    ],
)
def test_other_costs_are_refused(fixed: int, options: tuple[tuple[int, ...]], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        AdditiveCost(fixed, options)

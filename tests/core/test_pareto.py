"""The front is what a comparison of all pairs leaves."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_ext.benchmarks import pooling_table
from nas_ext.pareto import front, hypervolume, pareto_front
from nas_ext.results import Budget, RankedArchitecture, SearchResult

TABLE = pooling_table()

points = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 5)), max_size=12)


def line(accuracy: float, macs: int | None, place: int) -> RankedArchitecture:
    return RankedArchitecture((place,), str(place), {}, accuracy, macs, parameters=100 - place)


def dominates(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return a[0] >= b[0] and a[1] <= b[1] and a != b


@given(points)
def test_the_front_is_what_no_pair_dominates_cheapest_first(found: list[tuple[int, int]]) -> None:
    # The definition, over all pairs.
    wanted = {i for i, b in enumerate(found) if not any(dominates(a, b) for a in found)}
    kept = pareto_front([a for a, _ in found], [c for _, c in found])
    assert set(kept) == wanted
    assert len(kept) == len(wanted)
    assert [found[i][1] for i in kept] == sorted(found[i][1] for i in kept)


@given(points)
def test_the_hypervolume_is_the_number_of_dominated_cells(found: list[tuple[int, int]]) -> None:
    # On whole numbers the area is a count of unit cells: (h, c) lies below a point (a, k) when
    # h < a and c >= k.
    cells = sum(any(h < a and c >= k for a, k in found) for h in range(5) for c in range(1, 5))
    area = hypervolume([float(a) for a, _ in found], [float(c) for _, c in found], worst_cost=5.0)
    assert area == cells


def test_equal_points_all_stay_in_their_order() -> None:
    # By hand: 1 and 3 are the same point; 0 has the cost of 2 and is less accurate.
    assert pareto_front([0.4, 0.5, 0.7, 0.5], [3, 2, 3, 2]) == (1, 3, 2)


def test_the_same_accuracy_for_more_is_dominated() -> None:
    assert pareto_front([0.5, 0.5], [2, 1]) == (1,)


@pytest.mark.parametrize(
    ("accuracies", "costs", "message"),
    [
        ([0.5], [], "costs must be as many as the 1 accuracies, got 0"),
        ([math.nan], [1.0], "accuracies must be finite"),
        ([0.5], [math.inf], "costs must be finite"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    accuracies: list[float], costs: list[float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        pareto_front(accuracies, costs)


def test_a_worst_cost_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match=r"worst_cost must be positive, got 0.0"):
        hypervolume([0.5], [1.0], worst_cost=0.0)


def test_the_front_of_the_pooling_table_holds_its_best_and_its_cheapest() -> None:
    lines = [
        RankedArchitecture(a, TABLE.space.describe(a), {}, TABLE.accuracies[a], TABLE.macs[a])
        for a in TABLE.space
    ]
    kept = front(lines)
    # Table 2.1: [7,1,2] has the highest accuracy, 92.01 %.
    assert kept[-1].name == "[7,1,2]"
    cheapest = min(TABLE.macs.values())
    best = max(x.accuracy for x in lines if x.macs == cheapest)
    assert (kept[0].macs, kept[0].accuracy) == (cheapest, best)
    assert all(np.diff([x.accuracy for x in kept]) >= 0)


def test_the_front_goes_by_the_cost_that_is_named_or_given() -> None:
    lines = [line(0.9, 30, 0), line(0.8, 20, 1), line(0.7, 40, 2)]
    assert [x.name for x in front(lines)] == ["1", "0"]
    # parameters are 100, 99, 98
    assert [x.name for x in front(lines, cost="parameters")] == ["2", "1", "0"]
    assert [x.name for x in front(lines, cost=lambda a: float(a[0]))] == ["0"]


def test_a_result_has_the_front_of_its_ranking() -> None:
    lines = (line(0.9, 30, 0), line(0.8, 40, 1))
    budget = Budget(1, 1, 0, 2, 0, 0.0)
    result = SearchResult("Uniform", {}, 0, {}, (("uniform", 1),), (), lines, budget)
    assert front(result) == lines[:1]
    with pytest.raises(ValueError, match="ranking must not be empty"):
        front(replace(result, ranking=()))


def test_an_unknown_cost_is_refused() -> None:
    with pytest.raises(ValueError, match="ranking must know the macs of every architecture, not"):
        front([line(0.9, None, 0)])
    with pytest.raises(ValueError, match=r"cost must be one of .* or a function, got 'seconds'"):
        front([line(0.9, 1, 0)], cost="seconds")

"""What a search trained, and whether on the good or the bad ones."""

from __future__ import annotations

import pytest

from nas_ext.architecture import Architecture, Choice, SearchSpace
from nas_ext.benchmarks import Table
from nas_ext.comparison.diagnostics import diagnose, fifths

SPACE = SearchSpace("line", [Choice("a", tuple(range(10)))])
TABLE = Table(
    name="line",
    space=SPACE,
    accuracies={(i,): i / 100 for i in range(10)},
    deviations={},
    source="made up: architecture i reaches i percent",
)
SCORES: dict[Architecture, float] = {(i,): -i / 100 for i in range(10)}  # the truth reversed


def test_a_fifth_of_ten_architectures_are_the_two_best_and_the_two_worst() -> None:
    assert fifths(TABLE) == (frozenset({(9,), (8,)}), frozenset({(0,), (1,)}))


def test_draws_are_counted_on_the_true_fifths() -> None:
    draws: dict[Architecture, int] = {(9,): 6, (0,): 2, (1,): 1, (5,): 1}
    found = diagnose(TABLE, scores=SCORES, draws=draws)
    assert found["different_drawn"] == 4
    assert found["largest_share_of_draws"] == 0.6
    assert found["draws_on_true_top_fifth"] == 0.6
    assert found["draws_on_true_bottom_fifth"] == pytest.approx(0.3)


def test_draws_that_follow_the_truth_oppose_a_reversed_supernet() -> None:
    draws: dict[Architecture, int] = {(i,): i + 1 for i in range(10)}
    found = diagnose(TABLE, scores=SCORES, draws=draws)
    assert found["draws_to_truth"] == pytest.approx(1)
    assert found["draws_to_score"] == pytest.approx(-1)
    # Spearman by hand: 1 - 6 sum(d^2) / (n (n^2 - 1)), here with the two best exchanged
    draws |= {(9,): 9, (8,): 10}
    expected = 1 - 6 * 2 / (10 * 99)
    assert diagnose(TABLE, scores=SCORES, draws=draws)["draws_to_truth"] == pytest.approx(expected)


def test_density_is_high_where_the_law_draws_seldom() -> None:
    law: dict[Architecture, float] = {(i,): (10 - i) / 55 for i in range(10)}  # the bad most often
    found = diagnose(TABLE, scores=SCORES, draws={}, law=law)
    assert found["density_to_truth"] == pytest.approx(1)  # the dense ones are the good ones
    assert found["draws_to_truth"] is None


def test_equal_draws_have_no_correlation() -> None:
    draws: dict[Architecture, int] = {(i,): 3 for i in range(10)}
    found = diagnose(TABLE, scores=SCORES, draws=draws)
    assert found["draws_to_truth"] is None
    assert found["draws_on_true_top_fifth"] == pytest.approx(0.2)
    assert found["density_to_truth"] is None

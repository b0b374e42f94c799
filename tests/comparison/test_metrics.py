"""What a search is worth by a ground truth."""

from __future__ import annotations

from typing import TypeAlias

import pytest

from nas_ext.architecture import Architecture, Choice, SearchSpace
from nas_ext.benchmarks import Table
from nas_ext.comparison import NUMBERS, judge

Scores: TypeAlias = dict[Architecture, float]
TAUS = ("tau", "tau_of_true_top", "tau_of_predicted_top")
SPACE = SearchSpace("line", [Choice("a", tuple(range(12)))])
TABLE = Table(
    name="line",
    space=SPACE,
    accuracies={(i,): i / 100 for i in range(12)},
    deviations={(i,): 0.01 for i in range(12)},
    source="made up: architecture i reaches i percent",
)


def test_a_supernet_that_orders_as_the_truth_does_has_all_tau_of_one() -> None:
    scores: Scores = {(i,): i / 200 for i in range(12)}
    found = judge(
        TABLE, competitor="c", seed=0, scores=scores, ranking=[(11,)], draws={(11,): 3, (0,): 1}
    )
    assert [found.values[n] for n in TAUS] == pytest.approx([1, 1, 1])
    assert found.values["precision_at_5"] == 1.0
    assert found.values["regret"] == 0.0
    assert found.values["draws_on_true_top"] == 0.75
    assert found.pick == "11"


def test_the_pick_is_the_strategys_own_and_the_best_of_k_goes_on_by_the_scores() -> None:
    scores: Scores = {(i,): -i / 200 for i in range(12)}  # the worst is thought best
    found = judge(TABLE, competitor="c", seed=0, scores=scores, ranking=[(3,), (2,)], draws={})
    assert found.values["tau"] == pytest.approx(-1)
    assert found.values["accuracy"] == 0.03
    assert found.values["regret"] == pytest.approx(0.08)
    # 3, 2, then 0, 1, 4 by the scores: the best of the first five is 4
    assert found.values["regret_of_top5"] == pytest.approx(0.07)
    # and 5, 6, 7, 8, 9: the best of ten is 9
    assert found.values["regret_of_top10"] == pytest.approx(0.02)
    assert found.values["draws_on_true_top"] is None


def test_a_supernet_that_orders_nothing_has_tau_zero() -> None:
    flat: Scores = {(i,): 0.1 for i in range(12)}
    found = judge(TABLE, competitor="c", seed=0, scores=flat, ranking=[(0,)], draws={})
    assert [found.values[n] for n in TAUS] == [0, 0, 0]


def test_every_metric_has_a_value_and_no_other_name_appears() -> None:
    scores: Scores = {(i,): i / 200 for i in range(12)}
    found = judge(TABLE, competitor="c", seed=0, scores=scores, ranking=[(1,)], draws={(1,): 1})
    assert list(found.values) == [metric.name for metric in NUMBERS]


def test_scores_that_do_not_cover_the_space_are_refused() -> None:
    with pytest.raises(ValueError, match="scores must cover space 'line' exactly"):
        judge(TABLE, competitor="c", seed=0, scores={(0,): 0.1}, ranking=[(0,)], draws={})
    scores: Scores = {(i,): 0.1 for i in range(12)}
    with pytest.raises(ValueError, match="ranking must not be empty"):
        judge(TABLE, competitor="c", seed=0, scores=scores, ranking=[], draws={})

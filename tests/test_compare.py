"""Intervals, tests and verdicts against hand calculations and scipy's own tests."""

from __future__ import annotations

import csv
import math
import os
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from nas_ext.compare import (
    difference,
    mean_interval,
    percent,
    precision_at,
    rank_correlation,
    rank_correlation_interval,
    share_interval,
    top_correlation,
    verdict,
)

SEEDS = st.integers(0, 2**32 - 1)

# Means 98 and 95 percent, both with a deviation of 1 point. By hand: error sqrt(1/3 + 1/3) =
# 0.81650 points, 4 degrees of freedom, t = 2.77645 (printed tables), half width 2.26696 points.
HIGH, LOW = (0.97, 0.98, 0.99), (0.94, 0.95, 0.96)


def sample(seed: int, size: int, *, mean: float = 0.9) -> list[float]:
    """Return accuracies with a deviation of one point."""
    return [float(value) for value in np.random.default_rng(seed).normal(mean, 0.01, size)]


# One mean.


def test_the_interval_of_one_two_three_is_the_hand_calculation() -> None:
    # t(0.975, 2) = 4.302653 in printed tables; 4.302653 / sqrt(3) = 2.484138.
    found = mean_interval([1.0, 2.0, 3.0])
    assert (found.mean, found.deviation, found.n) == (2.0, 1.0, 3)
    assert found.low == pytest.approx(2 - 2.484138, abs=1e-6)
    assert found.high == pytest.approx(2 + 2.484138, abs=1e-6)


@given(SEEDS, st.integers(2, 40), st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_the_interval_is_that_of_scipys_one_sample_test(
    seed: int, size: int, confidence: float
) -> None:
    values = sample(seed, size)
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(confidence)
    found = mean_interval(values, confidence=confidence)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-9)
    assert found.deviation == pytest.approx(np.std(values, ddof=1), rel=1e-9)


def test_95_percent_of_the_intervals_of_five_seeds_cover_the_true_mean() -> None:
    # 4,000 independent trials: the share has the deviation sqrt(.95 * .05 / 4000) = 0.00345;
    # four of those are allowed.
    rng = np.random.default_rng(0)
    covered = 0
    for values in rng.normal(0.9, 0.01, (4000, 5)).tolist():
        found = mean_interval(values)
        covered += found.low <= 0.9 <= found.high
    assert covered / 4000 == pytest.approx(0.95, abs=4 * 0.00345)


def test_equal_values_have_an_interval_of_width_zero_without_rounding() -> None:
    # The float sum of three 0.1 divided by 3 is not 0.1.
    found = mean_interval([0.1, 0.1, 0.1])
    assert (found.mean, found.low, found.high, found.deviation) == (0.1, 0.1, 0.1, 0.0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "values must be at least 2 values, got []"),
        ([0.9], "values must be at least 2 values, got [0.9]"),
        ([0.9, math.nan], "values must be finite, got nan"),
        ([0.9, -math.inf], "values must be finite, got -inf"),
    ],
)
def test_an_interval_needs_two_finite_values(values: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        mean_interval(values)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0, -0.1, math.nan])
def test_a_confidence_lies_between_zero_and_one(confidence: float) -> None:
    for compute in (
        lambda: mean_interval(HIGH, confidence=confidence),
        lambda: difference(HIGH, LOW, confidence=confidence),
    ):
        with pytest.raises(ValueError, match=r"confidence must lie in \(0, 1\), got"):
            compute()


# Two means.


def test_a_difference_is_the_hand_calculation() -> None:
    found = difference(HIGH, LOW)
    assert found.mean == pytest.approx(0.03)
    assert found.low == pytest.approx(0.03 - 0.0226696, abs=1e-7)
    assert found.high == pytest.approx(0.03 + 0.0226696, abs=1e-7)
    assert (found.n_first, found.n_second, found.paired) == (3, 3, False)
    assert found.exceeds_noise


@given(SEEDS, st.integers(2, 20), st.integers(2, 20), st.sampled_from([0.8, 0.95]))
def test_unpaired_differences_are_those_of_scipys_welch_test(
    seed: int, size: int, other: int, confidence: float
) -> None:
    first, second = sample(seed, size), sample(seed + 1, other, mean=0.905)
    expected = stats.ttest_ind(first, second, equal_var=False)
    interval = expected.confidence_interval(confidence)
    found = difference(first, second, confidence=confidence)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-8)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-8)
    assert (found.n_first, found.n_second) == (size, other)


@given(SEEDS, st.integers(2, 20))
def test_paired_differences_are_those_of_scipys_paired_test(seed: int, size: int) -> None:
    first, second = sample(seed, size), sample(seed + 1, size)
    expected = stats.ttest_rel(first, second)
    interval = expected.confidence_interval(0.95)
    found = difference(first, second, paired=True)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-8)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-8)
    assert found.paired


@given(SEEDS, st.booleans())
def test_the_interval_excludes_zero_exactly_when_p_is_below_five_percent(
    seed: int, paired: bool
) -> None:
    first, second = sample(seed, 6, mean=0.91), sample(seed + 1, 6)
    found = difference(first, second, paired=paired)
    assert found.exceeds_noise == (found.p_value < 0.05)


def test_the_other_direction_is_the_negative() -> None:
    there, back = difference(HIGH, LOW), difference(LOW, HIGH)
    assert (back.mean, back.low, back.high) == (-there.mean, -there.high, -there.low)
    assert back.exceeds_noise


def test_pairing_removes_the_noise_that_both_share() -> None:
    first, second = [0.70, 0.80, 0.90], [0.69, 0.785, 0.89]
    assert not difference(first, second).exceeds_noise
    assert difference(first, second, paired=True).exceeds_noise


@pytest.mark.parametrize("paired", [False, True])
def test_values_that_do_not_vary_are_compared_exactly(paired: bool) -> None:
    same = difference([0.1] * 3, [0.1] * 3, paired=paired)
    assert (same.mean, same.low, same.high, same.p_value) == (0.0, 0.0, 0.0, 1.0)
    assert not same.exceeds_noise
    other = difference([0.75] * 3, [0.25] * 3, paired=paired)
    assert (other.mean, other.low, other.high, other.p_value) == (0.5, 0.5, 0.5, 0.0)
    assert other.exceeds_noise


def test_a_constant_side_leaves_the_other_sides_interval() -> None:
    # Welch's degrees of freedom are then the other side's.
    alone = mean_interval(LOW)
    found = difference([0.98] * 7, LOW)
    assert found.low == pytest.approx(0.98 - alone.high)
    assert found.high == pytest.approx(0.98 - alone.low)


def test_differences_refuse_sides_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="second must have one value for each of the 3 of first"):
        difference(HIGH, [0.9, 0.91], paired=True)
    with pytest.raises(ValueError, match="second must be at least 2 values"):
        difference(HIGH, [0.9])
    with pytest.raises(ValueError, match="first must be finite, got inf"):
        difference([0.9, math.inf], LOW)


# Ranks.


def test_tau_b_is_the_hand_calculation() -> None:
    # Of six pairs one is discordant: (5 - 1) / 6.
    assert rank_correlation([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(4 / 6)
    # Two concordant pairs, one tied on the first side: 2 / sqrt(2 * 3).
    assert rank_correlation([1, 2, 2], [1, 2, 3]) == pytest.approx(2 / math.sqrt(6))


@given(SEEDS, st.integers(2, 15))
@settings(max_examples=50)
def test_tau_b_without_ties_counts_concordant_pairs(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.permutation(size), rng.permutation(size)
    pairs = [(i, j) for i in range(size) for j in range(i)]
    signs = [np.sign((first[i] - first[j]) * (second[i] - second[j])) for i, j in pairs]
    expected = sum(signs) / len(pairs)
    assert rank_correlation(first.tolist(), second.tolist()) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ([1, 2], [3, 3], "second must not be constant, got 3.0 2 times"),
        ([1, 1], [2, 3], "first must not be constant, got 1.0 2 times"),
        ([1, 2], [1, 2, 3], "second must have one value for each of the 2 of first, got 3"),
        ([1], [1], "first must be at least 2 values, got [1]"),
        ([1, math.nan], [1, 2], "first must be finite, got nan"),
    ],
)
def test_ranks_refuse_what_has_no_order(
    first: list[float], second: list[float], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        rank_correlation(first, second)


# Sentences.


def test_a_verdict_says_what_is_better_by_how_much_and_that_it_is_no_noise() -> None:
    assert verdict("[5,3,2]", HIGH, "[4,2,2]", LOW) == (
        "[5,3,2] (98.0 %, n = 3) is 3.0 points [0.7, 5.3] better than [4,2,2] (95.0 %, n = 3): "
        "more than seed noise (95 % interval excludes 0)."
    )


def test_a_verdict_on_the_worse_one_gives_the_same_numbers() -> None:
    assert verdict("[4,2,2]", LOW, "[5,3,2]", HIGH, unit="percentage points") == (
        "[4,2,2] (95.0 %, n = 3) is 3.0 percentage points [0.7, 5.3] worse than "
        "[5,3,2] (98.0 %, n = 3): more than seed noise (95 % interval excludes 0)."
    )


def test_a_verdict_says_when_a_difference_may_be_noise() -> None:
    # 1.0 points with the half width of 2.267 from above.
    assert verdict("a", HIGH, "b", (0.96, 0.97, 0.98)) == (
        "a (98.0 %, n = 3) is 1.0 points [-1.3, 3.3] better than b (97.0 %, n = 3): "
        "not more than seed noise (95 % interval includes 0)."
    )


def test_a_verdict_on_equal_means_names_neither() -> None:
    assert verdict("a", HIGH, "b", HIGH) == (
        "a (98.0 %, n = 3) differs by 0.0 points [-2.3, 2.3] from b (98.0 %, n = 3): "
        "not more than seed noise (95 % interval includes 0)."
    )


def test_a_verdict_on_pairs_says_so() -> None:
    # Differences of 2, 1 and 3 points: mean 2, deviation 1, half width 2.484 (as for 1, 2, 3).
    assert verdict("a", (0.92, 0.93, 0.97), "b", (0.90, 0.92, 0.94), paired=True) == (
        "a (94.0 %, n = 3) is 2.0 points [-0.5, 4.5] better than b (92.0 %, n = 3): "
        "not more than seed noise (95 % interval of the pairs includes 0)."
    )


def test_a_verdict_never_prints_zero_as_the_end_of_an_interval_that_excludes_it() -> None:
    # Moved so that the lower end is 0.02 points: 2.26696 + 0.02 = 2.28696.
    moved = tuple(value - 0.0228696 for value in HIGH)
    said = verdict("a", HIGH, "b", moved)
    assert "is 2.29 points [0.02, 4.55] better than" in said
    assert "excludes 0" in said
    assert "is 2.29 points [0.02, 4.55] worse than" in verdict("b", moved, "a", HIGH)


def test_a_verdict_refuses_percentages() -> None:
    with pytest.raises(ValueError, match=r"second must be shares in \[0, 1\], got 91.5"):
        verdict("a", HIGH, "b", (91.5, 92.0))


def test_percent_has_one_decimal_and_no_negative_zero() -> None:
    printed = [percent(share) for share in (0.9716, 1.0, 0.0, -0.0001)]
    assert printed == ["97.2", "100.0", "0.0", "0.0"]


# Shares, and how well one score ranks what another does.


@given(st.integers(0, 30), st.integers(0, 30), st.sampled_from([0.5, 0.9, 0.95]))
def test_the_interval_of_a_share_is_scipys_wilson_interval(
    hits: int, misses: int, confidence: float
) -> None:
    if hits + misses == 0:
        return
    test = stats.binomtest(hits, hits + misses)
    expected = test.proportion_ci(confidence_level=confidence, method="wilson")
    found = share_interval(hits, hits + misses, confidence=confidence)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert found.low <= found.mean <= found.high


def test_twenty_hits_out_of_twenty_are_not_certainty() -> None:
    # By hand: n / (n + z^2) = 20 / (20 + 1.959964^2) = 0.838875.
    found = share_interval(20, 20)
    assert (found.mean, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.838875, abs=1e-6)
    for hits, n in ((3, 2), (-1, 2), (0, 0)):
        with pytest.raises(ValueError, match=r"hits must lie in \[0, n\] with n at least 1"):
            share_interval(hits, n)


def test_the_interval_of_tau_is_scipys_percentile_bootstrap() -> None:
    rng = np.random.default_rng(1)
    one = rng.normal(size=60)
    two = one + rng.normal(size=60)
    found = rank_correlation_interval(one.tolist(), two.tolist(), resamples=2000)
    expected = stats.bootstrap(
        (one, two),
        lambda a, b: stats.kendalltau(a, b).statistic,
        paired=True,
        vectorized=False,
        n_resamples=2000,
        method="percentile",
        rng=np.random.default_rng(2),
    )
    # Both are random: the ends of 2,000 resamples scatter by some thousandths.
    assert found.mean == rank_correlation(one.tolist(), two.tolist())
    interval = expected.confidence_interval
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=0.02)
    assert found.deviation == pytest.approx(expected.standard_error, rel=0.1)
    assert found.n == 60


def test_a_perfect_ranking_has_an_interval_of_no_width() -> None:
    found = rank_correlation_interval([1.0, 2.0, 3.0, 4.0, 9.0], [2.0, 3.0, 5.0, 7.0, 8.0])
    assert (found.low, found.mean, found.high) == pytest.approx((1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="resamples must be at least 2, got 1"):
        rank_correlation_interval([1.0, 2.0], [1.0, 2.0], resamples=1)


def test_precision_and_correlation_at_the_top_are_the_hand_counts() -> None:
    # The true order is a b c d e; the predicted one b a e c d.
    truth, predicted = [5.0, 4.0, 3.0, 2.0, 1.0], [4.0, 5.0, 2.0, 1.0, 3.0]
    assert [precision_at(predicted, truth, k) for k in range(1, 6)] == [0, 1, 2 / 3, 3 / 4, 1]
    # Among a b c, the true top 3, one pair of three is swapped; so among b a e.
    assert top_correlation(predicted, truth, 3) == pytest.approx(1 / 3)
    assert top_correlation(predicted, truth, 3, of="predicted") == pytest.approx(1 / 3)
    # Among a b c d, only a and b are swapped: 4 of 6; among b a e c, also e before c: 2 of 6.
    assert top_correlation(predicted, truth, 4) == pytest.approx(4 / 6)
    assert top_correlation(predicted, truth, 4, of="predicted") == pytest.approx(2 / 6)
    with pytest.raises(ValueError, match=r"k must lie in \[1, 5\], got 6"):
        precision_at(predicted, truth, 6)
    with pytest.raises(ValueError, match="truth must have one value for each of the 5"):
        precision_at(predicted, truth[:4], 1)


@pytest.mark.parametrize(
    ("models", "tau", "in_true_top", "in_predicted_top"),
    # Golden number 6: supernets of chapter 2 against networks trained alone; the top 10 of 36.
    [("M1", 0.1429, -0.333, -0.289), ("M2", 0.3116, -0.556, -0.135),
     ("M4", 0.5968, -0.111, 0.156), ("M8", 0.5302, -0.111, 0.200)],
)  # fmt: skip
def test_published_supernets_rank_as_published(
    models: str, tau: float, in_true_top: float, in_predicted_top: float
) -> None:
    file = Path(os.environ.get("NAS_EXT_DATA", "")) / "pooling-resnet20-supernets.csv"
    if not file.is_file():
        pytest.skip("NAS_EXT_DATA names no folder with pooling-resnet20-supernets.csv")
    with file.open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    alone = [float(row["baseline_avg"]) for row in rows]
    supernet = [float(row[f"{models}_avg"]) for row in rows]
    assert rank_correlation(supernet, alone) == pytest.approx(tau, abs=5e-5)
    assert top_correlation(supernet, alone, 10) == pytest.approx(in_true_top, abs=5e-4)
    found = top_correlation(supernet, alone, 10, of="predicted")
    assert found == pytest.approx(in_predicted_top, abs=5e-4)

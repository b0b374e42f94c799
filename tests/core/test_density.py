"""Mean distances against their definitions, computed pair by pair."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist, pdist, squareform
from scipy.stats import norm

from nas_ext import density
from nas_ext.density import (
    CHUNK,
    Rows,
    log_density,
    mean_cosine,
    mean_cosine_by_block,
    mean_cross_entropy,
    mean_hamming,
    mean_kl,
    mean_of_condensed,
    mean_squared_l2,
)
from nas_ext.estimation import FloatArray
from nas_ext.similarity import cross_entropy, kl

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(9, 5))
LOGITS = RNG.normal(size=(CHUNK + 7, 4, 3))


Metric: TypeAlias = Literal["cosine", "euclidean", "hamming", "sqeuclidean"]


def pairwise(rows: Any, metric: Metric) -> FloatArray:
    """The definition: mean over j != a of the matrix of pairs, from SciPy."""
    square = squareform(pdist(np.asarray(rows, dtype=np.float64), metric))
    return np.asarray(square.sum(axis=1) / (len(square) - 1))


def in_pieces(rows: Any, size: int) -> Rows:
    return lambda: (rows[first : first + size] for first in range(0, len(rows), size))


def exact_cosine(rows: Any) -> FloatArray:
    """1 - cosine in float64 as half a squared difference, pair by pair: no cancellation."""
    wide = np.asarray(rows, dtype=np.float64)
    units = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    sums = [((units - unit) ** 2).sum() / 2 for unit in units]
    return np.asarray(sums) / (len(units) - 1)


def test_the_mean_cosine_distance_needs_no_pairs() -> None:
    # Golden identity 22: d_a = N / (N - 1) (1 - u_a . mean u), to 2e-16
    units = ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True)
    identity = len(units) / (len(units) - 1) * (1 - units @ units.mean(axis=0))
    np.testing.assert_allclose(mean_cosine(ROWS), identity, rtol=0, atol=5e-16)
    np.testing.assert_allclose(mean_cosine(ROWS), pairwise(ROWS, "cosine"), rtol=1e-13)


def test_an_architecture_is_not_compared_with_itself() -> None:
    # Pitfall 23: with j = a included, two orthogonal rows would have a mean distance of 1/2.
    np.testing.assert_allclose(mean_cosine(np.eye(2)), [1.0, 1.0])
    np.testing.assert_allclose(mean_squared_l2(np.eye(2)), [2.0, 2.0])


def test_the_length_of_a_row_does_not_count_for_its_cosine() -> None:
    lengths = np.linspace(0.01, 100, len(ROWS))[:, None]
    np.testing.assert_allclose(mean_cosine(lengths * ROWS), mean_cosine(ROWS), rtol=1e-12)


def near_duplicates(spread: float) -> Any:
    """200 float32 rows of 640 numbers whose mean cosine distance is about `spread`."""
    rng = np.random.default_rng(1)
    base, noise = rng.normal(size=640), rng.normal(size=(200, 640))
    return (base + np.sqrt(spread) * noise).astype(np.float32)


@pytest.mark.parametrize("distance", [3e-5, 3e-7, 3e-9])
def test_near_duplicates_in_single_precision_keep_their_distances(distance: float) -> None:
    # Goal of the performance study: relative error under 1e-3 at a mean distance of 3e-7, where
    # the matrix of pairs in float32 is wrong by .45.
    rows = near_duplicates(distance)
    exact = exact_cosine(rows)
    assert exact.mean() == pytest.approx(distance, rel=0.3)
    np.testing.assert_allclose(mean_cosine(rows), exact, rtol=1e-3)


def test_sums_over_many_pieces_keep_their_digits() -> None:
    rows = np.tile(near_duplicates(3e-9), (20, 1))
    exact = np.tile(exact_cosine(near_duplicates(3e-9)), 20) * (20 * 199 / 3999)
    np.testing.assert_allclose(mean_cosine(in_pieces(rows, 1)), exact, rtol=1e-3)


def test_pairs_in_single_precision_would_not_keep_them() -> None:
    rows = near_duplicates(3e-7)
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    naive = (1 - units @ units.T).sum(axis=1) / (len(rows) - 1)
    assert np.abs(naive / exact_cosine(rows) - 1).max() > 0.1


def test_near_duplicates_far_from_zero_keep_their_squared_distances() -> None:
    rows = near_duplicates(3e-7)
    np.testing.assert_allclose(mean_squared_l2(rows), pairwise(rows, "sqeuclidean"), rtol=1e-3)


@pytest.mark.parametrize("size", [1, 3, CHUNK, 10_000])
def test_rows_in_pieces_give_the_same(size: int) -> None:
    logits = in_pieces(LOGITS, size)
    rows = LOGITS.reshape(len(LOGITS), -1)
    pieces = in_pieces(rows, size)
    np.testing.assert_allclose(mean_cosine(pieces), mean_cosine(rows), rtol=1e-12)
    np.testing.assert_allclose(mean_squared_l2(pieces), mean_squared_l2(rows), rtol=1e-12)
    np.testing.assert_allclose(mean_kl(logits), mean_kl(LOGITS), rtol=1e-12)
    np.testing.assert_allclose(mean_cross_entropy(logits), mean_cross_entropy(LOGITS), rtol=1e-12)


def test_neither_pairs_nor_all_rows_are_held() -> None:
    # 3,000 rows of 4 kB each are made one piece at a time; pairs would take 72 MB.
    def pieces() -> Any:
        rng = np.random.default_rng(0)
        return (rng.normal(size=(100, 1000)).astype(np.float32) for _ in range(30))

    tracemalloc.start()
    mean_cosine(pieces)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4e6


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 20), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_mean_squared_distances_equal_their_definition(n: int, d: int, seed: int) -> None:
    rows = np.random.default_rng(seed).normal(size=(n, d)) + 3
    np.testing.assert_allclose(mean_squared_l2(rows), pairwise(rows, "sqeuclidean"), rtol=1e-9)


@pytest.mark.parametrize(
    ("mean", "distance"), [(mean_kl, kl), (mean_cross_entropy, cross_entropy)]
)
def test_mean_divergences_equal_the_means_of_their_pairs(
    mean: Callable[[Rows], FloatArray], distance: Callable[[FloatArray], FloatArray]
) -> None:
    logits = LOGITS[:40]
    square = squareform(distance(logits))
    np.testing.assert_allclose(mean(logits), square.sum(axis=1) / 39, rtol=1e-9)


def test_certain_predictions_keep_the_mean_divergence_finite() -> None:
    logits = np.asarray([[[1000.0, 0.0]], [[0.0, 1000.0]]])
    # Clamped at 1e-8, as the pairwise divergence: (1 - 2e-8) ln(1e8)
    np.testing.assert_allclose(mean_kl(logits), [np.log(1e8)] * 2, rtol=1e-6)


def test_blocks_are_compared_on_their_own() -> None:
    both = mean_cosine_by_block(ROWS, (slice(0, 2), slice(2, 5)))
    assert both.shape == (9, 2)
    np.testing.assert_allclose(both[:, 0], pairwise(ROWS[:, :2], "cosine"), rtol=1e-12)
    np.testing.assert_allclose(both[:, 1], pairwise(ROWS[:, 2:], "cosine"), rtol=1e-12)


def test_a_row_of_zeros_has_cosine_zero_with_every_other() -> None:
    rows = np.asarray([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    # By hand: zeros are 1 from the three others; the others 0 from each other, 1 from the zeros.
    np.testing.assert_allclose(mean_cosine(rows), [1, 2 / 3, 2 / 3, 1])


def test_equal_rows_have_distance_zero() -> None:
    rows = np.repeat(ROWS[:1], 3, axis=0)
    assert mean_cosine(rows).max() < 1e-15
    assert mean_squared_l2(rows).max() < 1e-15
    assert mean_hamming(rows).tolist() == [0, 0, 0]


def test_half_precision_and_whole_numbers_are_taken() -> None:
    rows = np.asarray([[1, 2], [2, 1], [0, 5]])
    expected = pairwise(rows, "cosine")
    np.testing.assert_allclose(mean_cosine(rows), expected, rtol=1e-12)
    np.testing.assert_allclose(mean_cosine(rows.astype(np.float16)), expected, rtol=1e-5)


def test_the_mean_hamming_distance_counts_exactly() -> None:
    codes = np.random.default_rng(2).integers(0, 3, size=(50, 8))
    # SciPy's Hamming distance is the share of columns; ours is their number.
    np.testing.assert_allclose(mean_hamming(codes), 8 * pairwise(codes, "hamming"), rtol=1e-12)


def test_all_of_a_free_product_differ_equally_in_their_encodings() -> None:
    grid = np.stack(np.meshgrid([0, 1, 2], [0, 1], [0, 1, 2]), axis=-1).reshape(-1, 3)
    # By symmetry; each of the three columns differs from 12, 9, 12 of the 17 others.
    assert mean_hamming(grid).tolist() == [(12 + 9 + 12) / 17] * 18


def test_the_mean_of_a_condensed_vector_is_that_of_its_rows() -> None:
    condensed = pdist(ROWS)
    np.testing.assert_allclose(mean_of_condensed(condensed), pairwise(ROWS, "euclidean"))
    assert mean_of_condensed(np.asarray([3.0])).tolist() == [3.0, 3.0]


def test_the_kernel_density_is_the_mean_of_gaussian_kernels() -> None:
    rows = np.random.default_rng(3).normal(size=(CHUNK + 3, 2))
    h = 0.7
    kernels = norm.pdf(cdist(rows, rows), scale=h) / norm.pdf(0.0, scale=h)
    expected = np.log(kernels.mean(axis=1))  # the row itself included
    np.testing.assert_allclose(log_density(rows, bandwidth=h), expected, rtol=1e-9)


def test_the_bandwidth_is_the_median_distance_of_pairs() -> None:
    rows = np.random.default_rng(4).normal(size=(60, 3)) + 10
    h = float(np.median(pdist(rows)))
    np.testing.assert_allclose(log_density(rows), log_density(rows, bandwidth=h), rtol=1e-12)


def test_the_bandwidth_of_many_rows_is_that_of_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(density, "PAIRED", 5)
    rows = np.random.default_rng(4).normal(size=(9, 2))
    h = float(np.median(pdist(rows[[0, 2, 4, 6, 8]])))
    np.testing.assert_allclose(log_density(rows), log_density(rows, bandwidth=h), rtol=1e-12)


def test_a_narrow_kernel_leaves_each_row_alone_and_does_not_underflow() -> None:
    # exp(-d^2 / 2h^2) underflows for all others: what is left is the row itself, 1/N.
    np.testing.assert_allclose(log_density(ROWS, bandwidth=1e-4), np.log(1 / 9), rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean_cosine(ROWS[:1]), "rows must be at least 2 to have others, got 1"),
        (lambda: mean_cosine(in_pieces(ROWS[:0], 1)), "rows must be at least 2"),
        (lambda: mean_cosine(ROWS[0]), r"rows must have 2 dimensions, got shape \(5,\)"),
        (lambda: mean_cosine(np.full((3, 2), np.nan)), "rows must be finite"),
        (lambda: mean_cosine(np.asarray([[np.inf, 1], [1, 1]])), "rows must be finite"),
        (lambda: mean_squared_l2(np.full((3, 2), np.inf)), "rows must be finite"),
        (lambda: mean_kl(np.full((3, 2, 2), np.nan)), "logits must be finite"),
        (lambda: mean_kl(ROWS), r"rows must have 3 dimensions, got shape \(9, 5\)"),
        (lambda: mean_cross_entropy(LOGITS[:1]), "rows must be at least 2"),
        (lambda: mean_hamming(ROWS[0]), r"codes must be \[N, L\], got shape \(5,\)"),
        (lambda: mean_of_condensed(np.ones(4)), r"distances must be condensed, got shape \(4,\)"),
        (lambda: mean_of_condensed(np.ones(0)), r"distances must be condensed, got shape \(0,\)"),
        (lambda: mean_of_condensed(np.full(3, np.nan)), "distances must be finite"),
        (lambda: log_density(ROWS, bandwidth=0.0), "bandwidth must be positive, got 0.0"),
        (lambda: log_density(np.ones((5, 2))), "bandwidth must be positive, got 0.0"),
        (lambda: log_density(np.full((3, 2), np.nan)), "rows must be finite"),
    ],
)
def test_wrong_rows_are_named(call: Callable[[], FloatArray], message: str) -> None:
    with np.errstate(invalid="ignore"), pytest.raises(ValueError, match=message):
        call()

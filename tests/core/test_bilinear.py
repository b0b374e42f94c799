"""All pairs by matrix products, against pairs one by one, in both precisions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import pdist, squareform

from nas_ext.bilinear import BLOCK
from nas_ext.estimation import FloatArray
from nas_ext.similarity import BILINEAR, DISTANCES, encoding_rows

BLOCKS = 2 * BLOCK + 6


def tight_groups(count: int, spread: float, groups: int = 100) -> FloatArray:
    """Rows around so many centres, nearer to each other by `spread` than the centres are."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(groups, 40))[np.arange(count) % groups]
    return np.asarray(centres + spread * rng.normal(size=(count, 40)))


@pytest.mark.parametrize("name", list(BILINEAR))
def test_rows_stand_for_the_distance_of_their_name(name: str) -> None:
    logits = np.random.default_rng(3).normal(size=(30, 4, 3))
    square = np.zeros((30, 30))
    BILINEAR[name](logits).fill(square)
    np.fill_diagonal(square, 0)
    np.testing.assert_array_equal(square, square.T)
    np.testing.assert_allclose(squareform(square), DISTANCES[name](logits), rtol=1e-14)


def test_a_matrix_of_many_blocks_is_symmetric_to_the_bit() -> None:
    rows = BILINEAR["kl"](np.random.default_rng(3).normal(size=(1030, 2, 3)))
    square = np.empty((1030, 1030))
    rows.fill(square)
    np.testing.assert_array_equal(square, square.T)
    np.testing.assert_array_equal(square[np.triu_indices(1030, 1)], rows.condensed())


@pytest.mark.parametrize("groups", [2, 100])
@pytest.mark.parametrize("spread", [1.0, 1e-2, 1e-4])
def test_single_precision_keeps_five_digits_of_close_pairs(spread: float, groups: int) -> None:
    # Two groups: half of all pairs are close, whole rows are worked out again. A hundred: one in
    # a hundred is, and they are worked out alone.
    points = tight_groups(400, spread, groups)
    square = np.empty((400, 400), dtype=np.float32)
    encoding_rows(points, weights=np.ones(40)).fill(square)
    np.testing.assert_allclose(squareform(square, checks=False), pdist(points), rtol=1e-5)


def test_products_in_single_precision_alone_would_not_keep_them() -> None:
    points = tight_groups(400, 1e-4)
    rows = (points - points.mean(axis=0)).astype(np.float32)
    own = (rows * rows).sum(axis=1)
    squares = np.maximum(own[:, None] + own - 2 * rows @ rows.T, 0)
    naive = squareform(np.sqrt(squares), checks=False)
    assert np.abs(naive / pdist(points) - 1).max() > 0.1


@pytest.mark.parametrize("name", list(BILINEAR))
@pytest.mark.parametrize("spread", [1.0, 1e-3])
def test_every_distance_keeps_its_digits_in_single_precision(name: str, spread: float) -> None:
    logits = tight_groups(BLOCKS, spread).reshape(BLOCKS, 4, 10)
    square = np.empty((BLOCKS, BLOCKS), dtype=np.float32)
    BILINEAR[name](logits).fill(square)
    np.testing.assert_array_equal(square, square.T)
    found = square[np.triu_indices(BLOCKS, 1)]
    np.testing.assert_allclose(found, DISTANCES[name](logits), rtol=2e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_rows_are_no_distance_apart(dtype: type) -> None:
    square: NDArray[Any] = np.full((5, 5), np.nan, dtype=dtype)
    encoding_rows(np.ones((5, 3))).fill(square)
    assert not square.any()


@pytest.mark.parametrize("name", list(BILINEAR))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_row_is_no_distance_from_itself(name: str, dtype: type) -> None:
    logits = np.random.default_rng(2).normal(size=(BLOCKS, 2, 3))
    square: NDArray[Any] = np.empty((BLOCKS, BLOCKS), dtype=dtype)
    BILINEAR[name](logits).fill(square)
    assert not square.diagonal().any()


def test_some_rows_keep_their_distances() -> None:
    rows = BILINEAR["kl"](np.random.default_rng(1).normal(size=(9, 4, 3)))
    some = np.asarray([7, 2, 3])
    whole = squareform(rows.condensed())
    np.testing.assert_allclose(squareform(rows.take(some).condensed()), whole[np.ix_(some, some)])

"""k-means on the plane and on the sphere."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.cluster.vq import kmeans2

from nas_ext.estimation import FloatArray
from nas_ext.kmeans import _moved, kmeans, unit_rows

CORNERS = np.asarray([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])


def blobs(seed: int = 0) -> FloatArray:
    rng = np.random.default_rng(seed)
    return np.concatenate([corner + rng.normal(scale=0.3, size=(25, 2)) for corner in CORNERS])


def sorted_rows(rows: FloatArray) -> FloatArray:
    return rows[np.lexsort(rows.T)]


@pytest.mark.parametrize("seed", range(5))
def test_well_separated_groups_are_found(seed: int) -> None:
    rows = blobs()
    means = rows.reshape(4, 25, 2).mean(axis=1)
    found = kmeans(rows, 4, np.random.default_rng(seed))
    np.testing.assert_allclose(sorted_rows(found.round(9)), sorted_rows(means.round(9)))


def test_the_end_is_a_fixed_point_of_scipys_iteration() -> None:
    rows = np.random.default_rng(1).normal(size=(300, 4))
    found = kmeans(rows, 7, np.random.default_rng(0), iterations=500)
    again, _ = kmeans2(rows, found, iter=1, minit="matrix")
    np.testing.assert_allclose(again, found, atol=1e-12)


def test_directions_are_grouped_whatever_their_length() -> None:
    rng = np.random.default_rng(2)
    angles = np.concatenate([rng.normal(a, 0.05, 30) for a in (0.0, 2.0, 4.0)])
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1) * rng.uniform(1, 100, (90, 1))
    found = kmeans(rows, 3, np.random.default_rng(0), spherical=True)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0)
    units = unit_rows(rows).reshape(3, 30, 2).mean(axis=1)
    expected = unit_rows(units)
    np.testing.assert_allclose(sorted_rows(found.round(9)), sorted_rows(expected.round(9)))


def test_as_many_centres_as_rows_are_the_rows() -> None:
    rows = np.random.default_rng(3).normal(size=(6, 2))
    np.testing.assert_allclose(
        sorted_rows(kmeans(rows, 6, np.random.default_rng(0))), sorted_rows(rows)
    )


def test_a_centre_without_rows_moves_to_the_farthest_row() -> None:
    rows = np.asarray([[0.0], [1.0], [9.0]])
    centres = np.asarray([[1.0], [100.0]])
    moved = _moved(rows, centres, np.asarray([0, 0, 0]), np.asarray([1.0, 0.0, 64.0]))
    np.testing.assert_allclose(moved, [[10 / 3], [9.0]])


def test_the_same_generator_gives_the_same_centres() -> None:
    rows = np.random.default_rng(4).normal(size=(100, 3))
    one, same, other = (kmeans(rows, 10, np.random.default_rng(s)) for s in (0, 0, 1))
    assert (one == same).all()
    assert (one != other).any()


def test_unit_rows_leave_zeros_alone() -> None:
    assert unit_rows(np.asarray([[3.0, 4.0], [0.0, 0.0]])).tolist() == [[0.6, 0.8], [0.0, 0.0]]


def test_wrong_arguments_are_named() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"count must lie in \[1, 100\].*, got 101"):
        kmeans(blobs(), 101, rng)
    with pytest.raises(ValueError, match="rows must hold at least 4 that differ, got 3 among 9"):
        kmeans(np.repeat(CORNERS[:3], 3, axis=0), 4, rng)
    same_direction = np.outer([1.0, 2.0, 3.0], [0.1, 0.3])
    with pytest.raises(ValueError, match="rows must hold at least 2 that differ, got 1 among 3"):
        kmeans(same_direction, 2, rng, spherical=True)
    with pytest.raises(ValueError, match=r"rows must be finite and \[N, D\]"):
        kmeans(np.full((3, 2), np.nan), 2, rng)

"""Centres of rows: k-means, on the plane or on the sphere."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nas_ext.estimation import FloatArray

__all__ = ["kmeans", "unit_rows"]


def unit_rows(rows: FloatArray) -> FloatArray:
    """Return `[N, D]` rows of length 1; rows of zeros stay."""
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    units = np.zeros(rows.shape)
    np.divide(rows, lengths, out=units, where=lengths > 0)
    return units


def kmeans(
    rows: FloatArray,
    count: int,
    rng: np.random.Generator,
    *,
    spherical: bool = False,
    iterations: int = 50,
) -> FloatArray:
    """Return `[K, D]` centres of `[N, D]` rows by Lloyd's iterations from a k-means++ start.

    `spherical` takes rows and centres as directions: both get length 1, and the nearest centre is
    the one of the smallest cosine distance. A centre that loses all its rows moves to the row
    that is farthest from its own. Stops when no row changes its centre, or after `iterations`.
    Raises ValueError when fewer than `count` rows differ.
    """
    if rows.ndim != 2 or not np.isfinite(rows).all():
        raise ValueError(f"rows must be finite and [N, D], got shape {rows.shape}")
    if not 1 <= count <= len(rows):
        raise ValueError(f"count must lie in [1, {len(rows)}], the number of rows, got {count}")
    values = np.asarray(rows, dtype=np.float64)
    values = unit_rows(values) if spherical else values
    centres = _plus_plus(values, count, rng)
    before = np.full(len(values), -1)
    for _ in range(iterations):
        nearest, squares = _nearest(values, centres)
        if (nearest == before).all():
            break
        before = nearest
        moved = _moved(values, centres, nearest, squares)
        centres = _directions(moved, centres) if spherical else moved
    return centres


def _directions(moved: FloatArray, before: FloatArray) -> FloatArray:
    """Return centres of length 1; rows that cancel out have no direction, their centre stays."""
    return np.where(np.linalg.norm(moved, axis=1, keepdims=True) > 0, unit_rows(moved), before)


def _plus_plus(rows: FloatArray, count: int, rng: np.random.Generator) -> FloatArray:
    """Draw distinct rows, each with the square of its distance to those drawn before."""
    chosen = [int(rng.integers(len(rows)))]
    squares = np.full(len(rows), np.inf)
    rounding = 1e-24 * float((rows**2).sum(axis=1).max())
    for _ in range(count - 1):
        squares = np.minimum(squares, ((rows - rows[chosen[-1]]) ** 2).sum(axis=1))
        squares[squares <= rounding] = 0.0
        total = squares.sum()
        if not total > 0:
            raise ValueError(
                f"rows must hold at least {count} that differ, got {len(chosen)} among {len(rows)}"
            )
        chosen.append(int(rng.choice(len(rows), p=squares / total)))
    return rows[chosen]


def _nearest(rows: FloatArray, centres: FloatArray) -> tuple[NDArray[np.intp], FloatArray]:
    """Return each row's nearest centre, the first of equals, and the square of the distance."""
    squares = (centres**2).sum(axis=1) - 2 * (rows @ centres.T)
    nearest = squares.argmin(axis=1)
    own = squares[np.arange(len(rows)), nearest] + (rows**2).sum(axis=1)
    return nearest, np.maximum(own, 0.0)


def _moved(
    rows: FloatArray, centres: FloatArray, nearest: NDArray[np.intp], squares: FloatArray
) -> FloatArray:
    """Return the means of the rows of each centre, a far row where there are none."""
    members = np.bincount(nearest, minlength=len(centres))
    sums = np.eye(len(centres))[nearest].T @ rows
    moved: FloatArray = np.where(
        members[:, None] > 0, sums / np.maximum(members, 1)[:, None], centres
    )
    far = np.argsort(-squares, kind="stable")
    for place, empty in enumerate(np.flatnonzero(members == 0)):
        moved[empty] = rows[far[place]]
    return moved

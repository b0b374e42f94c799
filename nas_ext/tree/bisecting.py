"""Trees of many architectures without their pairs: halves by 2-means, small groups exactly.

A group is split along its principal coordinate and the split is bettered by 2-means, until groups
are small enough for average linkage. Memory is that of the rows, time O(N D log N) where splits
are not too uneven.
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import linkage

from nas_ext.bilinear import Bilinear
from nas_ext.estimation import FloatArray
from nas_ext.tree.merging import in_order

__all__ = ["LEAF_SIZE", "bisecting_merges"]

LEAF_SIZE = 64
"""The largest group that is clustered exactly."""

SAMPLE = 512
"""Rows of a group that settle its principal coordinate and the first rounds of 2-means."""

PIECE = 512
"""Rows that are worked on at once."""

POWERS = 5
"""Steps of the power iteration: enough for a start."""

ROUNDS = 20
"""Rounds of 2-means on a sample at most."""

LAST_ROUNDS = 3
"""Rounds of 2-means on all rows of a group that is larger than its sample, at most."""

SETTLED = 0.001
"""The share of rows that may still change sides at the end of these."""

Places = NDArray[np.intp]
Sides = NDArray[np.bool_]


def bisecting_merges(
    rows: Bilinear, rng: np.random.Generator, *, leaf_size: int = LEAF_SIZE
) -> FloatArray:
    """Return `[N - 1, 3]` merges (left, right, height) of N rows, in the numbering of `in_order`.

    Groups of up to `leaf_size` rows are clustered by exact average linkage. The height of a
    larger group is the mean distance between its halves, as average linkage has it, or for a
    rooted distance the root of the mean square; never less than a height below. Equal rows are
    halved in their order. 2-means takes the distance of `rows` itself, whose means it needs: the
    nearer centre is that of the smaller mean distance, less half the one within. On rows of many
    columns 64 clusters leave as much unexplained as those of average linkage do, on half a dozen
    columns up to a quarter more.
    """
    if leaf_size < 2:
        raise ValueError(f"leaf_size must be at least 2, got {leaf_size}")
    groups = [_Group(np.arange(len(rows)))]
    for group in groups:  # which grows
        if len(group.places) > leaf_size:
            sides, group.height = _split(rows, group.places, rng)
            group.parts = (len(groups), len(groups) + 1)
            groups += [_Group(group.places[sides]), _Group(group.places[~sides])]
            group.places = group.places[:0]
    return _merges(rows, groups)


@dataclass
class _Group:
    """Be some rows, or what was split into the two groups of these numbers at this height."""

    places: Places
    parts: tuple[int, int] | None = None
    height: float = 0.0


@dataclass(frozen=True)
class _Halves:
    """Hold the sums over two halves of a group: sizes `[2]`, x and y `[2, D]`, s `[2]`."""

    sizes: FloatArray
    left: FloatArray
    right: FloatArray
    own: FloatArray

    @classmethod
    def of(cls, rows: Bilinear, sides: Sides) -> _Halves:
        """Sum the rows of both sides."""
        members = np.stack([sides, ~sides]).astype(np.float64)
        left = members @ rows.left
        right = left if rows.right is rows.left else members @ rows.right
        return cls(members.sum(axis=1), left, right, members @ rows.own)

    def __add__(self, other: _Halves) -> _Halves:
        return _Halves(
            self.sizes + other.sizes,
            self.left + other.left,
            self.right + other.right,
            self.own + other.own,
        )

    def sides(self, rows: Bilinear) -> Sides:
        """Say which rows are nearer to the first half."""
        sizes = self.sizes[:, None]
        (x, other_x), (y, other_y) = self.left / sizes, self.right / sizes
        middle = x @ y - other_x @ other_y
        score = rows.left @ (y - other_y)
        score += score if rows.right is rows.left else rows.right @ (x - other_x)
        return np.asarray(score > middle)

    def distance(self, rows: Bilinear) -> float:
        """Return the mean distance between the halves, the root of the mean square if rooted."""
        (x, other_x), (y, other_y) = (
            self.left / self.sizes[:, None],
            self.right / self.sizes[:, None],
        )
        mean = (self.own / self.sizes).sum() - x @ other_y - other_x @ y
        return float(rows.distance(np.asarray([mean]))[0])


def _split(rows: Bilinear, places: Places, rng: np.random.Generator) -> tuple[Sides, float]:
    """Return who is in the first half of a group, and the distance between the halves."""
    count = len(places)
    some = places if count <= SAMPLE else places[np.sort(rng.choice(count, SAMPLE, replace=False))]
    sample = rows.take(some)
    sides, halves = _two_means(sample, _principal_sides(sample, rng))
    if count > SAMPLE:
        sides, halves = _two_means_of_all(rows, places, halves)
    return sides, halves.distance(rows)


def _principal_sides(rows: Bilinear, rng: np.random.Generator) -> Sides:
    """Say which rows lie above the middle of their first principal coordinate.

    That is the leading eigenvector of (x y^T + y x^T) / 2 about its middle: principal component
    analysis where the distance is Euclidean, classical scaling where it is not.
    """
    score = rng.standard_normal(len(rows))
    for _ in range(POWERS):
        score -= score.mean()
        length = np.linalg.norm(score)
        if not length > 0:
            break
        score /= length
        moved = rows.left @ (score @ rows.right)
        score = moved if rows.right is rows.left else moved + rows.right @ (score @ rows.left)
    return np.asarray(score > score.mean())


def _two_means(rows: Bilinear, sides: Sides) -> tuple[Sides, _Halves]:
    """Move rows to the nearer centre until none moves, from halves to start with."""
    sides = _both(sides)
    halves = _Halves.of(rows, sides)
    for _ in range(ROUNDS):
        nearer = _both(halves.sides(rows))
        if (nearer == sides).all():
            break
        sides = nearer
        halves = _Halves.of(rows, sides)
    return sides, halves


def _two_means_of_all(rows: Bilinear, places: Places, halves: _Halves) -> tuple[Sides, _Halves]:
    """Do the same to a large group, piece by piece, from the centres of some of its rows."""
    sides = np.zeros(len(places), dtype=bool)
    for _ in range(LAST_ROUNDS):
        before = sides
        found = []
        for some in _pieces(rows, places):
            near = halves.sides(some)
            found.append((near, _Halves.of(some, near)))
        sides = np.concatenate([near for near, _ in found])
        halves = functools.reduce(operator.add, (sums for _, sums in found))
        if (sides != before).sum() <= SETTLED * len(places):
            break
    if halves.sizes.all():
        return sides, halves
    sides = _both(sides)
    ends = range(PIECE, len(places), PIECE)
    parts = zip(_pieces(rows, places), np.split(sides, ends), strict=True)
    return sides, functools.reduce(operator.add, itertools.starmap(_Halves.of, parts))


def _both(sides: Sides) -> Sides:
    """Return the sides, or two halves in the given order where one side is empty."""
    if sides.any() and not sides.all():
        return sides
    return np.arange(len(sides)) < len(sides) // 2


def _pieces(rows: Bilinear, places: Places) -> Iterator[Bilinear]:
    """Yield the rows of a group, some at a time."""
    for first in range(0, len(places), PIECE):
        yield rows.take(places[first : first + PIECE])


def _merges(rows: Bilinear, groups: list[_Group]) -> FloatArray:
    """Return the merges within and above groups, which come after those they are parts of."""
    made = len(rows)
    name, height = [0] * len(groups), [0.0] * len(groups)
    merges: list[FloatArray] = []
    for number in reversed(range(len(groups))):
        group = groups[number]
        if group.parts is not None:
            left, right = group.parts
            group.height = max(group.height, height[left], height[right])
            table = np.asarray([[name[left], name[right], group.height]])
        else:
            table = _exact(rows.take(group.places), group.places, made)
        merges.append(table)
        made += len(table)
        name[number] = made - 1 if len(table) else int(group.places[0])
        height[number] = float(table[-1, 2]) if len(table) else 0.0
    left, right, heights = np.concatenate(merges).T
    return in_order(left.astype(np.intp), right.astype(np.intp), heights)


def _exact(rows: Bilinear, places: Places, made: int) -> FloatArray:
    """Return the merges of a small group by average linkage, numbered on from `made`."""
    if len(rows) == 1:
        return np.empty((0, 3))
    merges = linkage(rows.condensed(), method="average")[:, :3]
    names = np.concatenate([places, np.arange(made, made + len(merges))])
    merges[:, :2] = names[merges[:, :2].astype(np.intp)]
    return np.asarray(merges)

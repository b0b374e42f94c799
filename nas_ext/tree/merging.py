"""Average linkage of a matrix of distances, exactly, many merges at a time.

Nearest neighbours are remembered: a merge moves no cluster nearer to a third one, so that they
change only where a neighbour is gone. All pairs that are each other's nearest are merged at once,
in whole rows and columns. Where such pairs are few, the chain of nearest neighbours takes over,
whose cost is O(N^2) whatever the distances.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nas_ext.estimation import FloatArray

__all__ = ["average_merges", "in_order", "room_for"]

ROWS = 32
"""Rows that are worked on at once: few enough to stay in a cache."""

CROWD = 32
"""One in so many clusters must have a partner for merging all pairs at once."""

MANY = 8
"""One in so many clusters must have a partner for making the matrix smaller at once."""

SPARSE = 0.5
"""The share of living clusters below which the matrix is made smaller."""

Matrix: TypeAlias = NDArray[Any]
Places: TypeAlias = NDArray[np.intp]
Squeezed: TypeAlias = tuple[Places, Places]


def room_for(count: int) -> int:
    """Return how many rows and columns the distances of N clusters need to be merged fast."""
    return count + count // MANY + 1


def average_merges(matrix: Matrix, count: int) -> FloatArray:
    """Return `[N - 1, 3]` merges (left, right, height) of N clusters by average linkage.

    `matrix` `[C, C]` holds their distances, symmetric, in its first N rows and columns, and has
    room for at least one more, better for `room_for(N)`. It is worked in, in its own precision,
    and lost. Numbers are those of `in_order`. Equal to scipy's average linkage but for rounding
    and the order of equal distances, in O(N^2).
    """
    clusters = _Clusters(matrix, count)
    if count == 1:
        return np.empty((0, 3))
    _merge_pairs(clusters)
    _merge_chain(clusters)
    left, right, heights = (
        np.concatenate(column) for column in zip(*clusters.merges, strict=True)
    )
    return in_order(left, right, heights)


def in_order(left: Places, right: Places, heights: FloatArray) -> FloatArray:
    """Return `[N - 1, 3]` merges by height, with nodes numbered in this order, as scipy does.

    The merges `[N - 1]` come with children before parents; N + k is the node of the k-th, and no
    merge is lower than those below it. Equal heights keep their order.
    """
    count = len(heights) + 1
    order = np.argsort(heights, kind="stable")
    number = np.arange(2 * count - 1)
    number[count + order] = np.arange(count, 2 * count - 1)
    parts = np.sort([number[left][order], number[right][order]], axis=0)
    return np.column_stack([*parts, heights[order]])


class _Clusters:
    """Hold the distances between clusters in one corner of a matrix, and merge some of them.

    A new cluster gets a new place behind the others; the places of its parts are dead until
    `squeeze` frees them.
    """

    def __init__(self, matrix: Matrix, count: int) -> None:
        room = len(matrix)
        self.matrix = matrix
        self.width = self.alive = count
        self.numbers: Places = np.arange(room)
        self.sizes = np.ones(room)
        self.heights = np.zeros(room)
        self.dead = np.zeros(room, dtype=matrix.dtype)  # infinity, to be added to distances
        self.merges: list[tuple[Places, Places, FloatArray]] = []
        self.next = count
        matrix[np.arange(count), np.arange(count)] = np.inf

    @property
    def room(self) -> int:
        """Return how many new clusters have a place."""
        return len(self.matrix) - self.width

    @property
    def sparse(self) -> bool:
        """Say whether the matrix should be made smaller."""
        return self.alive < SPARSE * self.width or self.room == 0

    def living(self) -> NDArray[np.bool_]:
        """Say which places hold a cluster."""
        return np.asarray(self.dead[: self.width] == 0)

    def nearest(self, places: Places | range) -> tuple[Places, FloatArray]:
        """Return the nearest other cluster of each, and its distance."""
        near, far = np.empty(len(places), dtype=np.intp), np.empty(len(places))
        room = np.empty((ROWS, self.width), dtype=self.matrix.dtype)
        for first in range(0, len(places), ROWS):
            some = places[first : first + ROWS]
            index = slice(some.start, some.stop) if isinstance(some, range) else some
            rows = self.matrix[index, : self.width]
            if self.alive < self.width:
                rows = np.add(rows, self.dead[: self.width], out=room[: len(some)])
            found = rows.argmin(axis=1)
            near[first : first + ROWS] = found
            far[first : first + ROWS] = rows[np.arange(len(some)), found]
        return near, far

    def merge(self, left: Places, right: Places, distances: FloatArray) -> range:
        """Merge pairs of clusters `[k]`, all different; return the places of the new ones."""
        new = slice(self.width, self.width + len(left))
        share = self._share(left, right)
        for first in range(0, len(left), ROWS):
            some = slice(first, first + ROWS)
            rows = self._rows(left[some], right[some], share[some])
            last = self.width + first + len(rows)
            self.matrix[self.width + first : last, : self.width] = rows
            self.matrix[: self.width, self.width + first : last] = rows.T
        own = self.matrix[new, : self.width]
        self.matrix[new, new] = own[:, left] * share + own[:, right] * (1 - share)
        self.dead[left] = self.dead[right] = np.inf
        self.dead[new] = 0
        self.width += len(left)
        self._register(new, left, right, distances)
        return range(new.start, new.stop)

    def merge_many(self, left: Places, right: Places, distances: FloatArray) -> Squeezed:
        """Merge pairs into the places of their left parts, and move the living to the front."""
        share = self._share(left, right)
        for first in range(0, len(left), ROWS):
            some = slice(first, first + ROWS)
            rows = self._rows(left[some], right[some], share[some])
            self.matrix[left[some], : self.width] = rows
        self.dead[right] = np.inf
        self._register(left, left, right, distances)
        return self.squeeze((left, right, share))

    def _share(self, left: Places, right: Places) -> Matrix:
        """Return the weight of each left part."""
        share = self.sizes[left] / (self.sizes[left] + self.sizes[right])
        return share.astype(self.matrix.dtype)

    def _rows(self, left: Places, right: Places, share: Matrix) -> Matrix:
        """Return the distances of new clusters, weighted means of those of their parts."""
        rows = self.matrix[left, : self.width]
        rows *= share[:, None]
        other = self.matrix[right, : self.width]
        other *= 1 - share[:, None]
        rows += other
        return rows

    def _register(
        self, new: Places | slice, left: Places, right: Places, distances: FloatArray
    ) -> None:
        """Note new clusters and who is in them."""
        heights = np.maximum(distances, np.maximum(self.heights[left], self.heights[right]))
        self.merges.append((self.numbers[left], self.numbers[right], heights))
        self.heights[new] = heights
        self.sizes[new] = self.sizes[left] + self.sizes[right]
        self.numbers[new] = self.next + np.arange(len(left))
        self.next += len(left)
        self.alive -= len(left)
        places = np.arange(self.width)[new]
        self.matrix[places, places] = np.inf

    def squeeze(self, pairs: tuple[Places, Places, Matrix] | None = None) -> Squeezed:
        """Move the living to the front; return their old places, and new places by old ones.

        Columns of `pairs` (left, right, share) are merged into the left ones on the way.
        """
        kept = np.flatnonzero(self.living())
        moved = np.full(self.width, -1)
        moved[kept] = np.arange(len(kept))
        self.matrix[kept, kept] = 0.0  # until all have their place: infinity times 0 is no number
        mixed = None if pairs is None else self._mixed(kept, moved, *pairs)
        room = np.empty((2, ROWS, len(kept)), dtype=self.matrix.dtype)
        for first in range(0, len(kept), ROWS):
            rows = self.matrix[kept[first : first + ROWS], : self.width]
            own, other = room[:, : len(rows)]
            np.take(rows, kept, axis=1, out=own, mode="clip")
            if mixed is not None:
                partners, share = mixed
                np.take(rows, partners, axis=1, out=other, mode="clip")
                own *= share
                other *= 1 - share
                own += other
            self.matrix[first : first + len(rows), : len(kept)] = own
        places = np.arange(len(kept))
        self.matrix[places, places] = np.inf
        for column in (self.numbers, self.sizes, self.heights, self.dead):
            column[: len(kept)] = column[kept]
        self.width = len(kept)
        return kept, moved

    def _mixed(
        self, kept: Places, moved: Places, left: Places, right: Places, share: Matrix
    ) -> tuple[Places, Matrix]:
        """Return what each kept column is mixed with, itself if not merged, and its own share."""
        partners, shares = kept.copy(), np.ones(len(kept), dtype=self.matrix.dtype)
        partners[moved[left]], shares[moved[left]] = right, share
        return partners, shares


def _merge_pairs(clusters: _Clusters) -> None:
    """Merge all pairs of mutual nearest neighbours, again and again, while they are many."""
    near, far = clusters.nearest(range(clusters.width))
    while clusters.alive > 1:
        places = np.arange(clusters.width)
        left = np.flatnonzero(clusters.living() & (near[near] == places) & (places < near))
        if len(left) * CROWD < clusters.alive:
            return
        right, distances = near[left], far[left]
        if len(left) * MANY > clusters.alive or clusters.room < len(left):
            gone = np.zeros(clusters.width, dtype=bool)
            gone[left] = gone[right] = True
            kept, moved = clusters.merge_many(left, right, distances)
            stale = np.flatnonzero(gone[kept] | gone[near[kept]])
            near, far = moved[near[kept]], far[kept]
            near[stale], far[stale] = clusters.nearest(stale)
            continue
        new = clusters.merge(left, right, distances)
        living = clusters.living()
        stale = np.flatnonzero(living[: len(near)] & ~living[near])
        near[stale], far[stale] = clusters.nearest(stale)
        theirs = clusters.nearest(new)
        near, far = np.append(near, theirs[0]), np.append(far, theirs[1])
        if clusters.sparse:
            kept, moved = clusters.squeeze()
            near, far = moved[near[kept]], far[kept]


def _merge_chain(clusters: _Clusters) -> None:
    """Follow nearest neighbours until two are each other's, merge them, and go on from there.

    Along the chain distances shrink, whatever the rounding: it ends.
    """
    chain: list[int] = []
    reached: list[float] = []
    while clusters.alive > 1:
        if not chain:
            chain, reached = [int(clusters.living().argmax())], [math.inf]
        row = clusters.matrix[chain[-1], : clusters.width] + clusters.dead[: clusters.width]
        near = int(row.argmin())
        if row[near] < reached[-1]:
            chain.append(near)
            reached.append(float(row[near]))
            continue
        pair = np.asarray([[chain.pop()], [chain.pop()]])
        clusters.merge(pair[0], pair[1], np.asarray([reached.pop()]))
        reached.pop()
        if clusters.sparse:
            _, moved = clusters.squeeze()
            chain = [int(moved[place]) for place in chain]

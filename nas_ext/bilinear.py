"""Rows whose products are a distance: all pairs by matrix products, or means without pairs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_ext.estimation import FloatArray

__all__ = ["Bilinear"]

BLOCK = 512
"""Rows whose distances to all others are worked out at once."""

STRIPE = 16
"""Rows of a block that stay in a cache between two operations."""

CLOSE = 1 / 64
"""Where a distance is so small against its products, single precision has lost five digits."""

MANY = 1 / 50
"""The share of such pairs from which whole rows are worked out again."""

PAIRS = 1_024
"""Pairs that are worked out again at once."""


@dataclass(frozen=True)
class Bilinear:
    """Hold rows whose products are a distance: d_ij = (s_i + s_j - x_i.y_j - y_i.x_j) / divisor.

    `left` and `right` are x and y, `[N, D]` about their means, one and the same array where the
    distance is Euclidean; `own` `[N]` is s. The distance is the square root of that if `rooted`.
    What rounding puts below zero is zero.
    """

    left: FloatArray
    right: FloatArray
    own: FloatArray
    divisor: float
    rooted: bool

    def __len__(self) -> int:
        return len(self.own)

    def take(self, places: NDArray[np.intp]) -> Bilinear:
        """Return some of the rows."""
        left = self.left[places]
        right = left if self.right is self.left else self.right[places]
        return Bilinear(left, right, self.own[places], self.divisor, self.rooted)

    def distance(self, doubled: NDArray[Any]) -> NDArray[Any]:
        """Turn s_i + s_j - x_i.y_j - y_i.x_j into distances, in place."""
        np.maximum(doubled, 0.0, out=doubled)
        if self.divisor != 1:
            doubled /= self.divisor
        return np.sqrt(doubled, out=doubled) if self.rooted else doubled

    def condensed(self) -> FloatArray:
        """Return the distances of all pairs as a condensed `[N (N-1) / 2]` vector."""
        count = len(self)
        condensed = np.empty(count * (count - 1) // 2)
        place = 0
        for first, last, block in self._blocks(np.float64):
            for i in range(last - first):
                row = block[i, i + 1 :]
                condensed[place : place + len(row)] = row
                place += len(row)
        return condensed

    def fill(self, square: NDArray[Any]) -> None:
        """Write all distances into a symmetric `[N, N]` matrix, with zeros on its diagonal.

        In one of single precision they are good to five digits or better: products are taken in
        it too, and those of close pairs, which it would leave too few digits, in double.
        """
        for first, last, block in self._blocks(square.dtype):
            square[first:last, first:] = block
            square[last:, first:last] = square[first:last, last:].T
            own = square[first:last, first:last]
            own[:] = np.minimum(own, own.T)
            np.fill_diagonal(own, 0.0)

    def _blocks(self, dtype: Any) -> Iterator[tuple[int, int, NDArray[Any]]]:
        """Yield first row, last row and the distances `[last - first, N - first]`.

        Each block has the distances to its own and all later rows; it is overwritten by the next.
        """
        count, same = len(self), self.right is self.left
        left = self.left.astype(dtype, copy=False)
        right = left if same else self.right.astype(dtype, copy=False)
        own = self.own.astype(dtype, copy=False)
        reach = self._reach() if dtype == np.float32 else None
        room = np.empty(min(BLOCK, count) * count, dtype=dtype)
        for first in range(0, count, BLOCK):
            last = min(first + BLOCK, count)
            block = room[: (last - first) * (count - first)].reshape(last - first, count - first)
            np.matmul(left[first:last], right[first:].T, out=block)
            if not same:
                block += right[first:last] @ left[first:].T
            for row in range(first, last, STRIPE):
                stripe = block[row - first : row - first + STRIPE]
                if same:
                    stripe *= 2
                sums = own[row : row + len(stripe), None] + own[first:]
                np.subtract(sums, stripe, out=stripe)
                if reach is not None:
                    self._mend(stripe, row, first, reach)
                self.distance(stripe)
            yield first, last, block

    def _reach(self) -> NDArray[np.float32]:
        """Return r `[N]` such that a pair is close if s_i + s_j - x_i.y_j - y_i.x_j < r_i r_j.

        r_i r_j is at least `CLOSE` times the sum of |x_i| |y_j| and |y_i| |x_j|.
        """
        x, y = (np.sqrt(np.vecdot(rows, rows)) for rows in (self.left, self.right))
        scale = float(np.sqrt((y @ y) / (x @ x))) if x.any() and y.any() else 1.0
        reach = np.sqrt(2 * CLOSE / scale) * np.maximum(scale * x, y)
        return np.asarray(reach, dtype=np.float32)

    def _mend(
        self, doubled: NDArray[Any], row: int, first: int, reach: NDArray[np.float32]
    ) -> None:
        """Work out the close pairs of rows from `row` on with all from `first` on once more.

        What is on the diagonal is lost.
        """
        places = np.arange(len(doubled))
        doubled[places, row - first + places] = np.inf
        close = doubled < reach[row : row + len(doubled), None] * reach[first:]
        found = np.flatnonzero(close)  # of one axis: far faster than of two
        if len(found) > MANY * doubled.size:
            rows = slice(row, row + len(doubled))
            again = self.own[rows, None] + self.own[first:]
            again -= self.left[rows] @ self.right[first:].T
            again -= self.right[rows] @ self.left[first:].T
            doubled[:] = again
            return
        for start in range(0, len(found), PAIRS):
            i, j = np.divmod(found[start : start + PAIRS], close.shape[1])
            one, other = self.take(i + row), self.take(j + first)
            products = np.vecdot(one.left, other.right) + np.vecdot(one.right, other.left)
            doubled[i, j] = one.own + other.own - products

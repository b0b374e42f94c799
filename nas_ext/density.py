"""How far each architecture is from all others on average, and the law of sampling from it.

Mean distances need no matrix of pairs: they take two passes over the rows, in the rows' own
precision with sums in float64. Rows are an array, or a function that yields them in pieces and
begins again at each call, so that they need not fit into memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp

from nas_ext.estimation import FloatArray
from nas_ext.similarity import SMALLEST

__all__ = [
    "Pieces",
    "Rows",
    "log_density",
    "mean_cosine",
    "mean_cosine_by_block",
    "mean_cross_entropy",
    "mean_hamming",
    "mean_kl",
    "mean_of_condensed",
    "mean_squared_l2",
]

Pieces: TypeAlias = Callable[[], Iterable[NDArray[Any]]]
"""Yield the rows in pieces, the same ones at every call."""

Rows: TypeAlias = NDArray[Any] | Pieces

CHUNK = 256
"""Rows that are worked on at once: few enough to stay in a cache."""

PAIRED = 2_000
"""The rows whose pairs settle a bandwidth."""


def mean_cosine(rows: Rows) -> FloatArray:
    """Return the mean of 1 - cosine to all other rows, `[N]`, of `[N, D]` rows.

    With unit vectors u and their mean m, d_a = (N |u_a - m|^2 + sum_j |u_j - m|^2) / (2 (N - 1)):
    equation 5.5 in O(N D). This centred form keeps its digits in float32 when all rows are nearly
    alike, where 1 - u.v and even the matrix of pairs have none left. A row of zeros has no
    direction: its cosine with any other is 0. Raises ValueError for fewer than two rows or a row
    that is not finite.
    """
    return mean_cosine_by_block(rows, (slice(None),))[:, 0]


def mean_cosine_by_block(rows: Rows, blocks: Sequence[slice]) -> FloatArray:
    """Return `[N, B]` mean cosine distances of B parts of the rows, each part on its own."""
    return _mean_squares(rows, blocks, unit=True) / 2


def mean_squared_l2(rows: Rows) -> FloatArray:
    """Return the mean squared Euclidean distance to all other rows, `[N]`.

    The mean of the distance itself has no such identity: see `mean_of_condensed`.
    """
    return _mean_squares(rows, (slice(None),), unit=False)[:, 0]


def mean_kl(logits: Rows) -> FloatArray:
    """Return the mean symmetrised Kullback-Leibler divergence to all others, `[N]`, in nats.

    Of `[N, S, C]` logits, mean over the S samples, with the probabilities of `similarity.kl`. The
    divergence is bilinear, (p_i - p_j).(log p_i - log p_j) / 2, so that centring sums it exactly.
    """
    total_p, total_l, count = _totals(logits)
    mean_p, mean_l = total_p / count, total_l / count
    products = [
        np.einsum("id,id->i", p - mean_p, log_p - mean_l) / samples
        for p, log_p, samples in _distributions(logits)
    ]
    own = np.concatenate(products)
    return np.asarray((count * own + own.sum()) / (2 * (count - 1)))


def mean_cross_entropy(logits: Rows) -> FloatArray:
    """Return the mean symmetrised cross-entropy with all others, `[N]`, in nats.

    Of `[N, S, C]` logits, mean over the S samples: -(p_i.log p_j + p_j.log p_i) / 2 over j != i.
    """
    total_p, total_l, count = _totals(logits)
    sums = [
        np.einsum("id,id->i", p, total_l - log_p) + np.einsum("id,id->i", log_p, total_p - p)
        for p, log_p, _ in _distributions(logits)
    ]
    samples = next(iter(_distributions(logits)))[2]
    return -np.concatenate(sums) / (2 * (count - 1) * samples)


def mean_hamming(codes: NDArray[Any]) -> FloatArray:
    """Return the mean number of columns that differ from the other rows, `[N]`, of `[N, L]` codes.

    Exact in O(N L): whoever shares a value in a column is counted, not compared. In a free
    product of options this is the same number for all. Section 5.1, the encoding distance.
    """
    if codes.ndim != 2:
        raise ValueError(f"codes must be [N, L], got shape {codes.shape}")
    count = _at_least_two(len(codes))
    differing = np.zeros(count, dtype=np.int64)
    for column in codes.T:
        _, places, counts = np.unique(column, return_inverse=True, return_counts=True)
        differing += count - counts[places]
    return differing / (count - 1)


def mean_of_condensed(distances: FloatArray) -> FloatArray:
    """Return the mean of each row of a condensed `[N (N-1) / 2]` vector of distances, `[N]`."""
    count = (1 + int(np.sqrt(1 + 8 * len(distances)))) // 2
    if distances.ndim != 1 or count < 2 or count * (count - 1) // 2 != len(distances):
        raise ValueError(f"distances must be condensed, got shape {distances.shape}")
    if not np.isfinite(distances).all():
        raise ValueError("distances must be finite, got NaN or infinity")
    sums, first = np.zeros(count), 0
    for i in range(count - 1):
        row = distances[first : first + count - i - 1]
        sums[i] += row.sum(dtype=np.float64)
        sums[i + 1 :] += row
        first += len(row)
    return sums / (count - 1)


def log_density(rows: NDArray[Any], *, bandwidth: float | None = None) -> FloatArray:
    """Return the logarithm of the Gaussian kernel density at each of `[N, D]` rows, `[N]`.

    log(1/N sum_i exp(-|z_a - z_i|^2 / (2 h^2))), row a included; the kernel's constant is left
    out, so that no density exceeds 1 or falls below 1/N. The bandwidth h is the median pairwise
    distance unless given: of all rows up to 2,000, else of as many spread evenly. Section 5.1.
    Raises ValueError when so many rows are equal that this median is zero.
    """
    count = _at_least_two(len(rows))
    if not np.isfinite(rows).all():
        raise ValueError("rows must be finite, got NaN or infinity")
    values = np.asarray(rows, dtype=np.float64)
    values = values - values.mean(axis=0)
    if bandwidth is None:
        some = values[np.linspace(0, count - 1, min(count, PAIRED)).round().astype(np.int64)]
        pairs = [s[np.arange(len(some)) > i] for i, s in enumerate(_squares_between(some))]
        bandwidth = float(np.median(np.sqrt(np.concatenate(pairs))))
    if not 0 < bandwidth < np.inf:
        raise ValueError(f"bandwidth must be positive, got {bandwidth}")
    scale = -0.5 / bandwidth**2
    sums = [logsumexp(scale * squares) for squares in _squares_between(values)]
    return np.asarray(np.asarray(sums) - np.log(count))


# The passes over the rows.


def _mean_squares(rows: Rows, blocks: Sequence[slice], *, unit: bool) -> FloatArray:
    """Return `[N, B]` mean |x_a - x_j|^2 over j != a, with 2 (1 - cosine) for `unit` rows."""
    lengths: list[FloatArray] = []
    sums: list[Any] = [0.0] * len(blocks)
    for piece in _pieces(rows):
        inverse = _inverse_lengths(piece, blocks) if unit else np.ones((len(piece), len(blocks)))
        lengths.append(inverse)
        for b, block in enumerate(blocks):
            part = piece[:, block]
            sums[b] = sums[b] + (inverse[:, b].astype(part.dtype) @ part).astype(np.float64)
    count = _at_least_two(sum(map(len, lengths)))
    if not all(np.isfinite(total).all() for total in sums):
        raise ValueError("rows must be finite, got NaN or infinity")
    own = _centred_squares(rows, blocks, lengths, [total / count for total in sums])
    means = (count * own + own.sum(axis=0)) / (count - 1)
    # 2 (1 - u.v) is |u - v|^2 for unit vectors, and 1 more for each that is zero.
    zero = np.concatenate(lengths) == 0
    return np.asarray(means + zero + (zero.sum(axis=0) - zero) / (count - 1), dtype=np.float64)


def _centred_squares(
    rows: Rows, blocks: Sequence[slice], lengths: Sequence[FloatArray], means: Sequence[FloatArray]
) -> FloatArray:
    """Return `[N, B]` |x_a - m|^2 of the scaled rows."""
    own = []
    room = np.empty(0)
    for piece, inverse in zip(_pieces(rows), lengths, strict=True):
        squares = np.empty(inverse.shape)
        if room.dtype != piece.dtype or room.size < piece.size:
            room = np.empty(piece.size, dtype=piece.dtype)
        for b, block in enumerate(blocks):
            part = piece[:, block]
            centred = room[: part.size].reshape(part.shape)
            np.multiply(part, inverse[:, b, None].astype(piece.dtype), out=centred)
            centred -= means[b].astype(piece.dtype)
            squares[:, b] = np.vecdot(centred, centred)
        own.append(squares)
    return np.concatenate(own)


def _inverse_lengths(piece: NDArray[Any], blocks: Sequence[slice]) -> FloatArray:
    """Return `[n, B]` 1 / |x|, or 0 for a row of zeros."""
    lengths = np.empty((len(piece), len(blocks)))
    for b, block in enumerate(blocks):
        part = piece[:, block]
        lengths[:, b] = np.sqrt(np.vecdot(part, part))
    if not np.isfinite(lengths).all():
        raise ValueError("rows must be finite and of finite length, got NaN or infinity")
    return np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0)


def _pieces(rows: Rows, ndim: int = 2) -> Iterator[NDArray[Any]]:
    """Yield the rows `CHUNK` at a time, in float32 or float64."""
    for piece in [rows] if isinstance(rows, np.ndarray) else rows():
        if piece.ndim != ndim:
            raise ValueError(f"rows must have {ndim} dimensions, got shape {piece.shape}")
        wide = np.float32 if piece.dtype in (np.float16, np.float32) else np.float64
        for first in range(0, len(piece), CHUNK):
            yield piece[first : first + CHUNK].astype(wide, copy=False)


def _distributions(logits: Rows) -> Iterator[tuple[FloatArray, FloatArray, int]]:
    """Yield clamped class probabilities and their logarithms, `[n, S C]` each, and S."""
    for piece in _pieces(logits, ndim=3):
        if not np.isfinite(piece).all():
            raise ValueError("logits must be finite, got NaN or infinity")
        p = np.maximum(np.exp(log_softmax(piece.astype(np.float64), axis=-1)), SMALLEST)
        p /= p.sum(axis=-1, keepdims=True)
        yield p.reshape(len(p), -1), np.log(p).reshape(len(p), -1), p.shape[1]


def _totals(logits: Rows) -> tuple[FloatArray, FloatArray, int]:
    """Return the sums over architectures of probabilities and of logarithms, and their number."""
    total_p: Any = 0.0
    total_l: Any = 0.0
    count = 0
    for p, log_p, _ in _distributions(logits):
        total_p, total_l = total_p + p.sum(axis=0), total_l + log_p.sum(axis=0)
        count += len(p)
    return total_p, total_l, _at_least_two(count)


def _squares_between(rows: FloatArray) -> Iterator[FloatArray]:
    """Yield for each centred row its squared distances to all, `[N]`."""
    lengths = np.vecdot(rows, rows)
    for first in range(0, len(rows), CHUNK):
        block = slice(first, first + CHUNK)
        squares = lengths[block, None] + lengths - 2 * (rows[block] @ rows.T)
        yield from np.maximum(squares, 0.0)


def _at_least_two(count: int) -> int:
    if count < 2:
        raise ValueError(f"rows must be at least 2 to have others, got {count}")
    return count

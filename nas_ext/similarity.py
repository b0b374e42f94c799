"""Distances between architectures from what their networks put out, as condensed vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
from scipy.special import log_softmax, softmax

from nas_ext.estimation import FloatArray

__all__ = ["DISTANCES", "Distance", "cosine", "cross_entropy", "encoding", "kl", "l2"]

Distance: TypeAlias = Callable[[FloatArray], FloatArray]
"""From `[N, S, C]` logits to the condensed `[N (N-1) / 2]` vector that scipy's linkage takes."""

SMALLEST = 1e-8
"""Probabilities are clamped here before a logarithm, then normalised again."""

BLOCK = 512


def kl(logits: FloatArray) -> FloatArray:
    """Return the symmetrised Kullback-Leibler divergence, in nats, mean over the S samples.

    (KL(p_i, p_j) + KL(p_j, p_i)) / 2 of the class probabilities: the divergence alone is not
    symmetric, and a condensed vector would silently drop half of it. Chapter 3.
    """
    p, log_p = _distributions(logits)
    return _symmetric(p - p.mean(axis=0), log_p - log_p.mean(axis=0), diagonal=True) / _samples(
        logits
    )


def cross_entropy(logits: FloatArray) -> FloatArray:
    """Return the symmetrised cross-entropy, in nats, mean over the S samples.

    Not a distance: that of an architecture with itself is its entropy. The diagonal does not
    occur in a condensed vector, which is the same as forcing it to zero. Chapter 3.
    """
    p, log_p = _distributions(logits)
    return _symmetric(p, log_p, diagonal=False) / _samples(logits)


def l2(logits: FloatArray) -> FloatArray:
    """Return the Euclidean distance of the class probabilities, root mean square over samples."""
    _samples(logits)
    squares = _squared(_flat(softmax(logits, axis=-1)))
    return np.asarray(np.sqrt(squares / logits.shape[1]))


def cosine(logits: FloatArray) -> FloatArray:
    """Return 1 - cosine of the flattened logits. Chapter 5.

    Computed as half the squared distance of the centred unit vectors, which keeps its digits
    when the architectures are nearly alike, where 1 - u.v loses them.
    """
    _samples(logits)
    rows = _flat(logits)
    units = rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-12)
    return _squared(units) / 2


def encoding(rows: FloatArray, *, weights: FloatArray | None = None) -> FloatArray:
    """Return the weighted Euclidean distance of `[N, D]` encodings, without any network.

    d^2 = sum_l w_l (e_il - e_jl)^2, with w_l = 2^-l for the l-th column unless given: early
    layers count more. Table 3.2.
    """
    if rows.ndim != 2:
        raise ValueError(f"rows must be [N, D], got shape {rows.shape}")
    scale = 0.5 ** np.arange(rows.shape[1]) if weights is None else np.asarray(weights)
    if scale.shape != (rows.shape[1],) or not (scale >= 0).all():
        raise ValueError(f"weights must be {rows.shape[1]} non-negative numbers, got {weights}")
    return np.asarray(np.sqrt(_squared(rows * np.sqrt(scale))))


DISTANCES: Mapping[str, Distance] = MappingProxyType(
    {"kl": kl, "l2": l2, "cross-entropy": cross_entropy, "cosine": cosine}
)
"""The distances of network outputs, by the name that strategies take."""


def _samples(logits: FloatArray) -> int:
    """Return S; raise ValueError unless the logits are finite and `[N, S, C]`."""
    if logits.ndim != 3:
        raise ValueError(f"logits must be [N, S, C], got shape {logits.shape}")
    if not np.isfinite(logits).all():
        raise ValueError("logits must be finite, got NaN or infinity")
    return int(logits.shape[1])


def _flat(values: FloatArray) -> FloatArray:
    """Return one row per architecture, in float64."""
    return np.asarray(values, dtype=np.float64).reshape(len(values), -1)


def _distributions(logits: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the clamped class probabilities and their logarithms, `[N, S * C]` each."""
    _samples(logits)
    p = np.maximum(np.exp(log_softmax(np.asarray(logits, dtype=np.float64), axis=-1)), SMALLEST)
    p /= p.sum(axis=-1, keepdims=True)
    return _flat(p), _flat(np.log(p))


def _blocks(count: int) -> Iterator[tuple[slice, list[tuple[int, slice]]]]:
    """Yield row blocks, with each row's place in the condensed vector."""
    for first in range(0, count, BLOCK):
        last = min(first + BLOCK, count)
        rows = []
        for i in range(first, last):
            offset = count * i - i * (i + 1) // 2
            rows.append((i, slice(offset, offset + count - i - 1)))
        yield slice(first, last), rows


def _symmetric(p: FloatArray, log_p: FloatArray, *, diagonal: bool) -> FloatArray:
    """Return (-p_i.l_j - p_j.l_i) / 2, plus the mean of both self terms if `diagonal`."""
    count = len(p)
    self_terms = np.einsum("id,id->i", p, log_p) if diagonal else np.zeros(count)
    condensed = np.empty(count * (count - 1) // 2)
    for block, rows in _blocks(count):
        cross = p[block] @ log_p.T + log_p[block] @ p.T
        for i, place in rows:
            below = self_terms[i] + self_terms[i + 1 :] - cross[i - block.start, i + 1 :]
            condensed[place] = below / 2
    return np.maximum(condensed, 0.0)


def _squared(rows: FloatArray) -> FloatArray:
    """Return squared Euclidean distances by matrix products of the centred rows."""
    centred = rows - rows.mean(axis=0)
    return 2 * _symmetric(centred, centred, diagonal=True)

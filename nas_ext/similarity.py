"""Distances between architectures from what their networks put out, pair by pair or as rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
from scipy.special import log_softmax, softmax

from nas_ext.bilinear import Bilinear
from nas_ext.estimation import FloatArray

__all__ = [
    "BILINEAR",
    "DISTANCES",
    "Distance",
    "cosine",
    "cross_entropy",
    "encoding",
    "encoding_rows",
    "kl",
    "l2",
]

Distance: TypeAlias = Callable[[FloatArray], FloatArray]
"""From `[N, S, C]` logits to the condensed `[N (N-1) / 2]` vector that scipy's linkage takes."""

SMALLEST = 1e-8
"""Probabilities are clamped here before a logarithm, then normalised again."""

BLOCK = 512
"""Architectures whose outputs are worked on at once."""


def kl(logits: FloatArray) -> FloatArray:
    """Return the symmetrised Kullback-Leibler divergence, in nats, mean over the S samples.

    (KL(p_i, p_j) + KL(p_j, p_i)) / 2 of the class probabilities: the divergence alone is not
    symmetric, and a condensed vector would silently drop half of it. Chapter 3.
    """
    return _kl(logits).condensed()


def cross_entropy(logits: FloatArray) -> FloatArray:
    """Return the symmetrised cross-entropy, in nats, mean over the S samples.

    Not a distance: that of an architecture with itself is its entropy. The diagonal does not
    occur in a condensed vector, which is the same as forcing it to zero. Chapter 3.
    """
    return _cross_entropy(logits).condensed()


def l2(logits: FloatArray) -> FloatArray:
    """Return the Euclidean distance of the class probabilities, root mean square over samples."""
    return _l2(logits).condensed()


def cosine(logits: FloatArray) -> FloatArray:
    """Return 1 - cosine of the flattened logits. Chapter 5.

    Computed as half the squared distance of the centred unit vectors, which keeps its digits
    when the architectures are nearly alike, where 1 - u.v loses them.
    """
    return _cosine(logits).condensed()


def encoding(rows: FloatArray, *, weights: FloatArray | None = None) -> FloatArray:
    """Return the weighted Euclidean distance of `[N, D]` encodings, without any network.

    d^2 = sum_l w_l (e_il - e_jl)^2, with w_l = 2^-l for the l-th column unless given: early
    layers count more. Table 3.2.
    """
    return encoding_rows(rows, weights=weights).condensed()


def encoding_rows(rows: FloatArray, *, weights: FloatArray | None = None) -> Bilinear:
    """Return the rows whose distance is that of `encoding`."""
    if rows.ndim != 2:
        raise ValueError(f"rows must be [N, D], got shape {rows.shape}")
    scale = 0.5 ** np.arange(rows.shape[1]) if weights is None else np.asarray(weights)
    if scale.shape != (rows.shape[1],) or not (scale >= 0).all():
        raise ValueError(f"weights must be {rows.shape[1]} non-negative numbers, got {weights}")
    return _euclidean(rows * np.sqrt(scale), divisor=1, rooted=True)


def _kl(logits: FloatArray) -> Bilinear:
    p, log_p = _distributions(logits)
    p -= p.mean(axis=0)
    log_p -= log_p.mean(axis=0)
    return Bilinear(p, log_p, np.einsum("id,id->i", p, log_p), 2 * _samples(logits), False)


def _cross_entropy(logits: FloatArray) -> Bilinear:
    """The divergence and both entropies: (H_i + H_j) / 2 + KL."""
    p, log_p = _distributions(logits)
    entropies = -np.einsum("id,id->i", p, log_p)
    p -= p.mean(axis=0)
    log_p -= log_p.mean(axis=0)
    own = entropies + np.einsum("id,id->i", p, log_p)
    return Bilinear(p, log_p, own, 2 * _samples(logits), False)


def _l2(logits: FloatArray) -> Bilinear:
    samples = _samples(logits)
    return _euclidean(
        _rows(logits, lambda some: softmax(some, axis=-1)), divisor=samples, rooted=True
    )


def _cosine(logits: FloatArray) -> Bilinear:
    _samples(logits)
    return _euclidean(_rows(logits, _units), divisor=2, rooted=False)


DISTANCES: Mapping[str, Distance] = MappingProxyType(
    {"kl": kl, "l2": l2, "cross-entropy": cross_entropy, "cosine": cosine}
)
"""The distances of network outputs, by the name that strategies take."""

BILINEAR: Mapping[str, Callable[[FloatArray], Bilinear]] = MappingProxyType(
    {"kl": _kl, "l2": _l2, "cross-entropy": _cross_entropy, "cosine": _cosine}
)
"""The same distances as rows of `[N, S, C]` logits, in float64, without the pairs."""


def _samples(logits: FloatArray) -> int:
    """Return S; raise ValueError unless the logits are finite and `[N, S, C]`."""
    if logits.ndim != 3:
        raise ValueError(f"logits must be [N, S, C], got shape {logits.shape}")
    if not all(np.isfinite(logits[i : i + BLOCK]).all() for i in range(0, len(logits), BLOCK)):
        raise ValueError("logits must be finite, got NaN or infinity")
    return int(logits.shape[1])


def _rows(logits: FloatArray, change: Callable[[FloatArray], FloatArray]) -> FloatArray:
    """Return one row per architecture of changed logits, in float64, a block at a time."""
    rows = np.empty((len(logits), logits[0].size))
    for first in range(0, len(logits), BLOCK):
        some = np.asarray(logits[first : first + BLOCK], dtype=np.float64)
        rows[first : first + BLOCK] = change(some).reshape(len(some), -1)
    return rows


def _distributions(logits: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the clamped class probabilities and their logarithms, `[N, S * C]` each."""
    _samples(logits)
    p = _rows(logits, _clamped)
    return p, _rows(p, np.log)


def _clamped(logits: FloatArray) -> FloatArray:
    p = np.maximum(np.exp(log_softmax(logits, axis=-1)), SMALLEST)
    p /= p.sum(axis=-1, keepdims=True)
    return np.asarray(p)


def _units(logits: FloatArray) -> FloatArray:
    rows = logits.reshape(len(logits), -1)
    return np.asarray(rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-12))


def _euclidean(rows: FloatArray, *, divisor: float, rooted: bool) -> Bilinear:
    """Return rows of a squared Euclidean distance, divided; they are centred in place."""
    mean, own = rows.mean(axis=0), np.empty(len(rows))
    for first in range(0, len(rows), BLOCK):
        some = rows[first : first + BLOCK]
        some -= mean
        np.vecdot(some, some, out=own[first : first + BLOCK])
    return Bilinear(rows, rows, own, divisor, rooted)

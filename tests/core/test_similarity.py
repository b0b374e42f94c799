"""Distances against their definitions, computed pair by pair."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform
from scipy.special import rel_entr, softmax

from nas_ext.estimation import FloatArray
from nas_ext.similarity import BLOCK, DISTANCES, cosine, encoding, kl

LOGITS = np.random.default_rng(0).normal(size=(7, 4, 3))


def pairs(rows: FloatArray, distance: Callable[[FloatArray, FloatArray], float]) -> FloatArray:
    n = len(rows)
    return np.asarray([distance(rows[i], rows[j]) for i in range(n) for j in range(i + 1, n)])


def slow_kl(p: FloatArray, q: FloatArray) -> float:
    return float((rel_entr(p, q) + rel_entr(q, p)).sum(axis=-1).mean() / 2)


def slow_cross_entropy(p: FloatArray, q: FloatArray) -> float:
    return float(-(p * np.log(q) + q * np.log(p)).sum(axis=-1).mean() / 2)


def slow_l2(p: FloatArray, q: FloatArray) -> float:
    return float(np.sqrt(((p - q) ** 2).sum(axis=-1).mean()))


def slow_cosine(x: FloatArray, y: FloatArray) -> float:
    return float(1 - (x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum()))


@pytest.mark.parametrize(
    ("name", "definition", "on_logits"),
    [
        ("kl", slow_kl, False),
        ("cross-entropy", slow_cross_entropy, False),
        ("l2", slow_l2, False),
        ("cosine", slow_cosine, True),
    ],
)
def test_distances_equal_their_definitions(
    name: str, definition: Callable[[FloatArray, FloatArray], float], on_logits: bool
) -> None:
    rows = LOGITS if on_logits else softmax(LOGITS, axis=-1)
    np.testing.assert_allclose(DISTANCES[name](LOGITS), pairs(rows, definition), rtol=1e-6)


@pytest.mark.parametrize("name", list(DISTANCES))
def test_distances_follow_scipy_order_across_blocks(name: str) -> None:
    logits = np.random.default_rng(1).normal(size=(BLOCK + 3, 2, 3))
    square = squareform(DISTANCES[name](logits))
    some = [0, 5, BLOCK - 1, BLOCK, BLOCK + 2]
    np.testing.assert_allclose(
        squareform(square[np.ix_(some, some)]), DISTANCES[name](logits[some]), atol=1e-12
    )


@pytest.mark.parametrize("name", ["kl", "l2", "cosine"])
def test_equal_outputs_have_distance_zero(name: str) -> None:
    logits = np.repeat(LOGITS[:1], 3, axis=0)
    assert DISTANCES[name](logits).max() < 1e-7


def test_certain_predictions_keep_the_divergence_finite() -> None:
    logits = np.asarray([[[1000.0, 0.0]], [[0.0, 1000.0]]])
    # Both probabilities clamp to 1e-8: (1 - 2e-8) ln(1e8) up to rounding.
    assert kl(logits)[0] == pytest.approx(np.log(1e8), rel=1e-6)


def test_nearly_equal_outputs_keep_their_order() -> None:
    # Specs: 1 - u.v in single precision has a relative error of 1 at distances of 3e-7.
    rng = np.random.default_rng(2)
    base = rng.normal(size=(1, 1, 640))
    logits = base + 1e-6 * rng.normal(size=(20, 1, 640))
    wide: Any = logits.astype(np.longdouble)
    exact = pairs(wide, slow_cosine)
    assert exact.max() < 1e-11
    np.testing.assert_allclose(cosine(logits), exact, rtol=1e-3)


def test_outputs_without_length_are_taken() -> None:
    logits = np.concatenate([np.zeros((1, 4, 3)), LOGITS])
    assert np.isfinite(cosine(logits)).all()


def test_encodings_weigh_early_layers_more() -> None:
    rows = np.asarray([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    # d^2 = sum 2^-l (difference)^2 with l from 0.
    np.testing.assert_allclose(encoding(rows), [1.0, np.sqrt(0.5), np.sqrt(1.5)])
    np.testing.assert_allclose(encoding(rows, weights=np.ones(2)), pdist(rows))


@pytest.mark.parametrize(
    ("logits", "message"),
    [
        (np.zeros((3, 4)), r"logits must be \[N, S, C\], got shape \(3, 4\)"),
        (np.full((3, 4, 2), np.nan), "logits must be finite"),
    ],
)
def test_wrong_outputs_are_named(logits: FloatArray, message: str) -> None:
    for distance in DISTANCES.values():
        with pytest.raises(ValueError, match=message):
            distance(logits)


def test_wrong_encodings_are_named() -> None:
    with pytest.raises(ValueError, match=r"rows must be \[N, D\]"):
        encoding(np.zeros(3))
    with pytest.raises(ValueError, match="weights must be 2 non-negative numbers"):
        encoding(np.zeros((3, 2)), weights=np.asarray([1.0, -1.0]))

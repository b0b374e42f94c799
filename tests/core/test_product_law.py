"""The conditioned product law against laws listed in full."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import chisquare

from nas_ext.architecture import Choice, SearchSpace
from nas_ext.pooling import POOL, PoolingSpace
from nas_ext.product_law import ProductLaw
from nas_ext.testing import small_space

POOLING = PoolingSpace(layers=10, poolings=2)


def random_weights(space: SearchSpace, seed: int, scale: float = 1.0) -> list[list[float]]:
    rng = np.random.default_rng(seed)
    return [(scale * rng.normal(size=len(c.options))).tolist() for c in space.choices]


def listed(space: SearchSpace, weights: list[list[float]]) -> np.ndarray:
    """Return the law in the space's order: a softmax over the list of all architectures."""
    sums = [sum(weights[at][option] for at, option in enumerate(a)) for a in space]
    return np.asarray(softmax(sums))


@pytest.mark.parametrize("space", [POOLING, small_space()])
def test_probabilities_are_those_of_the_listed_space(space: SearchSpace) -> None:
    weights = random_weights(space, 0)
    law = ProductLaw(space, weights)
    p = np.exp([law.log_probability(a) for a in space])
    np.testing.assert_allclose(p, listed(space, weights), rtol=1e-12)


def test_draws_follow_the_law() -> None:
    weights = random_weights(POOLING, 1)
    law, rng = ProductLaw(POOLING, weights), np.random.default_rng(2)
    counts = Counter(law.draw(rng) for _ in range(10_000))
    expected = 10_000 * listed(POOLING, weights)
    assert chisquare([counts[a] for a in POOLING], expected).pvalue > 1e-4


def test_draws_are_those_of_rejection() -> None:
    # Section 3.1: the law of independent coins of which those with two poolings are kept, and of
    # fair coins 36 in 512 are.
    weights, rng = random_weights(POOLING, 3), np.random.default_rng(4)
    coins = np.asarray([softmax(row)[1] for row in weights])
    tosses = (rng.random((200_000, 9)) < coins).astype(int)
    two = tosses[(tosses == POOL).sum(axis=1) == 2]  # the space's rule, written out
    kept = Counter(map(tuple, two.tolist()))
    assert set(kept) <= set(POOLING)
    law = ProductLaw(POOLING, weights)
    p = [math.exp(law.log_probability(a)) for a in POOLING]
    total = sum(kept.values())
    assert chisquare([kept[a] for a in POOLING], [total * share for share in p]).pvalue > 1e-4
    fair = ProductLaw(POOLING, [[math.log(0.5)] * 2] * 9)
    assert fair.log_probability(POOLING.at(0)) == pytest.approx(-math.log(36))


def test_the_mode_is_the_most_probable_architecture() -> None:
    for seed in range(20):
        weights = random_weights(POOLING, seed)
        best = int(np.argmax(listed(POOLING, weights)))
        assert ProductLaw(POOLING, weights).mode() == POOLING.at(best)


def test_ties_of_the_mode_go_to_the_lowest_options() -> None:
    assert ProductLaw(POOLING, [[0.0, 0.0]] * 9).mode() == POOLING.at(0)


def test_a_minute_temperature_leaves_only_the_mode_and_no_nan() -> None:
    # Differences of 1 at T = 1e-4: products of 1e-4343, far under the smallest float.
    weights = [[value / 1e-4 for value in row] for row in random_weights(POOLING, 5)]
    law, rng = ProductLaw(POOLING, weights), np.random.default_rng(0)
    assert {law.draw(rng) for _ in range(50)} == {law.mode()}


def test_a_space_of_13_to_the_21_needs_no_list() -> None:
    space = SearchSpace("large", [Choice(f"l{i}", tuple(range(13))) for i in range(21)])
    law, rng = ProductLaw(space, random_weights(space, 6)), np.random.default_rng(0)
    assert all(law.draw(rng) in space for _ in range(20))
    # A free product: each choice by itself.
    architecture = space.draw(rng)
    chosen = zip(random_weights(space, 6), architecture, strict=True)
    product = math.prod(float(softmax(row)[option]) for row, option in chosen)
    assert law.log_probability(architecture) == pytest.approx(math.log(product))


def test_an_option_of_no_weight_is_left_out() -> None:
    weights = random_weights(POOLING, 7)
    weights[3][0] = -math.inf
    law, rng = ProductLaw(POOLING, weights), np.random.default_rng(0)
    assert {law.draw(rng)[3] for _ in range(200)} == {1}
    assert law.mode()[3] == 1


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([[0.0, 0.0]] * 8, "log_weights must be .* numbers for space 'pooling'"),
        ([[0.0]] * 9, "log_weights must be"),
        ([[0.0, math.nan]] * 9, "log_weights must be below infinity, got nan"),
        ([[math.inf, 0.0]] * 9, "log_weights must be below infinity, got inf"),
        ([[-math.inf, 0.0]] * 9, "log_weights must leave an architecture, got -inf for all"),
    ],
)
def test_weights_that_are_no_law_are_refused(weights: list[list[float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ProductLaw(POOLING, weights)

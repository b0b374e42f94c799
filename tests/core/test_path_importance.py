"""Path importance against running values and laws calculated by hand."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from scipy.stats import chisquare

from nas_ext.pooling import PoolingSpace
from nas_ext.samplers import Sampler
from nas_ext.samplers.path_importance import PathImportanceSampler
from nas_ext.testing import SamplerContract, small_space

SPACE = small_space()


def make(space: Any = SPACE, seed: int = 0) -> PathImportanceSampler:
    return PathImportanceSampler(space, np.random.default_rng(seed))


class TestPathImportance(SamplerContract):
    def make(self, rng: np.random.Generator) -> Sampler:
        sampler = PathImportanceSampler(self.space, rng)
        sampler.learn((0, 1, 2), [3.0, 1.0, 2.0])
        sampler.learn((1, 0, 2), [1.0, 5.0, 2.0])
        sampler.end_epoch(0.75)
        sampler.learn((1, 1, 1), [1.0, 1.0, 1.0])
        return sampler


def test_the_first_norm_counts_half_and_later_ones_are_averaged_in() -> None:
    # Section 4.3: running value <- (old + g) / 2 from 0; 4 -> 2, then 6 -> 4
    sampler = make()
    sampler.learn((0, 0, 0), [4.0, 1.0, 0.0])
    sampler.learn((0, 1, 0), [6.0, 3.0, 0.0])
    assert sampler.norms == [[4.0, 0.0, 0.0], [0.5, 1.5], [0.0, 0.0, 0.0]]
    # a step without a gradient changes nothing, it does not halve
    sampler.learn((0, 0, 0), [0.0, 0.0, 0.0])
    assert sampler.norms == [[4.0, 0.0, 0.0], [0.5, 1.5], [0.0, 0.0, 0.0]]


def test_the_law_mixes_shares_of_the_norms_with_the_uniform_law() -> None:
    # by hand, tau = 1/2: (4, 0, 0) -> 1/2 + 1/6, 1/6, 1/6; (.5, 1.5) -> 1/8 + 1/4, 3/8 + 1/4;
    # pitfall 18: an option without parameters has the uniform share alone, a choice of such
    # options (its norms sum to 0) is uniform
    sampler = make()
    sampler.learn((0, 0, 0), [8.0, 1.0, 0.0])
    sampler.learn((1, 1, 0), [0.0, 3.0, 0.0])
    sampler.end_epoch(0.5)
    expected = ([2 / 3, 1 / 6, 1 / 6], [3 / 8, 5 / 8], [1 / 3, 1 / 3, 1 / 3])
    for found, wanted in zip(sampler.probabilities, expected, strict=True):
        assert found == pytest.approx(wanted)
    assert sampler.diagnostics() == pytest.approx({"tau": 0.5, "largest_ratio": 2.0})
    # norms start again in each epoch
    assert sampler.norms == [[0.0] * 3, [0.0] * 2, [0.0] * 3]


def test_a_share_of_zero_is_uniform_whatever_the_norms() -> None:
    # pitfall 18: tau starts at 0
    sampler = make()
    sampler.learn((0, 0, 0), [8.0, 1.0, 5.0])
    sampler.end_epoch(0.0)
    for row in sampler.probabilities:
        assert row == pytest.approx([1 / len(row)] * len(row))


@pytest.mark.parametrize("epoch_ended", [False, True])
def test_an_epoch_without_gradients_is_followed_by_a_uniform_one(epoch_ended: bool) -> None:
    space = PoolingSpace(layers=5, poolings=2)
    sampler = make(space)
    if epoch_ended:
        sampler.end_epoch(0.9)
    counts = Counter(sampler.ask()[0] for _ in range(3000))
    # uniform over the 6 architectures, not over the products of fair coins that have 2 poolings
    assert chisquare([counts[a] for a in space]).pvalue > 1e-4


def test_draws_follow_the_product_conditioned_on_existence() -> None:
    space = PoolingSpace(layers=4, poolings=1)
    sampler = make(space)
    sampler.learn((0, 1, 1), [6.0, 2.0, 2.0])
    sampler.learn((1, 0, 1), [2.0, 2.0, 2.0])
    sampler.end_epoch(0.8)
    rows = sampler.probabilities
    # the whole space listed: products of its rows, divided by their sum
    weights = np.asarray([math.prod(r[o] for r, o in zip(rows, a, strict=True)) for a in space])
    counts = Counter(sampler.ask()[0] for _ in range(3000))
    expected = 3000 * weights / weights.sum()
    assert chisquare([counts[a] for a in space], expected).pvalue > 1e-4
    assert weights.max() > 1.5 * weights.min()


def test_the_state_keeps_an_epoch_under_way() -> None:
    first, second = make(), make(seed=5)
    first.learn((0, 0, 0), [8.0, 1.0, 5.0])
    first.end_epoch(0.5)
    first.learn((1, 1, 1), [1.0, 2.0, 3.0])
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for sampler in (first, second):
        sampler.end_epoch(0.7)
    assert second.probabilities == first.probabilities
    assert [second.ask() for _ in range(20)] == [first.ask() for _ in range(20)]


def test_what_is_wrong_is_refused_and_changes_nothing() -> None:
    sampler = make()
    before = sampler.state_dict()
    for norms in ([1.0, 1.0, math.nan], [1.0, 1.0, math.inf], [1.0, 1.0, -1.0]):
        with pytest.raises(ValueError, match="norms must be finite and not negative, got"):
            sampler.learn((0, 0, 0), norms)
    with pytest.raises(ValueError, match="norms must be 3 numbers, got 2"):
        sampler.learn((0, 0, 0), [1.0, 1.0])
    with pytest.raises(ValueError, match="architecture must exist"):
        sampler.learn((0, 2, 0), [1.0, 1.0, 1.0])
    for tau in (1.0, -0.1, math.nan):
        with pytest.raises(ValueError, match=r"tau must lie in \[0, 1\), got"):
            sampler.end_epoch(tau)
    assert sampler.state_dict() == before

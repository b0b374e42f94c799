"""Data importance against scores and laws calculated by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy.stats import chisquare

from nas_ext.samplers.data_importance import DataImportance, error_norms


def test_scores_are_distances_of_the_softmax_from_the_truth() -> None:
    # by hand: softmax (ln 3, 0) = (3/4, 1/4), so sqrt(2)/4 when right and 3 sqrt(2)/4 when
    # wrong; of equal logits of 4 classes sqrt((3/4)^2 + 3 (1/4)^2) = sqrt(3)/2
    logits = np.asarray([[math.log(3), 0.0], [math.log(3), 0.0], [1000.0, -1000.0]])
    found = error_norms(logits, np.asarray([0, 1, 1]))
    assert found == pytest.approx([math.sqrt(2) / 4, 3 * math.sqrt(2) / 4, math.sqrt(2)])
    assert error_norms(np.zeros((1, 4)), np.asarray([2])) == pytest.approx([math.sqrt(3) / 2])


def test_what_is_no_classification_is_refused() -> None:
    zeros = np.zeros((2, 3))
    for logits, labels in (
        (zeros, np.zeros(3, dtype=int)),
        (zeros, np.zeros(2)),
        (zeros, np.zeros((2, 3), dtype=int)),
        (np.zeros((2, 3, 1)), np.zeros(2, dtype=int)),
    ):
        with pytest.raises(ValueError, match=r"logits must be \[B, C\] for integer labels \[B\]"):
            error_norms(logits, labels)
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 3\), got 0 to 3"):
        error_norms(zeros, np.asarray([0, 3]))
    with pytest.raises(ValueError, match="logits must be finite"):
        error_norms(np.full((2, 3), math.nan), np.asarray([0, 1]))


def test_a_sample_seen_again_has_the_pairwise_mean() -> None:
    # section 4.3: 1, then (1 + 3) / 2 = 2, then (2 + 0) / 2 = 1; unseen is 0
    data = DataImportance(4)
    data.learn([1, 3, 1], np.asarray([1.0, 5.0, 3.0]))
    assert data.scores.tolist() == [0.0, 2.0, 0.0, 5.0]
    data.learn([1], np.asarray([0.0]))
    assert data.scores.tolist() == [0.0, 1.0, 0.0, 5.0]
    # a first score of 0 is a score: (0 + 4) / 2
    data.learn([0, 0], np.asarray([0.0, 4.0]))
    assert data.scores[0] == 2.0


def test_the_law_mixes_shares_of_the_scores_with_the_uniform_law() -> None:
    # by hand: tau = .6, scores 3, 1, 0, 0: .6 * 3/4 + .1, .6 / 4 + .1, .1, .1
    data = DataImportance(4)
    data.learn([0, 1], np.asarray([3.0, 1.0]))
    data.end_epoch(0.6)
    assert data.probabilities == pytest.approx([0.55, 0.25, 0.1, 0.1])
    assert data.scores.tolist() == [0.0] * 4
    # pitfall 18: nothing to go by is uniform
    data.end_epoch(0.9)
    assert data.probabilities == pytest.approx([0.25] * 4)


def test_a_share_of_zero_is_uniform_whatever_the_scores() -> None:
    data = DataImportance(2)
    data.learn([0], np.asarray([1.0]))
    data.end_epoch(0.0)
    assert data.probabilities == pytest.approx([0.5, 0.5])


def test_the_first_epoch_has_each_sample_once_and_the_next_are_drawn() -> None:
    rng = np.random.default_rng(0)
    data = DataImportance(1000)
    assert sorted(data.positions(rng.random(1000))) == list(range(1000))
    data.learn(range(1000), np.where(np.arange(1000) < 250, 3.0, 1.0))
    data.end_epoch(0.5)
    counts = np.zeros(1000)
    for _ in range(20):
        drawn = data.positions(rng.random(1000))
        assert len(drawn) == 1000
        np.add.at(counts, drawn, 1)
    # by hand: .5 * 3 / 1500 + .5 / 1000 and .5 * 1 / 1500 + .5 / 1000
    expected = 20_000 * np.where(np.arange(1000) < 250, 0.0015, 0.5 / 1500 + 0.0005)
    assert chisquare(counts, expected).pvalue > 1e-4


def test_the_ends_of_the_unit_interval_are_the_ends_of_the_set() -> None:
    data = DataImportance(3)
    data.end_epoch(0.0)
    assert data.positions(np.asarray([0.0, 1 / 3 + 1e-9, np.nextafter(1.0, 0.0)])) == [0, 1, 2]


def test_the_state_is_plain_and_keeps_an_epoch_under_way() -> None:
    first, second = DataImportance(3), DataImportance(3)
    first.learn([0, 1, 1], np.asarray([3.0, 1.0, 2.0]))
    first.end_epoch(0.5)
    first.learn([2], np.asarray([1.0]))
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    uniforms = np.asarray([0.9, 0.5, 0.1])
    for _ in range(2):
        assert second.positions(uniforms) == first.positions(uniforms)
        assert second.probabilities.tolist() == first.probabilities.tolist()
        for one in (first, second):
            one.learn([2], np.asarray([5.0]))
            one.end_epoch(0.75)


def test_what_is_wrong_is_refused() -> None:
    data = DataImportance(3)
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        DataImportance(0)
    for position in (3, -1):
        with pytest.raises(ValueError, match=r"positions must lie in \[0, 3\), got"):
            data.learn([position], np.asarray([1.0]))
    for score in (math.nan, math.inf, -1.0):
        with pytest.raises(ValueError, match="scores must be finite and not negative"):
            data.learn([0], np.asarray([score]))
    with pytest.raises(ValueError, match="scores must be 1 numbers, got 2"):
        data.learn([0], np.asarray([1.0, 1.0]))
    for tau in (1.0, -0.1, math.nan):
        with pytest.raises(ValueError, match=r"tau must lie in \[0, 1\), got"):
            data.end_epoch(tau)
    with pytest.raises(ValueError, match=r"uniforms must be \[3\], got \[2\]"):
        data.positions(np.zeros(2))
    with pytest.raises(ValueError, match="must have the 4 samples of the checkpoint, got 3"):
        data.load_state_dict(DataImportance(4).state_dict())

"""Laws of sampling from mean distances."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import entropy

from nas_ext.density import mean_cosine
from nas_ext.sparsity import perplexity, probabilities, temperature_for

SPARSITY = np.random.default_rng(0).uniform(0.1, 0.4, size=36)


def test_the_law_is_a_softmax() -> None:
    expected = np.exp(SPARSITY / 0.3) / np.exp(SPARSITY / 0.3).sum()
    np.testing.assert_allclose(probabilities(SPARSITY, temperature=0.3), expected, rtol=1e-12)


def test_the_sparsest_is_drawn_most() -> None:
    law = probabilities(SPARSITY, temperature=0.1)
    assert (np.argsort(law) == np.argsort(SPARSITY)).all()


def test_extreme_temperatures_stay_finite() -> None:
    winner = probabilities(1e6 * SPARSITY, temperature=1e-9)
    assert winner.max() == 1.0
    assert np.isfinite(winner).all()
    np.testing.assert_allclose(probabilities(SPARSITY, temperature=1e12), 1 / 36, rtol=1e-9)


def test_perplexity_is_the_exponential_of_the_entropy_as_a_share() -> None:
    law = probabilities(SPARSITY, temperature=0.1)
    assert perplexity(law) == pytest.approx(np.exp(entropy(law)) / 36, rel=1e-12)
    assert perplexity(np.full(8, 1 / 8)) == pytest.approx(1.0)
    assert perplexity(np.asarray([1.0, 0.0, 0.0, 0.0])) == 0.25


@pytest.mark.parametrize("wanted", [0.05, 0.5, 0.7, 0.9, 0.999])
def test_a_perplexity_is_reached_at_any_scale(wanted: float) -> None:
    for scale in (1e-6, 1.0, 1e6):
        temperature = temperature_for(scale * SPARSITY, perplexity=wanted)
        law = probabilities(scale * SPARSITY, temperature=temperature)
        assert perplexity(law) == pytest.approx(wanted, rel=1e-6)


def test_raw_cosine_distances_at_the_published_temperature_are_uniform_sampling() -> None:
    # Pitfall 21, D5-1: a spread of .3 at a temperature of 5 gives extremes a ratio of e^.06 = 1.06
    rows = np.random.default_rng(1).normal(size=(36, 20)) + np.linspace(0, 2, 36)[:, None]
    distances = mean_cosine(rows)
    assert 0.3 < np.ptp(distances) < 2
    raw = probabilities(distances, temperature=5.0)
    assert perplexity(raw) > 0.99
    assert raw.max() / raw.min() < 1.5  # e^.4 = 1.49, the most that [0, 2] allows
    percent = probabilities(100 * distances, temperature=5.0)
    assert perplexity(percent) < 0.9


def test_the_published_spreads_have_the_ratios_of_the_reading() -> None:
    # D5-1: spreads of .1 and .3 in percent: 1.5 and 3.3 at 25, 7 and 400 at 5.
    for spread, temperature, ratio in (
        (0.1, 25, 1.5),
        (0.3, 25, 3.3),
        (0.1, 5, 7.4),
        (0.3, 5, 403),
    ):
        law = probabilities(100 * np.asarray([0.2, 0.2 + spread]), temperature=temperature)
        assert law[1] / law[0] == pytest.approx(ratio, rel=0.01)


def test_a_perplexity_that_no_temperature_has_is_refused() -> None:
    with pytest.raises(ValueError, match="perplexity must be 1 where all 4 architectures"):
        temperature_for(np.full(4, 0.3), perplexity=0.7)
    # Two of four share the lead: half of the space is the least there is.
    with pytest.raises(ValueError, match=r"perplexity must be at least 0\.5, .* got 0\.3"):
        temperature_for(np.asarray([1.0, 2.0, 3.0, 3.0]), perplexity=0.3)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"temperature must be positive, got 0\.0"):
        probabilities(SPARSITY, temperature=0.0)
    for wrong in (0.0, 1.0, float("nan")):
        with pytest.raises(ValueError, match=r"perplexity must lie in \(0, 1\), got"):
            temperature_for(SPARSITY, perplexity=wrong)
    for bad in (np.asarray([1.0, np.nan]), np.empty(0), np.ones((2, 2))):
        with pytest.raises(ValueError, match="sparsity must be finite numbers"):
            probabilities(bad, temperature=1.0)

"""Relative rewards against their formula written out."""

from __future__ import annotations

import json
import math

import pytest

from nas_ext.reward_shaping import RelativeReward


def test_a_relative_accuracy_is_the_ratio_to_the_running_mean_squashed() -> None:
    # Section 1.3: mean .95 mean + .05 x from the first x; q = x / mean, and q / (1 + q)
    shape = RelativeReward()
    mean = 0.6
    for accuracy in (0.6, 0.9, 0.3, 0.75):
        mean = 0.95 * mean + 0.05 * accuracy
        q = accuracy / mean
        assert shape(accuracy) == pytest.approx(q / (1 + q))
        assert shape.mean == pytest.approx(mean)


def test_a_relative_loss_is_the_running_mean_over_the_loss_squashed() -> None:
    shape = RelativeReward(of="loss", decay=0.9)
    mean = 2.3
    for loss in (2.3, 1.2, 4.0):
        mean = 0.9 * mean + 0.1 * loss
        assert shape(math.exp(-loss)) == pytest.approx(mean / (mean + loss))


def test_an_average_architecture_is_worth_a_half() -> None:
    for shape in (RelativeReward(), RelativeReward(of="loss")):
        assert [shape(0.7), shape(0.7)] == pytest.approx([0.5, 0.5])


def test_a_difference_near_the_mean_is_a_quarter_of_that_of_the_ratio() -> None:
    # d/dq q / (1 + q) = 1 / (1 + q)^2 = 1/4 at q = 1
    shape = RelativeReward(decay=0.999999)
    shape(0.8)
    ratio = 0.801 / 0.8
    assert shape(0.801) - 0.5 == pytest.approx((ratio - 1) / 4, rel=2e-3)


@pytest.mark.parametrize("of", ["accuracy", "loss"])
def test_every_relative_reward_is_a_share(of: str) -> None:
    shape = RelativeReward(of=of)  # type: ignore[arg-type]  # both are quantities
    for reward in (0.0, 0.0, 1.0, 1e-320, 1.0, 0.0, 0.5):
        assert 0.0 <= shape(reward) <= 1.0


@pytest.mark.parametrize("of", ["accuracy", "loss"])
def test_the_better_reward_stays_the_better(of: str) -> None:
    low, high = (RelativeReward(of=of), RelativeReward(of=of))  # type: ignore[arg-type]
    for shape in (low, high):
        shape(0.5)
    assert low(0.6) < high(0.61)


def test_the_mean_survives_json() -> None:
    first, second = RelativeReward(), RelativeReward()
    assert second.state_dict() == {"mean": None}
    first(0.3)
    first(0.9)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert second(0.4) == first(0.4)


def test_wrong_settings_and_rewards_are_named() -> None:
    with pytest.raises(ValueError, match="of must be 'accuracy' or 'loss', got 'error'"):
        RelativeReward(of="error")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"decay must lie in \[0, 1\), got 1.0"):
        RelativeReward(decay=1.0)
    shape = RelativeReward()
    with pytest.raises(ValueError, match="reward must be a share"):
        shape(91.5)
    assert shape.mean is None

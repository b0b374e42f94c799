"""Schedules and the split of steps among phases."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_ext.schedule import check_shares, linear, split


def test_a_linear_schedule_reaches_its_end_at_the_last_step_and_stays() -> None:
    value = linear(0.02, 0.0025, 8)
    assert value(0) == 0.02
    assert value(7) == pytest.approx(0.0025)
    assert value(3) == pytest.approx(0.02 - 0.0175 * 3 / 7)
    assert value(1000) == value(7)


def test_one_step_has_the_start_value() -> None:
    assert linear(0.02, 0.0025, 1)(0) == 0.02


def test_wrong_schedules_are_named() -> None:
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        linear(1.0, 0.0, 0)
    with pytest.raises(ValueError, match="step must not be negative, got -1"):
        linear(1.0, 0.0, 5)(-1)


def test_the_published_split_of_200_epochs_is_exact() -> None:
    # NAS-Bench-Macro: 80 epochs of training, 120 of search split 50 / 70.
    assert split(200, (0.40, 0.25, 0.35)) == (80, 50, 70)


@given(st.integers(1, 5000), st.lists(st.floats(0.01, 1.0), min_size=1, max_size=5))
def test_a_split_loses_nothing_and_starves_nobody(steps: int, shares: list[float]) -> None:
    if steps < len(shares):
        with pytest.raises(ValueError, match="steps must be at least 1 for each of"):
            split(steps, shares)
        return
    parts = split(steps, shares)
    assert sum(parts) == steps
    assert min(parts) >= 1
    for part, share in zip(parts, shares, strict=True):
        assert abs(part - steps * share / sum(shares)) <= len(shares)


def test_a_share_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="shares must be positive"):
        split(10, (1.0, 0.0))


@pytest.mark.parametrize("shares", [(1.0,), (1.0, 0.0), (1.0, -1.0), (1.0, float("nan"))])
def test_shares_are_one_positive_number_for_each_phase(shares: tuple[float, ...]) -> None:
    check_shares((0.4, 0.6), 2)
    with pytest.raises(ValueError, match=r"^shares must be 2 positive numbers, got \["):
        check_shares(shares, 2)

"""The record of draws behaves like a list, and stays small."""

from __future__ import annotations

import pytest

from nas_ext.draws import Draw, Draws

LISTED = [
    Draw(0, 0, (0, 1)),
    Draw(0, 0, (1, 1), 0.1),
    Draw(1, 1, (0, 1), 0.0),
    Draw(1, 2, (2, 0)),
]


def test_draws_come_back_as_they_were_given() -> None:
    draws = Draws(LISTED)
    assert list(draws) == LISTED
    assert draws == LISTED
    assert draws == Draws(LISTED)
    assert draws[1:3] == LISTED[1:3]
    assert draws[-1] == LISTED[-1]
    assert draws[-2:] == LISTED[-2:]
    assert len(draws) == 4
    assert type(draws[1].reward) is float
    assert repr(draws) == f"Draws({LISTED!r})"
    with pytest.raises(IndexError):
        draws[4]


def test_draws_of_other_length_architecture_or_reward_are_not_equal() -> None:
    draws = Draws(LISTED)
    assert draws != LISTED[:3]
    assert draws != [*LISTED[:3], Draw(1, 2, (2, 1))]
    assert draws != [*LISTED[:3], Draw(1, 2, (2, 0), 0.0)]
    assert draws != "draws"


def test_a_reward_is_told_later_and_zero_is_one() -> None:
    draws = Draws(LISTED)
    draws.tell(0, 0.0)
    assert draws[0].reward == 0.0
    assert draws[3].reward is None
    with pytest.raises(ValueError, match="reward must be a number, got nan"):
        draws.tell(0, float("nan"))


def test_the_fingerprint_is_that_of_the_architectures_in_their_order() -> None:
    one = Draws(LISTED).fingerprint()
    assert Draws([Draw(5, 5, d.architecture, 0.5) for d in LISTED]).fingerprint() == one
    assert Draws(LISTED[::-1]).fingerprint() != one
    assert Draws(LISTED[:3]).fingerprint() != one
    changed = [*LISTED[:3], Draw(1, 2, (2, 1))]
    assert Draws(changed).fingerprint() != one


def test_a_draw_of_a_known_architecture_takes_28_bytes() -> None:
    # phase: 4, step, place and reward: 8 each
    draws = Draws(LISTED)
    arrays = (draws._phases, draws._steps, draws._places, draws._rewards)
    assert sum(values.itemsize for values in arrays) == 28
    assert len(draws._architectures) == 3

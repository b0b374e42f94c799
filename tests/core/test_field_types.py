"""Values are held to the annotations of their dataclass."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from nas_ext.field_types import check_arguments, check_fields


@dataclass
class Some:
    """One field of each kind that is looked into."""

    count: int = 1
    share: float = 0.5
    name: str = "x"
    on: bool = False
    limit: int | None = None
    kind: Literal["a", "b"] = "a"
    shares: tuple[float, ...] = (1.0,)
    pair: tuple[int, int] = (1, 2)
    known: Mapping[str, Any] = field(default_factory=dict)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"share": 1, "limit": 3, "kind": "b"},
        {"shares": [1, 2.5], "pair": [3, 4]},  # as JSON gives tuples
        {"known": {"a": object()}},
    ],
)
def test_what_fits_passes(values: dict[str, Any]) -> None:
    check_fields(Some(**values))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": True}, "count must be a whole number, got True"),
        ({"count": 1.0}, "count must be a whole number, got 1.0"),
        ({"share": "0.5"}, "share must be a number, got '0.5'"),
        ({"share": math.nan}, "share must be finite, got nan"),
        ({"share": 10**400}, "share must be a number, got 1000"),
        ({"on": 1}, "on must be true or false, got 1"),
        ({"limit": "3"}, "limit must be a whole number or None, got '3'"),
        ({"kind": "c"}, "kind must be a or b, got 'c'"),
        ({"shares": ("a",)}, r"shares must be several, each a number, got \('a',\)"),
        ({"pair": (1,)}, r"pair must be \(a whole number, a whole number\), got \(1,\)"),
        ({"known": None}, "known must be a mapping, got None"),
    ],
)
def test_what_does_not_fit_is_named_with_its_rule_and_value(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        check_fields(Some(**values))


def test_with_kinds_only_ranges_are_left_to_the_class() -> None:
    check_fields(Some(share=math.inf, kind="c", pair=(1,)), kinds_only=True)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="kind must be a text, got 3"):
        check_fields(Some(kind=3), kinds_only=True)  # type: ignore[arg-type]


def test_a_long_value_is_cut() -> None:
    with pytest.raises(ValueError, match=r"\.\.\.$") as caught:
        check_fields(Some(count=[0] * 10**5))  # type: ignore[arg-type]
    assert len(str(caught.value)) < 300


def test_the_source_stands_in_the_message() -> None:
    with pytest.raises(ValueError, match=r"^count of run\.json must be"):
        check_fields(Some(count="x"), of=" of run.json")  # type: ignore[arg-type]


def test_arguments_are_held_to_their_annotations() -> None:
    def build(*, width: int, names: tuple[str, ...] = ()) -> None: ...

    check_arguments(build, {"width": 3, "unknown": object()})
    with pytest.raises(ValueError, match=r"width must be a whole number, got 1\.5"):
        check_arguments(build, {"width": 1.5})

"""Arguments of every class and function that people set: built, or refused by name and value."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nas_ext.comparison import Comparison, Competitor
from nas_ext.data import Augmentation, load
from nas_ext.demo import Settings
from nas_ext.ground_truth import GroundTruth
from nas_ext.latency import Measurement
from nas_ext.oneshot import SampledStrategy
from nas_ext.retrain import Recipe, Stages
from nas_ext.runs import Training
from nas_ext.schedule import check_shares, linear, split
from nas_ext.setting_pairs import settings_from
from nas_ext.spaces import SPACES
from nas_ext.spaces import create as create_space
from nas_ext.strategies.registry import STRATEGIES, create

HOSTILE: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 3, 10**12, -(10**12), 10**400),
    *(0.0, -0.5, 0.5, 1.0, 1.5, math.nan, math.inf, -math.inf, 1e308, 5e-324),
    *("", "x", "3", "\0", "a/b", (), (0,), (1.0,), (1, 2, 3), ("a", "b"), (math.nan, 1.0)),
    *([], [1, 2], {}, {"a": 1}, b"x", object(), ...),
)

ANY = st.one_of(
    st.sampled_from(HOSTILE),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.lists(st.one_of(st.integers(), st.floats(), st.text(max_size=3)), max_size=5),
    st.lists(st.one_of(st.integers(), st.floats()), max_size=5).map(tuple),
)

DEPTH = int(os.environ.get("NAS_EXT_FUZZ", "1"))
"""How many times the usual number of inputs is tried; `make drills` takes 10."""

SLOW = ("mobilenetv2", "autodeeplab-macro")
"""Spaces that take a second to build."""

QUICK = settings(
    max_examples=20 * DEPTH,
    deadline=None,
    suppress_health_check=(HealthCheck.too_slow, HealthCheck.filter_too_much),
    derandomize=True,
)

BASES: Mapping[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "Training": (Training, {}),
    "Recipe": (Recipe, {}),
    "Stages": (Stages, {"recipe": Recipe(), "trials": 1, "seeds": 2}),
    "GroundTruth": (GroundTruth, {"space": {"name": "mini-pooling"}, "data": "digits"}),
    "Measurement": (Measurement, {}),
    "Augmentation": (Augmentation, {}),
    "demo.Settings": (Settings, {}),
    "Competitor": (Competitor, {"label": "u", "strategy": "uniform"}),
    "Comparison": (
        Comparison,
        {
            "space": {"name": "mini-pooling"},
            "data": "digits",
            "image_size": None,
            "competitors": (Competitor(label="u", strategy="uniform"),),
            "seeds": (0, 1),
            "training": Training(),
        },
    ),
}


def refused(build: Callable[[], object], name: str) -> bool:
    """Build; say whether it was refused, which the message must explain by the name."""
    try:
        build()
    except ValueError as error:
        said = str(error)
    else:
        return False
    assert name in said, f"does not name {name}: {said}"
    assert len(said) < 2000
    return True


def own_fields(kind: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(kind)]


STRATEGY_FIELDS = [
    (name, field) for name, entry in STRATEGIES.items() for field in own_fields(entry.strategy)
]
FIELDS = [(name, field) for name, (kind, _) in BASES.items() for field in own_fields(kind)]


@pytest.mark.parametrize(("name", "field"), STRATEGY_FIELDS)
def test_a_hostile_setting_of_a_strategy_is_refused_or_serves(name: str, field: str) -> None:
    for value in HOSTILE:
        said = "" if field in ("tree", "mixture") else field  # "" is the current folder
        if refused(lambda v=value: create(name, **{field: v}), said):  # type: ignore[misc]
            continue
        made = create(name, **{field: value})
        json.dumps(made.settings, allow_nan=False)  # so that the result can be written
        if isinstance(made, SampledStrategy):
            refused(lambda m=made: m.phases(100), "")  # type: ignore[misc]


@pytest.mark.parametrize(("name", "field"), FIELDS)
def test_a_hostile_value_of_a_setting_is_refused_or_legal(name: str, field: str) -> None:
    build, base = BASES[name]
    for value in HOSTILE:
        said = field.removesuffix("s")  # of "settings" one "setting" is named
        refused(lambda v=value: build(**{**base, field: v}), said)  # type: ignore[misc]


@pytest.mark.parametrize("name", [*STRATEGIES])
def test_any_two_settings_of_a_strategy_are_refused_or_serve(name: str) -> None:
    kind = STRATEGIES[name].strategy
    some = st.dictionaries(st.sampled_from(own_fields(kind)), ANY, min_size=1, max_size=2)

    @QUICK
    @given(some)
    def build(values: dict[str, Any]) -> None:
        refused(lambda: create(name, **values), "")

    build()


@pytest.mark.parametrize("name", [*BASES])
def test_any_two_values_of_settings_are_refused_or_legal(name: str) -> None:
    build, base = BASES[name]
    kind: Any = build
    some = st.dictionaries(st.sampled_from(own_fields(kind)), ANY, min_size=1, max_size=2)

    @QUICK
    @given(some)
    def made(values: dict[str, Any]) -> None:
        refused(lambda: build(**{**base, **values}), "")

    made()


def space_arguments() -> list[tuple[str, str]]:
    shared = ("num_classes", "in_chs", "macs", "image_size")  # checked before all spaces alike
    own = [(name, p.name) for name, entry in SPACES.items() for p in entry.parameters]
    return [*own, *(("mini-pooling", argument) for argument in shared)]


@pytest.mark.parametrize(("name", "argument"), space_arguments())
def test_a_hostile_argument_of_a_space_is_refused_or_builds(name: str, argument: str) -> None:
    example = dict(SPACES[name].example)
    base: dict[str, Any] = {"num_classes": 2, "in_chs": 1, **example}
    for value in HOSTILE[::5] if name in SLOW and DEPTH == 1 else HOSTILE:
        with torch.device("meta"):
            refused(
                lambda v=value: create_space(name, **{**base, argument: v}),  # type: ignore[misc]
                "",
            )


@pytest.mark.parametrize("name", [name for name in SPACES if name not in SLOW])
def test_any_arguments_of_a_space_are_refused_or_build(name: str) -> None:
    names = [*(p.name for p in SPACES[name].parameters), "num_classes", "in_chs"]
    example = dict(SPACES[name].example)

    @settings(parent=QUICK, max_examples=8 * DEPTH)
    @given(st.dictionaries(st.sampled_from(names), ANY, min_size=1, max_size=3))
    def build(values: dict[str, Any]) -> None:
        with torch.device("meta"):
            refused(
                lambda: create_space(name, **{"num_classes": 2, "in_chs": 1, **example, **values}),
                "",
            )

    build()


@QUICK
@given(ANY, ANY, ANY)
def test_a_linear_schedule_has_numbers_or_is_refused(start: Any, end: Any, steps: Any) -> None:
    refused(lambda: linear(start, end, steps)(0), "")


@QUICK
@given(ANY, ANY)
def test_a_split_sums_to_the_steps_or_is_refused(steps: Any, shares: Any) -> None:
    if not refused(lambda: split(steps, shares), ""):
        assert sum(split(steps, shares)) == steps


@QUICK
@given(ANY, ANY)
def test_shares_are_checked(shares: Any, phases: Any) -> None:
    refused(lambda: check_shares(shares, phases), "")


@QUICK
@given(st.lists(st.text(max_size=12), max_size=3))
def test_typed_settings_are_values_or_refused(pairs: list[str]) -> None:
    refused(lambda: settings_from(pairs), "--set")


@pytest.mark.parametrize("text", ["a=" + "[" * 100_000, "a=" + "9" * 10_000, "a=NaN", "a=1e999"])
def test_typed_settings_that_json_cannot_hold_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="--set"):
        settings_from([text])


@pytest.mark.parametrize("value", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_name_size_or_seed_of_images_is_refused(value: Any) -> None:
    if value not in (None, 0, 1, 2, 3, True, False, 10**12):
        refused(lambda: load("digits", seed=value), "seed")
    if value is not None:
        assert refused(lambda: load("digits", image_size=value), "image_size")
    source: Any = value
    assert refused(lambda: load(source), "data")

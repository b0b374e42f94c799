"""Walks over resolutions against the published numbers, and what their networks cost."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest

from nas_ext.trellis import RATES, DeepLabPlan, TrellisSpace

SPACE = TrellisSpace()
SMALL = TrellisSpace(layers=5)


def test_the_space_has_the_published_number_of_walks() -> None:
    # Golden number 1: 12 layers, the first at rate 4; the thesis prints 2.9e4.
    assert SPACE.size == 28_657
    assert len(set(SPACE)) == 28_657


def test_the_walks_end_as_often_at_each_rate_as_published() -> None:
    # Golden number 1.
    ends = Counter(SPACE.rates(architecture)[-1] for architecture in SPACE)
    assert ends == {4: 5_545, 8: 8_900, 16: 8_811, 32: 5_401}


def test_a_first_layer_that_moves_too_makes_75025_walks() -> None:
    # Golden number 1.
    space = TrellisSpace(first="free")
    assert space.size == 75_025
    assert space.choices[0].label == "layer1"
    assert space.choices[0].options == (4, 8)


@pytest.mark.parametrize("layers", range(2, 16))
def test_sizes_are_fibonacci_numbers(layers: int) -> None:
    fibonacci = [0, 1]
    while len(fibonacci) < 40:
        fibonacci.append(sum(fibonacci[-2:]))
    assert TrellisSpace(layers=layers).size == fibonacci[2 * layers - 1]
    assert TrellisSpace(layers=layers, first="free").size == fibonacci[2 * layers + 1]


@pytest.mark.parametrize(("first", "layers"), [("fixed", 6), ("free", 5)])
def test_the_walks_are_those_that_brute_force_finds_in_its_order(first: Any, layers: int) -> None:
    space = TrellisSpace(layers=layers, first=first)
    expected = [
        levels
        for levels in product(range(4), repeat=layers)
        if all(abs(a - b) <= 1 for a, b in pairwise((0, *levels)))
        and (first == "free" or levels[0] == 0)
    ]
    assert [space.levels(architecture) for architecture in space] == expected


def test_every_choice_offers_the_rates_that_can_be_reached() -> None:
    assert [choice.label for choice in SMALL.choices] == [f"layer{n}" for n in range(2, 6)]
    assert [choice.options for choice in SMALL.choices] == [(4, 8), (4, 8, 16), RATES, RATES]


def test_names_lead_back_to_the_architecture() -> None:
    architecture = SMALL.from_code("01232")
    assert architecture == (1, 2, 3, 2)
    assert SMALL.rates(architecture) == (4, 8, 16, 32, 16)
    assert SMALL.describe(architecture) == "4-8-16-32-16"
    assert SMALL.decode(architecture) == {"layer2": 8, "layer3": 16, "layer4": 32, "layer5": 16}
    assert SMALL.encoding(architecture).tolist() == [0, 1, 2, 3, 2]
    for space in (SMALL, TrellisSpace(layers=4, first="free")):
        for found in space:
            assert space.from_code(space.code(found)) == found
            assert space.from_levels(space.levels(found)) == found
            assert space.encode(space.decode(found)) == found


def test_uniform_draws_are_uniform() -> None:
    rng = np.random.default_rng(0)
    counts = Counter(SMALL.draw(rng) for _ in range(3400))
    # 34 walks, 100 draws each on average; chi-square with 33 degrees: mean 33, sigma 8.1
    statistic = sum((counts[a] - 100) ** 2 / 100 for a in SMALL)
    assert statistic < 33 + 4 * 8.1


@pytest.mark.parametrize("code", ["0122", "012345", "11223", "02222", "01a21", ""])
def test_a_code_that_names_no_walk_is_refused(code: str) -> None:
    with pytest.raises(ValueError, match=r"^(code|levels|architecture) must "):
        SMALL.from_code(code)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": 1}, "layers must be an integer of at least 2, got 1"),
        ({"layers": 0, "first": "free"}, "layers must be an integer of at least 1, got 0"),
        ({"layers": 2.0}, "layers must be an integer of at least 2, got 2.0"),
        ({"first": "any"}, r"first must be one of \['fixed', 'free'\], got 'any'"),
    ],
)
def test_a_wrong_argument_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrellisSpace(**arguments)


# Costs. That networks have them is tested with the networks.


def test_a_small_network_costs_what_it_does_by_hand() -> None:
    plan = DeepLabPlan(filters=1, decoder_chs=1, low_level_chs=1)
    # Levels 0, 1 and 0 for an image of 8x8: rates 4 and 8 have 4 and 1 pixels, rate 2 has 16.
    stem = 9 * 3 * 1 * 16 + 9 * 4
    blocks = 2 * (9 + 1) * 4 + 2 * (18 + 4) * 1 + 2 * (9 + 1) * 4
    moves = 9 * 1 * 2 * 1 + 2 * 1 * 4
    pyramid = 1 * 4 + 3 * (9 + 1) * 4 + 1 + 5 * 4
    decoder = 1 * 4 + (18 + 2) * 4 + (9 + 1) * 4 + 2 * 4
    levels = (0, 1, 0)
    macs = plan.macs(levels, in_chs=3, num_classes=2, image_size=(8, 8))
    assert macs == stem + blocks + moves + pyramid + decoder
    weights = (27 + 9) + (20 + 44 + 20) + (18 + 2) + (1 + 30 + 1 + 5) + (1 + 20 + 10 + 2)
    # Scale and shift a channel: stem 2, blocks 2 + 4 + 2, moves 2 + 1, pyramid 6, decoder 3; the
    # classifier has 2 biases.
    others = 2 * (2 + 8 + 3 + 6 + 3) + 2
    assert plan.parameter_count(levels, in_chs=3, num_classes=2) == weights + others


def test_the_dilations_reach_as_far_in_the_image_at_every_rate() -> None:
    plan = DeepLabPlan()
    # DeepLabV3: 6, 12, 18 at output stride 16 and twice that at 8.
    assert plan.dilations(2) == (6, 12, 18)
    assert plan.dilations(1) == (12, 24, 36)
    assert {RATES[level] * plan.dilations(level)[0] for level in range(4)} == {96}


def test_channels_double_where_the_resolution_halves() -> None:
    assert [DeepLabPlan(filters=5).width(level) for level in range(4)] == [5, 10, 20, 40]


@pytest.mark.parametrize("name", ["filters", "decoder_chs", "low_level_chs"])
@pytest.mark.parametrize("value", [0, 2.0, True])
def test_a_width_that_is_no_positive_integer_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a positive integer, got {value}"):
        DeepLabPlan(**{name: value})

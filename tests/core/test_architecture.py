"""Search spaces: sizes, order, uniform law, names."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from nas_ext.architecture import Choice, SearchSpace, below
from nas_ext.pooling import PoolingSpace
from nas_ext.testing import small_space


def product_space(*sizes: int) -> SearchSpace:
    return SearchSpace("p", [Choice(f"c{i}", tuple(range(n))) for i, n in enumerate(sizes)])


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_a_free_space_is_the_product_of_its_options_in_order(sizes: list[int]) -> None:
    space = product_space(*sizes)
    assert list(space) == list(itertools.product(*(range(n) for n in sizes)))
    assert space.size == int(np.prod(sizes))


def test_sizes_of_any_length_are_exact() -> None:
    # specs: 13^21, the MobileNetV2 space.
    assert product_space(*[13] * 21).size == 247064529073450392704413


@pytest.mark.parametrize("space", [product_space(3, 2, 4), PoolingSpace(layers=9, poolings=3)])
def test_index_and_at_are_inverse_and_follow_the_order(space: SearchSpace) -> None:
    for place, architecture in enumerate(space):
        assert space.index(architecture) == place
        assert space.at(place) == architecture


def test_a_huge_space_is_drawn_from_and_numbered_without_listing_it() -> None:
    space = product_space(*[13] * 21)
    rng = np.random.default_rng(0)
    draws = [space.draw(rng) for _ in range(200)]
    assert len(set(draws)) == 200
    for architecture in draws:
        assert space.at(space.index(architecture)) == architecture
    # The first choice splits the space into 13 equal parts: its option is uniform. 4 sigma of
    # the mean of 200 uniform draws from 0..12 (standard deviation sqrt(168/12) = 3.74) is 1.06.
    assert abs(np.mean([a[0] for a in draws]) - 6) < 1.06


def test_draws_are_uniform_over_architectures() -> None:
    space = PoolingSpace(layers=10, poolings=2)
    rng = np.random.default_rng(1)
    counts = Counter(space.draw(rng) for _ in range(36 * 400))
    assert chisquare([counts[a] for a in space]).pvalue > 1e-4


def test_below_reaches_every_value_of_a_bound_beyond_64_bits() -> None:
    rng = np.random.default_rng(2)
    bound = 3 * 2**70
    thirds = Counter(below(rng, bound) // 2**70 for _ in range(3000))
    assert set(thirds) == {0, 1, 2}
    assert chisquare(list(thirds.values())).pvalue > 1e-4


def test_samples_and_architectures_translate_both_ways() -> None:
    space = small_space()
    for architecture in space:
        assert space.encode(space.decode(architecture)) == architecture
    assert space.decode((2, 0, 1)) == {"layer0": "c", "layer1": "a", "layer2": "b"}


def test_an_option_that_is_a_tuple_survives_json() -> None:
    space = SearchSpace("s", [Choice("k", ((1, 1), (2, 2)))])
    assert space.encode({"k": [2, 2]}) == (1,)


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ({"layer0": "a"}, "exactly the labels"),
        ({"layer0": "a", "layer1": "a", "layer2": "a", "x": 1}, "exactly the labels"),
        ({"layer0": "z", "layer1": "a", "layer2": "a"}, "must be one of"),
    ],
)
def test_a_wrong_sample_is_named(sample: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small_space().encode(sample)


@pytest.mark.parametrize("wrong", [(0, 0), (3, 0, 0), (-1, 0, 0), (0, 0, 0, 0), (True, 0, 0)])
def test_what_does_not_exist_is_refused(wrong: tuple[int, ...]) -> None:
    assert wrong not in small_space()
    with pytest.raises(ValueError, match="architecture must exist"):
        small_space().check(wrong)


def test_a_space_too_large_is_not_enumerated() -> None:
    with pytest.raises(ValueError, match="at most 20,000 to be enumerated"):
        product_space(*[13] * 21).enumerate()
    assert len(small_space().enumerate(18)) == 18


def test_spaces_are_checked_when_they_are_made() -> None:
    with pytest.raises(ValueError, match="must not be empty"):
        SearchSpace("s", [])
    with pytest.raises(ValueError, match="labels of space 's' must differ"):
        SearchSpace("s", [Choice("a", (1,)), Choice("a", (2,))])
    with pytest.raises(ValueError, match="options of choice 'a' must differ"):
        Choice("a", (1, 1))
    with pytest.raises(ValueError, match="must not be empty"):
        Choice("a", ())


def test_options_of_a_prefix_lead_somewhere() -> None:
    space = PoolingSpace(layers=5, poolings=2)
    for architecture in space:
        for length in range(len(architecture)):
            assert architecture[length] in space.options(architecture[:length])
    assert space.options((0, 0)) == (1,)
    with pytest.raises(ValueError, match="prefix must exist"):
        space.options((0, 0, 0))
    with pytest.raises(ValueError, match="shorter than the 4 choices"):
        space.options((0, 0, 1, 1))


def test_what_people_write_is_read_as_indices_a_sample_or_the_short_name() -> None:
    # Options with dashes of their own, of which "s" begins another one.
    choices = [Choice("a", ("s-1", "s", 7)), Choice("b", ("x", "1-2", (3, 4)))]
    space = SearchSpace("written", choices)
    for architecture in space:
        assert space.parse(list(architecture)) == architecture
        assert space.parse(space.decode(architecture)) == architecture
        assert space.parse(f" {space.describe(architecture)}\n") == architecture


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("0-5", "code must be one of space 'p', like '0-0', got '0-5'"),
        ("", "code must be one of space 'p'"),
        ([0, 2], "architecture must exist in space 'p'"),
        ([0], "architecture must exist in space 'p'"),
        ({"c0": 1}, "sample must have exactly the labels"),
    ],
)
def test_what_names_no_architecture_is_refused(written: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        product_space(2, 2).parse(written)

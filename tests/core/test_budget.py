"""Spaces under a limit of cost, against enumeration and against published shares of 13^21."""

from __future__ import annotations

import copy
import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from nas_ext import additive_counts, partial_sums
from nas_ext.additive_cost import AdditiveCost
from nas_ext.architecture import Architecture, Choice, SearchSpace
from nas_ext.budget import BudgetedSpace, arguments_of
from nas_ext.chain import ChainSpace
from nas_ext.chain_costs import macs_table
from nas_ext.mobilenet import MOBILENET, mobilenet_plan
from nas_ext.pooling import PoolingSpace, resnet_macs
from nas_ext.product_law import ProductLaw
from nas_ext.samplers.mixture_space import MixtureSpace
from nas_ext.samplers.strict_fair import StrictFairSampler
from nas_ext.tree import layer_tree

PLAN = mobilenet_plan()
LARGE = ChainSpace(MOBILENET, PLAN)
MACS = macs_table(PLAN, in_chs=3, num_classes=1000, image_size=(224, 224))
POOLING = PoolingSpace(layers=7, poolings=2)


def product_space(rows: tuple[tuple[int, ...], ...]) -> SearchSpace:
    return SearchSpace("p", [Choice(f"c{i}", tuple(range(len(r)))) for i, r in enumerate(rows)])


@st.composite
def tables(draw: st.DrawFn) -> AdditiveCost:
    """Make small tables, with units of their own, so that many or few sums are equal."""
    unit = draw(st.sampled_from([1, 1, 6, 1000]))
    row = st.lists(st.integers(0, 9), min_size=1, max_size=4)
    rows = draw(st.lists(row, min_size=1, max_size=5))
    return AdditiveCost(
        draw(st.integers(0, 20)), tuple(tuple(unit * value for value in row) for row in rows)
    )


def check_against_a_list(
    space: BudgetedSpace, expected: list[Architecture], base: SearchSpace
) -> None:
    assert space.size == len(expected)
    assert list(space) == expected
    for place, architecture in enumerate(expected):
        assert space.index(architecture) == place
        assert space.at(place) == architecture
    inside = set(expected)
    assert all((architecture in space) == (architecture in inside) for architecture in base)
    for length in range(len(base.choices)):
        following: dict[Architecture, set[int]] = {}
        for architecture in expected:
            following.setdefault(architecture[:length], set()).add(architecture[length])
        for prefix, options in following.items():
            assert space.options(prefix) == tuple(sorted(options))
    sizes = [range(len(choice.options)) for choice in base.choices[:1]]
    for prefix in set(itertools.product(*sizes)) - {a[:1] for a in expected}:
        if len(base.choices) > 1:
            with pytest.raises(ValueError, match="prefix must exist"):
                space.options(prefix)


@settings(max_examples=150, deadline=None)
@given(cost=tables(), ends=st.tuples(st.floats(0, 1), st.floats(0, 1)), data=st.data())
def test_a_budgeted_product_is_the_filtered_enumeration(
    cost: AdditiveCost, ends: tuple[float, float], data: st.DataObject
) -> None:
    base = product_space(cost.options)
    span = cost.maximum - cost.minimum
    low, high = sorted(cost.minimum + int(end * span) for end in ends)
    expected = [a for a in base if low <= cost(a) <= high]
    if not expected:
        with pytest.raises(ValueError, match="low and high must hold"):
            BudgetedSpace(base, cost, low=low, high=high)
        return
    sparse = data.draw(st.sampled_from([partial_sums.SPARSE, 0]), label="places for a sum")
    kept = partial_sums.SPARSE
    partial_sums.SPARSE = sparse  # 0: no range is scanned, sums are sorted
    try:
        space = BudgetedSpace(base, cost, low=low, high=high)
    finally:
        partial_sums.SPARSE = kept
    check_against_a_list(space, expected, base)
    listed = BudgetedSpace(base, cost.__call__, low=low, high=high)
    check_against_a_list(listed, expected, base)


@settings(max_examples=40, deadline=None)
@given(values=st.lists(st.integers(0, 9), min_size=12, max_size=12), low=st.integers(0, 40))
def test_the_rule_of_the_base_is_kept(values: list[int], low: int) -> None:
    cost = AdditiveCost(3, tuple(zip(values[:6], values[6:], strict=True)))
    high = low + 12
    expected = [a for a in POOLING if low <= cost(a) <= high]
    if not expected:
        with pytest.raises(ValueError, match="low and high must hold"):
            BudgetedSpace(POOLING, cost, low=low, high=high)
        return
    check_against_a_list(BudgetedSpace(POOLING, cost, low=low, high=high), expected, POOLING)


def test_counts_beyond_64_bits_are_exact() -> None:
    # Sums of 70 numbers 0 or 1 are binomial: C(70, 30) + ... + C(70, 40), by math.comb. The
    # whole product has 2^70 architectures, so counts do not fit 64 bits.
    import math

    cost = AdditiveCost(0, ((0, 1),) * 70)
    space = BudgetedSpace(product_space(cost.options), cost, low=30, high=40)
    assert space.size == sum(math.comb(70, k) for k in range(30, 41))
    middle = space.at(space.size // 2)
    assert space.index(middle) == space.size // 2


def test_draws_are_uniform_over_what_is_inside() -> None:
    cost = AdditiveCost(0, ((0, 3, 5), (1, 2, 9), (0, 4, 4), (2, 0, 7)))
    space = BudgetedSpace(product_space(cost.options), cost, low=9, high=13)
    inside = [a for a in space.base if 9 <= cost(a) <= 13]
    assert 20 < len(inside) < 60
    rng = np.random.default_rng(0)
    counts = Counter(space.draw(rng) for _ in range(200 * len(inside)))
    assert set(counts) == set(inside)
    assert chisquare([counts[a] for a in inside]).pvalue > 1e-4


@pytest.fixture(scope="module")
def at_280() -> BudgetedSpace:
    """Build the window [0.99, 1] x 280M macs of 13^21 architectures."""
    return BudgetedSpace(LARGE, MACS, low=277_200_000, high=280_000_000)


def test_the_window_at_280_million_has_the_published_share(at_280: BudgetedSpace) -> None:
    # specs: golden 14, P(window 280M) = 5.1e-5 by Monte Carlo, about 1.3e19 architectures.
    assert LARGE.size == 13**21
    assert at_280.size / LARGE.size == pytest.approx(5.1e-5, rel=0.02)


def test_the_window_yields_a_thousand_different_architectures(at_280: BudgetedSpace) -> None:
    rng = np.random.default_rng(0)
    drawn = [at_280.draw(rng) for _ in range(1000)]
    assert len(set(drawn)) == 1000
    assert all(277_200_000 <= MACS(a) <= 280_000_000 for a in drawn)
    for architecture in drawn[:20]:
        assert architecture in at_280
        assert at_280.at(at_280.index(architecture)) == architecture


def test_draws_of_a_large_window_follow_the_law_of_a_layer(at_280: BudgetedSpace) -> None:
    # The share of an option in the first layer by the counts of its completions, against 2,000
    # draws; the statistic is exact, so the bound is that of a chi-square test.
    rng = np.random.default_rng(1)
    drawn = Counter(at_280.draw(rng)[0] for _ in range(2000))
    known = {o: count for o, _, count in at_280.branches(0, at_280.start)}
    expected = [2000 * count / at_280.size for count in known.values()]
    assert sum(known.values()) == at_280.size
    assert chisquare([drawn[o] for o in known], expected).pvalue > 1e-4


def test_a_layer_tree_over_a_large_window_has_only_what_leads_inside(
    at_280: BudgetedSpace,
) -> None:
    tree = layer_tree(at_280)
    node = tree.root
    rng = np.random.default_rng(0)
    while node.architecture is None:
        node = node.children[int(rng.integers(len(node.children)))]
    assert node.architecture in at_280
    assert tree.leaf(node.architecture) is node


def test_the_full_range_is_the_whole_space() -> None:
    small = mobilenet_plan(widths=(8, 8), layers=(2, 1), strides=(2, 1), stem=8, first=8, head=8)
    cost = macs_table(small, in_chs=3, num_classes=10, image_size=(32, 32))
    base = ChainSpace("small", small)
    space = BudgetedSpace(base, cost, low=0, high=cost.maximum)
    assert space.size == base.size == 13**3
    assert StrictFairSampler.passes_per_step(space) == 13


def test_strict_fairness_refuses_what_is_no_free_product_any_more(at_280: BudgetedSpace) -> None:
    with pytest.raises(ValueError, match="must be a free product or a pooling space"):
        StrictFairSampler(at_280, np.random.default_rng(0))


def test_a_law_of_one_law_per_choice_refuses_too_many_costs(at_280: BudgetedSpace) -> None:
    with pytest.raises(ValueError, match="partial costs"):
        ProductLaw(at_280, [[0.0] * 13] * 21)


def test_a_law_of_one_law_per_choice_serves_a_small_window() -> None:
    cost = AdditiveCost(0, ((0, 3, 5), (1, 2, 9), (0, 4, 4)))
    space = BudgetedSpace(product_space(cost.options), cost, low=5, high=9)
    law = ProductLaw(space, [[0.0, 1.0, 0.5], [0.2, 0.0, 0.0], [0.0, 0.0, 2.0]])
    assert sum(np.exp(law.log_probability(a)) for a in space) == pytest.approx(1.0)


def test_names_and_encodings_are_those_of_the_base() -> None:
    base = PoolingSpace(layers=10, poolings=2, name="ten")
    widths = (16,) * 4 + (32,) * 3 + (64,) * 3

    def macs(architecture: Architecture) -> int:
        stages = base.stages(architecture)
        return resnet_macs(stages, widths, in_chs=3, num_classes=10, image_size=(32, 32))

    # specs: golden 11, conv and linear macs of the CIFAR network: [4,3,3] has 40,813,184.
    space = BudgetedSpace(base, macs, low=40_813_184, high=40_813_184)
    default = base.from_stages((4, 3, 3))
    assert default in space
    assert {space.cost(a) for a in space} == {40_813_184}
    assert space.name == "ten:40813184..40813184"
    assert space.describe(default) == "[4,3,3]"
    assert space.decode(default) == base.decode(default)
    assert space.encode(base.decode(default)) == default
    assert space.encoding(default).tolist() == base.encoding(default).tolist()
    assert space.code(default) == "0000100100"
    outside = base.decode(base.from_stages((8, 1, 1)))
    with pytest.raises(ValueError, match="architecture must exist in space"):
        space.encode(outside)
    with pytest.raises(AttributeError):
        _ = space.nothing_of_the_kind


def test_a_mixture_of_supernets_takes_a_budgeted_space() -> None:
    cost = AdditiveCost(0, ((0, 3, 5), (1, 2, 9), (0, 4, 4)))
    base = product_space(cost.options)
    space = BudgetedSpace(base, cost, low=5, high=9)
    mixture = MixtureSpace(space, 3)
    assert list(mixture) == [(*a, m) for a in base if 5 <= cost(a) <= 9 for m in range(3)]


def test_a_budget_within_a_budget_keeps_both() -> None:
    macs = AdditiveCost(0, ((0, 3, 5), (1, 2, 9), (0, 4, 4)))
    weights = AdditiveCost(1, ((4, 0, 2), (1, 1, 0), (0, 3, 1)))
    base = product_space(macs.options)
    once = BudgetedSpace(base, macs, low=4, high=9)
    twice = BudgetedSpace(once, weights, low=3, high=6)
    assert list(twice) == [a for a in base if 4 <= macs(a) <= 9 and 3 <= weights(a) <= 6]


def test_a_copy_of_a_network_does_not_copy_the_tables(at_280: BudgetedSpace) -> None:
    assert copy.deepcopy({"space": at_280})["space"] is at_280


class _Model:
    """A model space, as far as its arguments go."""

    def __init__(self, search_space: SearchSpace) -> None:
        self.search_space = search_space
        self.arguments = {"name": "p", "num_classes": 3}


def test_the_limits_of_a_space_are_among_the_arguments_that_rebuild_it() -> None:
    cost = AdditiveCost(0, ((0, 3), (1, 2)))
    base = product_space(cost.options)
    limits = {"macs": [1, 4], "image_size": [8, 8]}
    space = BudgetedSpace(base, cost, low=1, high=4, limits=limits)
    assert arguments_of(_Model(space)) == {"name": "p", "num_classes": 3, **limits}
    assert arguments_of(_Model(base)) == {"name": "p", "num_classes": 3}
    assert arguments_of(object()) is None


@pytest.mark.parametrize(
    ("low", "high", "reason"),
    [
        (5, 4, "low must not exceed high 4, got 5"),
        (0.5, 4, "low must be an integer, got 0.5"),
        (0, 4.0, "high must be an integer, got 4.0"),
        (100, 200, "none costs 100 to 200"),
        (0, 0, "none costs 0 to 0"),
    ],
)
def test_windows_that_are_none_are_refused(low: int, high: int, reason: str) -> None:
    cost = AdditiveCost(1, ((0, 3), (1, 2)))
    for given_cost in (cost, cost.__call__):
        with pytest.raises(ValueError, match=reason):
            BudgetedSpace(product_space(cost.options), given_cost, low=low, high=high)


def test_costs_that_do_not_fit_the_space_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    base = product_space(((0, 1), (0, 1)))
    with pytest.raises(ValueError, match=r"cost must have \[2, 2\] options"):
        BudgetedSpace(base, AdditiveCost(0, ((0, 1), (0, 1, 2))), low=0, high=4)
    with pytest.raises(ValueError, match=r"costs must be integers, got 0\.5"):
        BudgetedSpace(base, lambda a: 0.5, low=0, high=4)  # type: ignore[arg-type, return-value]
    with pytest.raises(ValueError, match="cost must be an AdditiveCost"):
        BudgetedSpace(LARGE, MACS.__call__, low=0, high=4)
    with pytest.raises(ValueError, match=r"less than 2\^62"):
        BudgetedSpace(base, AdditiveCost(0, ((0, 2**62), (0, 1))), low=0, high=4)
    monkeypatch.setattr(additive_counts, "MOST_SUMS", 1000)
    with pytest.raises(ValueError, match="at most 1,000 different partial sums"):
        BudgetedSpace(LARGE, MACS, low=277_200_000, high=280_000_000)

"""The cells of NAS-Bench-201: encodings, strings, isomorphism and costs."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from nas_ext.cell import EDGES, LABELS, OPERATIONS, CellSkeleton, NASBench201Space

SPACE = NASBench201Space()
NONE, SKIP, CONV1, CONV3, POOL = range(5)


def test_the_space_is_the_product_over_six_edges() -> None:
    # Golden number 1: 5^6; the enumeration of section 6.4 is itertools.product, first edge slowest
    assert SPACE.size == 5**6 == 15_625
    assert list(SPACE) == list(product(range(5), repeat=6))
    assert LABELS == ("edge1_0", "edge2_0", "edge2_1", "edge3_0", "edge3_1", "edge3_2")
    assert {choice.options for choice in SPACE.choices} == {OPERATIONS}


def test_a_cell_string_lists_the_edges_node_by_node() -> None:
    # The first two lines of the benchmark's table, in its own index order
    first = "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+"
    first += "|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
    second = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+"
    second += "|skip_connect~0|nor_conv_3x3~1|skip_connect~2|"
    assert SPACE.from_code(first) == (POOL, CONV1, SKIP, CONV1, SKIP, SKIP)
    assert SPACE.from_code(second) == (CONV3, CONV3, POOL, SKIP, CONV3, SKIP)
    assert SPACE.code((POOL, CONV1, SKIP, CONV1, SKIP, SKIP)) == first
    assert SPACE.describe(SPACE.from_code(second)) == second


def test_strings_and_samples_name_every_architecture() -> None:
    rng = np.random.default_rng(0)
    for architecture in (SPACE.draw(rng) for _ in range(200)):
        assert SPACE.from_code(SPACE.code(architecture)) == architecture
        assert SPACE.encode(SPACE.decode(architecture)) == architecture


@pytest.mark.parametrize(
    "code",
    [
        "",
        "|none~0|+|none~0|none~1|+|none~0|none~1|",
        "|none~0|+|none~0|none~1|+|none~0|none~1|none~1|",
        "|none~0|+|none~1|none~0|+|none~0|none~1|none~2|",
        "|none~0|+|none~0|none~1|+|none~0|none~1|sep_conv~2|",
        "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|+",
    ],
)
def test_a_string_that_is_no_cell_is_refused(code: str) -> None:
    with pytest.raises(ValueError, match="code must be a cell such as"):
        SPACE.from_code(code)


# Isomorphism.


def test_there_are_6466_cells_up_to_isomorphism() -> None:
    # Golden number 1, and the number in the benchmark's paper
    classes = {SPACE.canonical(architecture) for architecture in SPACE}
    assert len(classes) == 6_466
    assert all(SPACE.canonical(found) == found for found in classes)
    assert all(SPACE.canonical(architecture) <= architecture for architecture in SPACE)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        # A convolution on the way to node 1 alone, or on the way to node 2 alone
        ((CONV3, NONE, SKIP, NONE, NONE, SKIP), (SKIP, NONE, CONV3, NONE, NONE, SKIP)),
        # Sums are commutative, and node 1 is the input
        ((SKIP, NONE, NONE, CONV3, CONV1, NONE), (SKIP, NONE, NONE, CONV1, CONV3, NONE)),
        # Nothing enters node 1: nothing leaves it
        ((NONE, CONV1, CONV3, POOL, CONV3, SKIP), (NONE, CONV1, NONE, POOL, POOL, SKIP)),
    ],
)
def test_cells_that_are_the_same_graph_are_one(
    one: tuple[int, ...], other: tuple[int, ...]
) -> None:
    assert (
        SPACE.canonical(one)
        == SPACE.canonical(other)
        == min(a for a in SPACE if SPACE.topology(a) == SPACE.topology(one))
    )


def test_isomorphic_cells_compute_the_same() -> None:
    # Independent of the strings: all cells on a vector, with operations that keep zero at zero
    rng = np.random.default_rng(1)
    one, three, mean = rng.normal(size=(3, 4, 4))
    operations: list[Any] = [
        np.zeros_like,
        lambda x: x,
        lambda x: np.tanh(one @ x),
        lambda x: np.tanh(three @ x),
        lambda x: mean @ x,
    ]
    results: dict[tuple[int, ...], Any] = {}
    start = rng.normal(size=4)
    for architecture in SPACE:
        nodes = [start, *np.zeros((3, 4))]
        for (into, source), option in zip(EDGES, architecture, strict=True):
            nodes[into] = nodes[into] + operations[option](nodes[source])
        expected = results.setdefault(SPACE.canonical(architecture), nodes[3])
        np.testing.assert_allclose(nodes[3], expected, atol=1e-12)
    assert len({tuple(np.round(value, 9)) for value in results.values()}) > 4_000


# Fewer operations.


def test_fewer_operations_make_a_smaller_space_of_the_same_cells() -> None:
    space = NASBench201Space(operations=("nor_conv_3x3", "skip_connect"))
    assert space.size == 2**6
    code = space.code((0, 1, 0, 1, 1, 0))
    assert SPACE.from_code(code) == (CONV3, SKIP, CONV3, SKIP, SKIP, CONV3)
    assert space.topology((0, 1, 0, 1, 1, 0)) == SPACE.topology(SPACE.from_code(code))
    assert all(space.canonical(a) in space for a in space)
    with pytest.raises(ValueError, match="code must be a cell"):
        space.from_code(SPACE.code((NONE,) * 6))


@pytest.mark.parametrize("operations", [(), ("none", "sep_conv_3x3")])
def test_unknown_operations_are_refused(operations: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="operations must be some of"):
        NASBench201Space(operations=operations)


# Costs.


def test_costs_are_the_published_ones() -> None:
    parameters = CellSkeleton().parameter_table(OPERATIONS)
    macs = CellSkeleton().macs_table(OPERATIONS, image_size=(32, 32))
    # Golden number 13
    assert parameters((CONV3,) * 6) == 1_531_546
    assert parameters((NONE,) * 6) == parameters((SKIP,) * 6) == 73_306
    # Published for five 3x3 convolutions and a skip: 184.73 M macs, 1.289 M parameters
    five = (CONV3, CONV3, CONV3, SKIP, CONV3, CONV3)
    assert (macs(five), parameters(five)) == (184_730_240, 1_288_506)


def test_halved_sides_are_rounded_up() -> None:
    tiny = CellSkeleton(width=1, cells=1, num_classes=1, in_chs=1)
    # 3 x 1 pixels, then 2 x 1, then 1 x 1; channels 1, 2, 4. By hand: the stem 9 * 3, the blocks
    # (18 + 36 + 2) * 2 and (72 + 144 + 8) * 1, the linear layer 4
    table = tiny.macs_table(("skip_connect", "nor_conv_1x1"), image_size=(3, 1))
    assert table.fixed == 27 + 112 + 224 + 4
    # One 1x1 convolution a stage: 1 * 3 + 4 * 2 + 16 * 1
    assert table.options == ((0, 27),) * 6
    with pytest.raises(ValueError, match="image_size must be at least 1x1, got 0x4"):
        tiny.macs_table(OPERATIONS, image_size=(0, 4))


@pytest.mark.parametrize("name", ["width", "cells", "num_classes", "in_chs"])
def test_a_wrong_skeleton_is_named(name: str) -> None:
    settings: dict[str, Any] = {name: 0}
    with pytest.raises(ValueError, match=f"{name} must be a positive integer, got 0"):
        CellSkeleton(**settings)

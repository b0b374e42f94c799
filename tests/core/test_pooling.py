"""The pooling spaces against the numbers of the thesis."""

from __future__ import annotations

from itertools import combinations
from math import comb
from typing import Any

import numpy as np
import pytest

from nas_ext.pooling import PoolingSpace, resnet_macs

RESNET20 = PoolingSpace(layers=10, poolings=2)


@pytest.mark.parametrize(
    ("layers", "poolings", "size"),
    # Thesis, Table 2.7: ResNet20, ResNet18 on CIFAR, ResNet50 on CIFAR, on Food-101, ResNet18 on
    # ImageNet. The last row is the laptop benchmark, C(7, 2).
    [(10, 2, 36), (9, 3, 56), (17, 3, 560), (16, 3, 455), (8, 3, 35), (8, 2, 21)],
)
def test_sizes_are_those_of_table_2_7(layers: int, poolings: int, size: int) -> None:
    assert (
        PoolingSpace(layers=layers, poolings=poolings).size == size == comb(layers - 1, poolings)
    )


@pytest.mark.parametrize(
    ("number", "stages"),
    [(1, (1, 1, 8)), (8, (1, 8, 1)), (9, (2, 1, 7)), (24, (4, 3, 3)), (29, (5, 3, 2)),
     (34, (7, 1, 2)), (36, (8, 1, 1))],
)  # fmt: skip
def test_numbers_are_those_of_table_2_1(number: int, stages: tuple[int, ...]) -> None:
    architecture = RESNET20.from_stages(stages)
    assert RESNET20.number(architecture) == number
    assert RESNET20.stages(RESNET20.at(number - 1)) == stages


@pytest.mark.parametrize(
    ("layers", "stages", "index"),
    # Golden number 3, from 0: the defaults of ResNet18, ResNet18 on ImageNet, ResNet50 on
    # CIFAR-100, on Food-101, and three more rows of the Food-101 file.
    [(9, (3, 2, 2, 2), 41), (8, (2, 2, 2, 2), 20), (17, (4, 4, 6, 3), 309),
     (16, (3, 4, 6, 3), 204), (16, (6, 4, 5, 1), 360), (16, (9, 4, 2, 1), 433),
     (16, (8, 3, 3, 2), 412)],
)  # fmt: skip
def test_the_larger_spaces_are_numbered_as_published(
    layers: int, stages: tuple[int, ...], index: int
) -> None:
    space = PoolingSpace(layers=layers, poolings=3)
    assert space.index(space.from_stages(stages)) == index


def test_the_order_is_that_of_the_positions() -> None:
    positions = [tuple(i for i, o in enumerate(a) if o == 0) for a in RESNET20]
    assert positions == list(combinations(range(9), 2))


def test_path_codes_are_those_of_the_thesis() -> None:
    assert RESNET20.code(RESNET20.from_stages((4, 3, 3))) == "0000100100"
    assert RESNET20.code(RESNET20.from_stages((1, 1, 8))) == "0110000000"
    for architecture in RESNET20:
        assert RESNET20.from_code(RESNET20.code(architecture)) == architecture
        assert RESNET20.encode(RESNET20.decode(architecture)) == architecture


def test_encodings_are_resolution_indices() -> None:
    row = RESNET20.encoding(RESNET20.from_stages((4, 3, 3)))
    assert row.tolist() == [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_vector_and_one_hot_distances_differ_over_encodings() -> None:
    # Over pool flags they are proportional, and the ablation of Table 3.2 would compare a tree
    # with itself.
    rows = np.stack([RESNET20.encoding(a) for a in RESNET20])
    one_hot = np.eye(3)[rows.astype(int)].reshape(36, -1)
    vector = np.linalg.norm(rows[:, None] - rows[None], axis=-1)
    hot = np.linalg.norm(one_hot[:, None] - one_hot[None], axis=-1)
    off = ~np.eye(36, dtype=bool)
    assert np.ptp(vector[off] / hot[off]) > 0.1


@pytest.mark.parametrize(
    ("stages", "macs"),
    # Golden number 11: convolutions and linear layer of the ResNet20 at 3 x 32 x 32.
    [((1, 1, 8), 18_596_480), ((4, 3, 3), 40_813_184), ((5, 3, 2), 62_833_280),
     ((6, 2, 2), 76_989_056), ((7, 1, 2), 91_144_832), ((8, 1, 1), 149_340_800)],
)  # fmt: skip
def test_macs_are_the_published_ones(stages: tuple[int, ...], macs: int) -> None:
    widths = (16,) * 4 + (32,) * 3 + (64,) * 3
    assert resnet_macs(stages, widths, in_chs=3, num_classes=10, image_size=(32, 32)) == macs


def test_macs_refuse_an_image_that_cannot_be_halved() -> None:
    with pytest.raises(ValueError, match="image_size must allow 2 halvings, got 3 x 32"):
        resnet_macs((1, 1, 1), (4, 4, 4), in_chs=3, num_classes=10, image_size=(3, 32))
    with pytest.raises(ValueError, match="widths must be one for each of 3 layers"):
        resnet_macs((1, 1, 1), (4, 4), in_chs=3, num_classes=10, image_size=(32, 32))


@pytest.mark.parametrize("stages", [(6, 1, 2, 1), (0, 5, 5), (6, 1, 2), (5, 5)])
def test_stages_that_are_no_composition_are_refused(stages: tuple[int, ...]) -> None:
    # (6, 1, 2) sums to 9: the thesis's text names it as the best architecture by mistake (D2-7).
    with pytest.raises(ValueError, match="stages must be 3 positive numbers"):
        RESNET20.from_stages(stages)


@pytest.mark.parametrize("code", ["1000000001", "0000000000", "011", "01100000002", "0111000000"])
def test_codes_that_name_no_architecture_are_refused(code: str) -> None:
    with pytest.raises(ValueError, match="code must be"):
        RESNET20.from_code(code)


def test_a_space_needs_layers_for_its_poolings() -> None:
    with pytest.raises(ValueError, match="layers must be more than the 2 poolings, got 2"):
        PoolingSpace(layers=2, poolings=2)
    with pytest.raises(ValueError, match="poolings must be at least 1, got 0"):
        PoolingSpace(layers=5, poolings=0)


@pytest.mark.parametrize("written", ["[7,1,2]", " [7, 1, 2]", [7, 1, 2], (7, 1, 2), "0000000110"])
def test_an_architecture_is_read_from_its_stages_and_its_code(written: Any) -> None:
    # The thesis's best: 7 layers, then 1, then 2, so that layers 8 and 9 begin with a pooling.
    assert RESNET20.parse(written) == (1, 1, 1, 1, 1, 1, 0, 0, 1)
    assert RESNET20.parse([1, 1, 1, 1, 1, 1, 0, 0, 1]) == (1, 1, 1, 1, 1, 1, 0, 0, 1)


def test_stages_and_option_indices_of_one_length_are_told_apart() -> None:
    # Three stages and three choices: only option indices contain a 0.
    space = PoolingSpace(layers=4, poolings=2)
    for architecture in space:
        assert space.parse(architecture) == architecture
        assert space.parse(space.stages(architecture)) == architecture


@pytest.mark.parametrize("written", ["[7,1]", "[7,1,x]", [7, 1, 3], [7, -1, 4], "0110", ""])
def test_stages_that_do_not_fit_are_refused(written: Any) -> None:
    with pytest.raises(ValueError, match=r"(stages|code) must be"):
        RESNET20.parse(written)

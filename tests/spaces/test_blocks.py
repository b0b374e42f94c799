"""Pooling slots, their supernet form and the supernet's norm layer."""

from __future__ import annotations

from math import comb
from typing import Any

import pytest
import torch
from nni.mutable import Categorical, SampleValidationError, frozen_context
from nni.nas.space import model_context
from nni.nas.strategy import DARTS, GumbelDARTS, Proxyless, RandomOneShot
from timm.models._efficientnet_blocks import InvertedResidual
from timm.models.resnet import BasicBlock
from torch import nn

from nas_ext.pooling import PoolingSpace
from nas_ext.spaces.blocks import (
    PathSamplingPoolSlot,
    PoolSlot,
    pool_slot_hooks,
    pooling_choice,
    residual_block,
    skip,
    supernet_norm,
)

CODES = ["011", "010", "001"]


@pytest.fixture
def choice() -> Categorical[str]:
    return Categorical(CODES, label="pooling")


def supernet_slots(choice: Categorical[str]) -> list[PathSamplingPoolSlot]:
    with frozen_context():  # as NNI does while it builds spaces and supernets
        slots = [PathSamplingPoolSlot(choice, position) for position in (1, 2)]
    return [slot for slot in slots if isinstance(slot, PathSamplingPoolSlot)]


def slot(choice: Categorical[str], position: int) -> PoolSlot:
    with frozen_context():
        found = PoolSlot(choice, position)
    assert isinstance(found, PoolSlot)
    return found


def test_the_choice_has_the_path_codes_in_the_numbering_of_the_space() -> None:
    # Compositions of 4 into 3 in lexicographic order: [1,1,2] [1,2,1] [2,1,1].
    choice = pooling_choice(PoolingSpace(layers=4, poolings=2))
    assert choice.values == ["0110", "0101", "0011"]
    assert choice.label == "pooling"


def test_more_than_two_thousand_architectures_are_refused_with_their_number() -> None:
    assert comb(23, 3) == 1_771
    assert len(pooling_choice(PoolingSpace(layers=24, poolings=3))) == 1_771
    with pytest.raises(ValueError, match=r"at most 2,000 architectures .* got 2,024"):
        pooling_choice(PoolingSpace(layers=25, poolings=3))  # C(24, 3)


@pytest.mark.parametrize("position", [-1, 3])
def test_a_position_outside_the_path_code_is_refused(
    choice: Categorical[str], position: int
) -> None:
    with pytest.raises(ValueError, match=rf"position must lie in \[0, 3\), got {position}"):
        slot(choice, position)


@pytest.mark.parametrize(
    ("code", "position", "layer"),
    [("010", 1, nn.MaxPool2d), ("010", 2, nn.Identity), ("001", 1, nn.Identity)],
)
def test_a_frozen_slot_is_torchs_own_layer(
    choice: Categorical[str], code: str, position: int, layer: type[nn.Module]
) -> None:
    sample = {"pooling": code}
    with model_context(sample):
        built = PoolSlot(choice, position)
    assert type(built) is layer
    for kind in (PoolSlot, PathSamplingPoolSlot):
        with frozen_context():
            searched: Any = kind(choice, position)
        assert type(searched.freeze(sample)) is layer


@pytest.mark.parametrize("sample", [{}, {"pooling": "000"}, {"pooling": 0}])
def test_a_slot_contains_only_path_codes_that_exist(
    choice: Categorical[str], sample: dict[str, Any]
) -> None:
    searched = slot(choice, 1)
    assert searched.contains({"pooling": "010"})
    assert not searched.contains(sample)
    with pytest.raises(SampleValidationError):
        searched.freeze(sample)
    with model_context(sample), pytest.raises(SampleValidationError):
        PoolSlot(choice, 1)


def test_pooling_keeps_the_largest_of_four_pixels_and_drops_the_odd_row_and_column(
    choice: Categorical[str],
) -> None:
    pooled, _ = slots = supernet_slots(choice)
    for each in slots:
        each.resample({"pooling": "010"})
    image = torch.arange(15.0).reshape(1, 1, 3, 5)
    # By hand: rows 0-4, 5-9, 10-14; the largest of {0,1,5,6} and of {2,3,7,8}.
    assert pooled(image).tolist() == [[[[6.0, 8.0]]]]
    assert torch.equal(slots[1](image), image)


def test_a_slot_outside_a_supernet_follows_the_first_path_code(choice: Categorical[str]) -> None:
    image = torch.zeros(1, 1, 4, 4)
    assert slot(choice, 1)(image).shape == (1, 1, 2, 2)
    assert slot(choice, 0)(image).shape == (1, 1, 4, 4)


def test_what_the_first_slot_draws_reaches_the_others_through_the_memo(
    choice: Categorical[str],
) -> None:
    slots = supernet_slots(choice)
    image = torch.zeros(1, 1, 8, 8)
    seen = set()
    for _ in range(100):
        memo: dict[str, Any] = {}
        drawn = [slots[0].resample(memo)]
        memo.update(drawn[0])
        drawn.append(slots[1].resample(memo))
        assert drawn == [{"pooling": memo["pooling"]}, {}]
        pooled = "".join("1" if each(image).shape[-1] == 4 else "0" for each in slots)
        assert "0" + pooled == memo["pooling"]
        seen.add(memo["pooling"])
    # All three codes: a draw of 100 misses one with probability 3 (2/3)^100 < 1e-17.
    assert seen == set(CODES)


def test_a_forced_path_code_must_exist(choice: Categorical[str]) -> None:
    with pytest.raises(SampleValidationError, match="000"):
        supernet_slots(choice)[0].resample({"pooling": "000"})


def test_a_supernet_slot_refuses_to_run_before_an_architecture_is_sampled(
    choice: Categorical[str],
) -> None:
    with pytest.raises(RuntimeError, match="sampled before"):
        supernet_slots(choice)[0](torch.zeros(1, 1, 4, 4))


def test_export_adds_nothing_to_a_memo_that_has_the_label(choice: Categorical[str]) -> None:
    first = supernet_slots(choice)[0]
    assert first.export({})["pooling"] in CODES
    assert first.export({"pooling": "010"}) == {}
    assert first.export_probs({}) == {"pooling": dict.fromkeys(CODES, pytest.approx(1 / 3))}
    assert first.export_probs({"pooling": {}}) == {}


def test_only_slots_themselves_are_replaced(choice: Categorical[str]) -> None:
    found = PathSamplingPoolSlot.mutate(slot(choice, 2), "pools.1", {}, {})
    assert isinstance(found, PathSamplingPoolSlot)
    assert (found.choice, found.position) == (choice, 2)
    assert PathSamplingPoolSlot.mutate(nn.MaxPool2d(2), "pool", {}, {}) is False
    assert PathSamplingPoolSlot.mutate(found, "pools.1", {}, {}) is False


@pytest.mark.parametrize("strategy", [DARTS(), GumbelDARTS(), Proxyless()])
def test_differentiable_strategies_are_refused_by_name(strategy: object) -> None:
    with pytest.raises(TypeError, match=rf"{type(strategy).__name__} relaxes .* joint choice"):
        pool_slot_hooks(strategy)


def test_sampling_strategies_get_the_supernet_slot() -> None:
    assert pool_slot_hooks(RandomOneShot()) == [PathSamplingPoolSlot.mutate]


@pytest.mark.parametrize(
    "block",
    [
        residual_block(4, 6, norm_layer=supernet_norm),
        InvertedResidual(4, 6, exp_ratio=3, norm_layer=supernet_norm),
    ],
)
def test_the_supernet_norm_has_no_parameters_and_no_statistics_in_timms_blocks(
    block: nn.Module,
) -> None:
    norms = [module for module in block.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 3
    for norm in norms:
        assert list(norm.parameters()) == []
        assert norm.state_dict() == {}


def test_the_residual_block_is_timms_and_projects_only_where_the_width_changes() -> None:
    same = residual_block(4, 4, norm_layer=nn.BatchNorm2d)
    wider = residual_block(4, 8, norm_layer=nn.BatchNorm2d)
    assert type(same) is type(wider) is BasicBlock
    assert same.downsample is None
    assert {k: v.shape for k, v in wider.state_dict().items() if "downsample.0" in k} == {
        "downsample.0.weight": (8, 4, 1, 1)
    }
    assert wider(torch.zeros(2, 4, 5, 5)).shape == (2, 8, 5, 5)


@pytest.mark.parametrize(
    ("in_chs", "out_chs", "stride", "shape"),
    [(4, 6, 1, (2, 6, 5, 8)), (4, 4, 2, (2, 4, 3, 4)), (4, 6, 2, (2, 6, 3, 4))],
)
def test_an_identity_that_changes_the_shape_is_a_convolution_and_norm(
    in_chs: int, out_chs: int, stride: int, shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    layer: Any = skip(in_chs, out_chs, stride=stride, norm_layer=supernet_norm)
    x = torch.randn(2, in_chs, 5, 8)
    # 1x1, without bias or activation, on every second pixel where the resolution is halved
    taken = torch.einsum(
        "oi,bihw->bohw", layer.conv.weight[:, :, 0, 0], x[..., ::stride, ::stride]
    )
    mean = taken.mean((0, 2, 3), keepdim=True)
    var = taken.var((0, 2, 3), correction=0, keepdim=True)
    assert layer(x).shape == shape
    torch.testing.assert_close(layer(x), (taken - mean) / (var + 1e-5).sqrt())
    assert [name for name, _ in layer.named_parameters()] == ["conv.weight"]


def test_an_identity_that_keeps_the_shape_is_nothing() -> None:
    assert type(skip(4, 4, stride=1, norm_layer=supernet_norm)) is nn.Identity

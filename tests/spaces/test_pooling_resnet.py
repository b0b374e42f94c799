"""The pooling networks: their architectures, costs, layers and weights."""

from __future__ import annotations

import copy
import pickle
from itertools import combinations
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from nni.nas.space import model_context
from nni.nas.strategy import RandomOneShot
from timm.layers.drop import DropPath
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nas_ext.spaces import PoolingNetwork, PoolingResNet
from nas_ext.spaces.blocks import PathSamplingPoolSlot, PoolSlot


def supernet(space: PoolingResNet) -> PoolingResNet:
    mutated: PoolingResNet = RandomOneShot().mutate_model(space)
    return mutated


def activate(space: PoolingResNet, architecture: tuple[int, ...]) -> None:
    memo = space.search_space.decode(architecture)
    for module in space.modules():
        if isinstance(module, PathSamplingPoolSlot):
            assert module.resample(memo) == {}


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def in_context(build: Any, sample: dict[str, Any]) -> PoolingResNet:
    with model_context(sample):
        space: PoolingResNet = build()
    return space


def published(
    weights: dict[str, Tensor], stages: tuple[int, ...], widths: tuple[int, ...], x: Tensor
) -> Tensor:
    """Run the network of the thesis's section on Pooling-ResNet20, written out by hand."""

    def conv(x: Tensor, name: str, norm: str) -> Tensor:
        kernel = weights[f"{name}.weight"]
        x = F.conv2d(x, kernel, padding=kernel.shape[-1] // 2)
        return F.batch_norm(x, None, None, training=True, eps=1e-5)  # scale 1, shift 0

    starts = [sum(stages[: i + 1]) for i in range(len(stages) - 1)]
    x = F.relu(conv(x, "stem.conv", "stem.bn"))
    for layer in range(1, len(widths)):
        block = f"blocks.{layer - 1}"
        if layer in starts:
            x = F.max_pool2d(x, 2, 2)
        y = F.relu(conv(x, f"{block}.conv1", f"{block}.bn1"))
        y = conv(y, f"{block}.conv2", f"{block}.bn2")
        if widths[layer] != widths[layer - 1]:
            x = conv(x, f"{block}.downsample.0", f"{block}.downsample.1")
        x = F.relu(x + y)
    return F.linear(x.mean((2, 3)), weights["head.fc.weight"], weights["head.fc.bias"])


# Which architectures there are.


@pytest.mark.parametrize(
    ("space", "layers", "poolings"),
    [
        (PoolingResNet.resnet20(width=1), 10, 2),
        (PoolingResNet.mini(), 8, 2),
        (PoolingResNet(widths=(2, 2, 2, 4, 4, 4), poolings=3), 6, 3),
    ],
    ids=["resnet20", "mini", "general"],
)
def test_the_options_are_the_combinations_of_positions_in_their_order(
    space: PoolingResNet, layers: int, poolings: int
) -> None:
    choice: Any = space.simplify()["pooling"]
    found = [tuple(i for i, digit in enumerate(code) if digit == "1") for code in choice.values]
    assert found == list(combinations(range(1, layers), poolings))
    assert [space.search_space.code(a) for a in space.search_space] == choice.values


@pytest.mark.parametrize(
    ("number", "name"),
    # The thesis, Table 2.1.
    [
        (1, "[1,1,8]"),
        (8, "[1,8,1]"),
        (9, "[2,1,7]"),
        (24, "[4,3,3]"),
        (29, "[5,3,2]"),
        (31, "[6,1,3]"),
        (32, "[6,2,2]"),
        (34, "[7,1,2]"),
        (36, "[8,1,1]"),
    ],
)
def test_the_numbering_is_that_of_table_2_1(number: int, name: str) -> None:
    search_space = PoolingResNet.resnet20(width=1).search_space
    assert search_space.size == 36
    assert search_space.describe(search_space.at(number - 1)) == name


def test_the_slots_share_one_choice_with_one_label() -> None:
    space = PoolingResNet.resnet20(width=1)
    slots = [module for module in space.modules() if isinstance(module, PoolSlot)]
    assert [slot.position for slot in slots] == list(range(1, 10))
    assert len({id(slot.choice) for slot in slots}) == 1
    assert list(space.simplify()) == ["pooling"]


def test_the_mini_space_has_a_stem_and_seven_blocks() -> None:
    space = PoolingResNet.mini()
    assert (space.search_space.size, space.search_space.name) == (21, "mini-pooling")
    assert space.widths == (4, 4, 4, 4, 8, 8, 16, 16)
    assert (space.in_chs, len(space.blocks)) == (1, 7)


# Costs.


def test_the_parameters_are_the_published_ones() -> None:
    # The published supernet without affine norm, and the same with affine norm everywhere.
    space = PoolingResNet.resnet20()
    assert parameters(space) == 270_906
    counts = {space.parameter_count(a) for a in space.search_space}
    assert counts == {272_474}
    assert parameters(space.network(space.search_space.at(0))) == 272_474


@pytest.mark.parametrize(
    ("stages", "macs"),
    # Convolutions and head at 3x32x32, recomputed from the published networks.
    [
        ((1, 1, 8), 18_596_480),
        ((4, 3, 3), 40_813_184),
        ((5, 3, 2), 62_833_280),
        ((6, 2, 2), 76_989_056),
        ((7, 1, 2), 91_144_832),
        ((8, 1, 1), 149_340_800),
    ],
)
def test_the_macs_are_the_published_ones(stages: tuple[int, ...], macs: int) -> None:
    space = PoolingResNet.resnet20()
    assert space.macs(space.search_space.from_stages(stages), image_size=(32, 32)) == macs


@pytest.mark.parametrize(
    ("space", "image_size"),
    [
        (PoolingResNet.resnet20(), (32, 32)),
        (PoolingResNet.resnet20(width=3, num_classes=7, in_chs=1), (28, 28)),
        (PoolingResNet.mini(), (8, 8)),
        (PoolingResNet.mini(in_chs=4), (30, 18)),
        (PoolingResNet(widths=(5, 3, 3, 7), poolings=2, num_classes=2), (7, 13)),
        (PoolingResNet(widths=(2, 4), poolings=1), (3, 2)),
    ],
    ids=["resnet20", "narrow", "mini", "oblong", "odd", "smallest"],
)
def test_macs_and_parameters_are_those_that_torch_counts(
    space: PoolingResNet, image_size: tuple[int, int]
) -> None:
    for architecture in space.search_space:
        network = space.network(architecture).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.zeros(1, space.in_chs, *image_size))
        macs = space.macs(architecture, image_size=image_size)
        assert macs == counter.get_total_flops() / 2
        assert space.parameter_count(architecture) == parameters(network)


@pytest.mark.parametrize("image_size", [(3, 8), (8, 3), (0, 0)])
def test_images_too_small_for_the_poolings_are_refused(image_size: tuple[int, int]) -> None:
    space = PoolingResNet.mini()
    size = f"{image_size[0]}x{image_size[1]}"
    with pytest.raises(ValueError, match=rf"4x4 for the 2 poolings of space .* got {size}"):
        space.check_image_size(image_size)
    late = space.search_space.from_stages((6, 1, 1))
    with pytest.raises(ValueError, match=rf"architecture \[6,1,1\] .* got {size}"):
        space.macs(late, image_size=image_size)


def test_the_smallest_image_that_is_accepted_runs() -> None:
    space = PoolingResNet.mini()
    space.check_image_size((4, 4))
    network = space.network(space.search_space.at(0)).eval()
    assert network(torch.zeros(1, 1, 4, 4)).shape == (1, 10)
    with pytest.raises(RuntimeError):
        network(torch.zeros(1, 1, 3, 8))


# The supernet.


def test_every_architecture_trains_all_weights_and_equals_its_frozen_network_bit_for_bit() -> None:
    torch.manual_seed(0)
    space = supernet(PoolingResNet.resnet20(width=4))
    images = torch.randn(4, 3, 16, 16)
    outputs = []
    for architecture in space.search_space:
        space.zero_grad()
        activate(space, architecture)
        output = space(images)
        assert output.shape == (4, 10)
        output.logsumexp(1).sum().backward()
        for name, parameter in space.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
        frozen = space.freeze(space.search_space.decode(architecture))
        assert torch.equal(frozen(images), output)
        outputs.append(output.detach())
    assert len(outputs) == 36
    assert len({tuple(output.flatten().tolist()) for output in outputs}) == 36


def test_the_layers_run_at_the_resolutions_that_the_architecture_says() -> None:
    space = supernet(PoolingResNet.resnet20(width=1))
    sides: list[int] = []
    for layer in (space.stem, *space.blocks):
        layer.register_forward_hook(lambda _, __, output: sides.append(output.shape[-1]))
    for architecture in space.search_space:
        sides.clear()
        activate(space, architecture)
        space(torch.zeros(2, 3, 32, 32))
        stages = space.search_space.stages(architecture)
        assert [sides.count(side) for side in (32, 16, 8)] == list(stages)
        assert sides == sorted(sides, reverse=True)


@pytest.mark.parametrize("stages", [(4, 3, 3), (1, 1, 8), (7, 1, 2)])
def test_the_layers_compute_what_the_thesis_says(stages: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    space = supernet(PoolingResNet.resnet20(width=4))
    activate(space, space.search_space.from_stages(stages))
    images = torch.randn(4, 3, 16, 16)
    expected = published(dict(space.state_dict()), stages, space.widths, images)
    torch.testing.assert_close(space(images), expected)


def test_the_supernet_normalises_with_the_batch_in_eval_mode_too() -> None:
    torch.manual_seed(0)
    space = supernet(PoolingResNet.mini()).eval()
    activate(space, space.search_space.at(0))
    images = torch.randn(4, 1, 8, 8)
    assert not torch.allclose(space(images)[:2], space(images[:2]))
    network = space.network(space.search_space.at(0)).eval()
    torch.testing.assert_close(network(images)[:2], network(images[:2]))


def test_a_frozen_network_shares_no_parameter_with_the_supernet() -> None:
    space = supernet(PoolingResNet.mini())
    frozen = space.freeze(space.search_space.decode(space.search_space.at(3)))
    mine = {parameter.data_ptr() for parameter in space.parameters()}
    assert mine.isdisjoint(parameter.data_ptr() for parameter in frozen.parameters())


# One architecture as an ordinary network.


def test_under_model_context_the_space_is_the_ordinary_network() -> None:
    space = PoolingResNet.mini()
    images = torch.randn(4, 1, 8, 8)
    for architecture in space.search_space:
        torch.manual_seed(1)
        built = in_context(PoolingResNet.mini, space.search_space.decode(architecture))
        torch.manual_seed(1)
        network = space.network(architecture)
        assert not any(isinstance(module, PoolSlot) for module in built.modules())
        assert list(network.state_dict()) == list(built.state_dict())
        assert torch.equal(network(images), built(images))  # the same seed, the same weights
        network = space.network(architecture)
        assert not torch.equal(network(images), built(images))
        network.load_state_dict(built.state_dict(), strict=True)
        assert torch.equal(network.eval()(images), built.eval()(images))


def test_the_frozen_supernets_weights_have_the_networks_names() -> None:
    space = supernet(PoolingResNet.mini())
    architecture = space.search_space.at(5)
    frozen = space.freeze(space.search_space.decode(architecture))
    network = space.network(architecture)
    missing, unexpected = network.load_state_dict(frozen.state_dict(), strict=False)
    norms = {
        name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)
    }
    assert unexpected == []
    assert {name.rpartition(".")[0] for name in missing} == norms
    # In training mode, with the initial scale and shift, both norms are the batch's.
    images = torch.randn(4, 1, 8, 8)
    assert torch.equal(network.train()(images), frozen(images))


def test_nothing_in_an_ordinary_network_is_nnis() -> None:
    space = PoolingResNet.mini()
    for module in space.network(space.search_space.at(0)).modules():
        bases = {base.__module__.partition(".")[0] for base in type(module).__mro__}
        assert bases <= {"builtins", "nas_ext", "timm", "torch"}


def test_an_ordinary_network_survives_pickle_and_deepcopy() -> None:
    space = PoolingResNet.mini()
    network = space.network(space.search_space.at(7)).eval()
    images = torch.randn(2, 1, 8, 8)
    for twin in (pickle.loads(pickle.dumps(network)), copy.deepcopy(network)):
        assert torch.equal(twin(images), network(images))


def test_the_batch_norm_of_an_ordinary_network_is_affine_and_tracked() -> None:
    space = PoolingResNet.mini()
    built = in_context(PoolingResNet.mini, space.search_space.decode(space.search_space.at(0)))
    for network in (space.network(space.search_space.at(0)), built):
        norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        assert len(norms) == 1 + 2 * 7 + 2  # stem, two a block, two projections
        assert all(norm.affine and norm.track_running_stats for norm in norms)


def test_classes_and_channels_can_differ_from_those_of_the_search() -> None:
    space = PoolingResNet.mini()
    network = space.network(space.search_space.at(0), num_classes=3, in_chs=2)
    assert network(torch.zeros(2, 2, 8, 8)).shape == (2, 3)


def test_stochastic_depth_grows_linearly_and_changes_no_name() -> None:
    space = PoolingResNet.mini()
    architecture = space.search_space.at(0)
    network = space.network(architecture, drop_path_rate=0.3)
    rates = [module.drop_prob for module in network.modules() if isinstance(module, DropPath)]
    # Seven blocks: 0.3 i / 6 for i = 0..6, of which the first drops nothing and has no layer.
    assert rates == pytest.approx([0.05, 0.10, 0.15, 0.20, 0.25, 0.30])
    assert list(network.state_dict()) == list(space.network(architecture).state_dict())


# Errors.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"widths": (4, 0, 4), "poolings": 1}, r"widths must be positive integers, got \[4, 0"),
        ({"widths": (4, 2.0, 4), "poolings": 1}, "widths must be positive integers"),
        ({"widths": (4, 4), "poolings": 2}, "layers must be more than the 2 poolings, got 2"),
        ({"widths": (4, 4), "poolings": 0}, "poolings must be a positive integer, got 0"),
        ({"widths": (), "poolings": 1}, r"widths must be positive integers, got \[\]"),
        ({"widths": (4, 4), "poolings": 1, "num_classes": 0}, "num_classes .* got 0"),
        ({"widths": (4, 4), "poolings": 1, "in_chs": True}, "in_chs .* got True"),
        ({"widths": (1,) * 25, "poolings": 3}, "at most 2,000 .* got 2,024"),
    ],
)
def test_layers_that_make_no_space_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PoolingResNet(**arguments)


def test_a_width_that_is_not_positive_is_refused() -> None:
    with pytest.raises(ValueError, match="width must be a positive integer, got -1"):
        PoolingResNet.resnet20(width=-1)


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_a_drop_path_rate_that_is_no_share_is_refused(rate: float) -> None:
    space = PoolingResNet.mini()
    with pytest.raises(ValueError, match=rf"drop_path_rate must lie in \[0, 1\), got {rate}"):
        space.network(space.search_space.at(0), drop_path_rate=rate)


def test_an_architecture_of_another_space_is_refused_everywhere() -> None:
    space = PoolingResNet.mini()
    other = PoolingResNet.resnet20(width=1).search_space.at(0)
    for use in (
        space.network,
        space.parameter_count,
        lambda architecture: space.macs(architecture, image_size=(8, 8)),
    ):
        with pytest.raises(ValueError, match="must exist in space 'mini-pooling'"):
            use(other)


@pytest.mark.parametrize("code", ["101", "01", "012"])
def test_a_path_code_that_does_not_fit_the_widths_is_refused(code: str) -> None:
    with pytest.raises(ValueError, match=f"code must be a 0 and 2 digits 0 or 1, got '{code}'"):
        PoolingNetwork((4, 4, 4), code, num_classes=2, in_chs=1)

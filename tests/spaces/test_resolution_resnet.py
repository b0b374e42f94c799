"""The multi-resolution networks: their architectures, costs, layers and weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from nni.mutable import frozen_context
from nni.nas.space import model_context
from nni.nas.strategy import DARTS, RandomOneShot
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nas_ext.nni import BaseSuperNetModule
from nas_ext.oneshot.mixed import MixedLayer
from nas_ext.spaces.blocks import residual_block, supernet_norm
from nas_ext.spaces.resolution_resnet import AtResolution, ResolutionNetwork, ResolutionResNet

# The configurations found in chapter 2: DARTS shared, GAEA, not shared with equal and random start
FOUND = [
    (0, 1, 2, 2, 2, 0, 2, 2, 0),
    (0, 2, 2, 0, 2, 2, 2, 1, 0),
    (0, 1, 1, 2, 2, 2, 1, 1, 0),
    (0, 1, 2, 2, 2, 0, 1, 1, 0),
]


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def small(**settings: Any) -> ResolutionResNet:
    torch.manual_seed(0)
    return ResolutionResNet(**{"widths": (4, 4, 6), "num_classes": 3, "in_chs": 1, **settings})


def activate(space: nn.Module, sample: dict[str, Any]) -> None:
    modules: Any = space.modules()
    for module in modules:
        if isinstance(module, BaseSuperNetModule):
            module.resample(sample)


# Which architectures there are, and what they cost.


def test_the_published_space_has_the_published_sizes() -> None:
    space = ResolutionResNet.resnet20()
    # Golden number 13, from the published code: 148,532 weights, none of them in norms
    assert parameters(space) == 148_532
    # Golden number 1: 9 layers, 3 resolutions
    assert space.search_space.size == 3**9 == 19_683
    labels = [choice.label for choice in space.search_space.choices]
    assert labels == [f"layer{layer}" for layer in range(2, 11)]
    assert {choice.options for choice in space.search_space.choices} == {(0, 1, 2)}


def test_nni_sees_the_choices_of_the_search_space() -> None:
    space = ResolutionResNet.resnet20(width=1)
    simplified: Any = space.simplify()
    listed = {label: tuple(c.values) for label, c in simplified.items()}
    assert listed == {choice.label: choice.options for choice in space.search_space.choices}


def test_the_published_findings_are_architectures_of_the_space() -> None:
    space = ResolutionResNet.resnet20().search_space
    assert all(architecture in space for architecture in FOUND)
    assert space.describe(FOUND[0]) == "0-1-2-2-2-0-2-2-0"


def test_weights_of_their_own_are_three_times_those_of_the_blocks() -> None:
    stem = 9 * 3 * 16
    for weights in ("equal", "independent"):
        space = ResolutionResNet.resnet20(weights=weights)
        assert parameters(space) == stem + 3 * (148_532 - stem)


@pytest.mark.parametrize("architecture", [(0,) * 9, (2,) * 9, *FOUND])
def test_costs_are_those_that_torch_counts(architecture: tuple[int, ...]) -> None:
    space = ResolutionResNet.resnet20(width=2, num_classes=5)
    network = space.network(architecture)
    for height, width in ((32, 32), (8, 10), (7, 5)):
        with FlopCounterMode(display=False) as counter:
            network(torch.randn(2, 3, height, width))
        counted = counter.get_total_flops() // (2 * 2)  # two images, two operations each
        assert space.macs(architecture, image_size=(height, width)) == counted
    assert space.parameter_count(architecture) == parameters(network)


# The blocks.


def test_resolution_0_is_the_block_itself_and_each_one_more_halves_once() -> None:
    torch.manual_seed(0)
    block = residual_block(2, 3, norm_layer=supernet_norm)
    x = torch.randn(4, 2, 8, 8)
    assert torch.equal(AtResolution(block, 0)(x), block(x))
    for resolution in (1, 2):
        # A maximum over s x s pixels, and each result for s x s pixels, is what the halvings are
        s = 2**resolution
        pooled = x.reshape(4, 2, 8 // s, s, 8 // s, s).amax((3, 5))
        expected = block(pooled).repeat_interleave(s, 2).repeat_interleave(s, 3)
        assert torch.equal(AtResolution(block, resolution)(x), expected)


@pytest.mark.parametrize("weights", ["shared", "equal", "independent"])
def test_the_mixed_block_is_the_weighted_sum_of_the_resolutions(weights: str) -> None:
    space = small(weights=weights)
    choice: Any = space.blocks[1]
    with frozen_context():
        layer: Any = MixedLayer(choice.candidates, choice.label)
    layer.mix(torch.tensor([0.5, 0.3, 0.2]))
    x = torch.randn(2, 4, 8, 8)
    parts = [layer[option](x) for option in range(3)]
    assert torch.equal(layer(x), 0.5 * parts[0] + 0.3 * parts[1] + 0.2 * parts[2])
    assert not any(torch.allclose(parts[0], part) for part in parts[1:])


def test_shared_weights_are_one_block_and_others_begin_as_asked() -> None:
    for weights, same_object, same_values in (
        ("shared", True, True),
        ("equal", False, True),
        ("independent", False, False),
    ):
        layers: Any = small(weights=weights).blocks
        for choice in layers:
            blocks = [candidate.block for candidate in choice]
            assert all((block is blocks[0]) == same_object for block in blocks[1:])
            for block in blocks[1:]:
                assert torch.equal(block.conv1.weight, blocks[0].conv1.weight) == same_values


def test_a_network_is_the_equations_written_out() -> None:
    space = small()
    network = space.network((2, 0, 1))
    weights = network.state_dict()
    x = torch.randn(3, 1, 8, 8)

    def conv(x: Tensor, name: str, norm: str) -> Tensor:
        kernel = weights[f"{name}.weight"]
        x = F.conv2d(x, kernel, padding=kernel.shape[-1] // 2)
        return F.batch_norm(x, None, None, training=True, eps=1e-5)  # scale 1, shift 0

    y = F.relu(conv(x, "stem.conv", "stem.bn"))
    for at, resolution in enumerate((2, 0, 1)):
        block = f"blocks.{at}.block"
        y = F.max_pool2d(y, 2**resolution)
        z = conv(F.relu(conv(y, f"{block}.conv1", f"{block}.bn1")), f"{block}.conv2", "")
        if f"{block}.downsample.0.weight" in weights:
            y = conv(y, f"{block}.downsample.0", "")
        y = F.interpolate(F.relu(y + z), scale_factor=2**resolution, mode="nearest")
    torch.testing.assert_close(network(x), y.mean((2, 3)))


def test_images_whose_sides_are_odd_keep_their_size() -> None:
    x = torch.randn(2, 4, 7, 5)
    choice: Any = small().blocks[0]
    for candidate in choice:
        assert candidate(x).shape == (2, 4, 7, 5)


# NNI's side.


@pytest.mark.parametrize("weights", ["shared", "independent"])
def test_a_sample_is_the_same_network_frozen_in_context_and_plain(weights: str) -> None:
    architecture, x = (1, 0, 2), torch.randn(4, 1, 8, 8)
    space = small(weights=weights)
    sample = space.search_space.decode(architecture)
    with model_context(sample):
        built = small(weights=weights)
    plain = space.network(architecture)
    assert built.state_dict().keys() == plain.state_dict().keys()
    assert any(isinstance(m, nn.BatchNorm2d) and m.affine for m in built.modules())
    frozen = space.freeze(sample)
    plain.load_state_dict(frozen.state_dict(), strict=False)
    torch.testing.assert_close(frozen(x), plain(x))
    supernet = RandomOneShot().mutate_model(space)
    activate(supernet, sample)
    assert torch.equal(supernet(x), frozen(x))


def test_nnis_own_darts_accepts_the_space() -> None:
    supernet: Any = DARTS().mutate_model(small())
    assert supernet(torch.randn(2, 1, 8, 8)).shape == (2, 3)


# Settings.


def test_the_arguments_name_the_registered_space() -> None:
    assert ResolutionResNet.resnet20(width=8, weights="equal", in_chs=1).arguments == {
        "name": "resolution-resnet20",
        "width": 8,
        "weights": "equal",
        "num_classes": 10,
        "in_chs": 1,
    }
    given = small(resolutions=2).arguments
    assert given.pop("name") == "resolution-resnet"
    again = ResolutionResNet(**given)
    assert again.arguments == small(resolutions=2).arguments
    assert again.search_space.size == 2**3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"widths": ()}, r"widths must be positive integers, got \[\]"),
        ({"widths": (4, 0)}, r"widths must be positive integers, got \[4, 0\]"),
        ({"resolutions": 0}, "resolutions must be a positive integer, got 0"),
        ({"num_classes": 0}, "num_classes must be a positive integer, got 0"),
        ({"weights": "own"}, r"weights must be one of \['shared', 'equal', 'independent'\], got"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**settings)


def test_a_wrong_network_is_refused() -> None:
    with pytest.raises(ValueError, match="resolution must not be negative, got -1"):
        ResolutionNetwork((2, 2), (0, -1), num_classes=2, in_chs=1)
    with pytest.raises(ValueError, match=r"resolutions must be 2 numbers.*got \[0\]"):
        ResolutionNetwork((2, 2), (0,), num_classes=2, in_chs=1)
    with pytest.raises(ValueError, match="architecture must exist"):
        small().network((0, 0, 3))


def test_images_too_small_for_the_halvings_are_refused() -> None:
    space = small()
    space.check_image_size((4, 4))
    space.check_image_size((2, 2), (1, 1, 0))
    with pytest.raises(ValueError, match=r"at least 4x4 for the 2 halvings of space.*got 8x3"):
        space.check_image_size((8, 3))
    with pytest.raises(ValueError, match="at least 4x4 for the 2 halvings of architecture 0-0-2"):
        space.macs((0, 0, 2), image_size=(2, 2))


def test_stochastic_depth_grows_from_the_first_block_to_the_last() -> None:
    network = small().network((0, 0, 0), drop_path_rate=0.2)
    blocks: Any = network.blocks
    rates = [getattr(block.block.drop_path, "drop_prob", 0.0) for block in blocks]
    assert rates == pytest.approx([0.0, 0.1, 0.2])

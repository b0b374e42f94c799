"""ResNet18 and ResNet50 that halve by stride: architectures, costs, layers and weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from nni.nas.space import model_context
from nni.nas.strategy import DARTS, RandomOneShot
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nas_ext.architecture import Architecture
from nas_ext.data import digits, loader
from nas_ext.nni import Lightning, MutableModule, Trainer
from nas_ext.oneshot import SearchExperiment, SupernetTraining
from nas_ext.spaces import PoolingResNet
from nas_ext.spaces.blocks import PathSamplingSlot, Slot
from nas_ext.spaces.strided_blocks import Subsample
from nas_ext.spaces.strided_network import Stem, StridedNetwork
from nas_ext.spaces.strided_resnet import StridedResNet
from nas_ext.strategies import LearnedTree


def build(depth: int, stem: Stem = "cifar", **arguments: Any) -> StridedResNet:
    arguments = {"width": 2, **arguments}
    make = PoolingResNet.resnet18 if depth == 18 else PoolingResNet.resnet50
    return make(stem=stem, **arguments)


def supernet(space: StridedResNet) -> StridedResNet:
    mutated: StridedResNet = RandomOneShot().mutate_model(space)
    return mutated


def activate(space: StridedResNet, architecture: Architecture) -> None:
    memo = space.search_space.decode(architecture)
    for module in space.modules():
        if isinstance(module, PathSamplingSlot):
            assert module.resample(memo) == {}


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def sides(network: Any, images: Tensor) -> list[int]:
    """Return the side of the feature maps behind the stem and behind each block."""
    found: list[int] = []
    layers = (network.stem, *network.blocks)
    hooks = [
        layer.register_forward_hook(lambda _, __, output: found.append(output.shape[-1]))
        for layer in layers
    ]
    network(images)
    for hook in hooks:
        hook.remove()
    return found


KINDS: list[tuple[int, Stem]] = [
    (18, "cifar"),
    (18, "imagenet"),
    (50, "cifar"),
    (50, "imagenet"),
]
kinds = pytest.mark.parametrize(("depth", "stem"), KINDS)


# Which architectures there are.


@pytest.mark.parametrize(
    ("depth", "stem", "size", "default", "place"),
    # The thesis, Table 2.7 and chapter 2: sizes, default architectures and their 0-based places.
    [
        (18, "cifar", 56, (3, 2, 2, 2), 41),
        (18, "imagenet", 35, (2, 2, 2, 2), 20),
        (50, "cifar", 560, (4, 4, 6, 3), 309),
        (50, "imagenet", 455, (3, 4, 6, 3), 204),
    ],
)
def test_sizes_and_defaults_are_the_published_ones(
    depth: int, stem: Stem, size: int, default: tuple[int, ...], place: int
) -> None:
    space = build(depth, stem)
    assert space.search_space.size == size
    architecture = space.default_architecture
    assert architecture is not None
    assert space.search_space.stages(architecture) == default
    assert space.search_space.index(architecture) == place


@kinds
def test_the_slots_share_one_choice_with_one_label(depth: int, stem: Stem) -> None:
    space = build(depth, stem)
    slots = [module for module in space.modules() if isinstance(module, Slot)]
    assert len({id(slot.choice) for slot in slots}) == 1
    # Every block that may halve has its 3x3 convolution and its shortcut in a slot.
    searched = {18: 8, 50: 16}[depth] - (stem == "imagenet")
    assert len(slots) == 2 * searched
    assert list(space.simplify()) == ["pooling"]
    choice: Any = space.simplify()["pooling"]
    assert choice.values == [space.search_space.code(a) for a in space.search_space]


# Costs.


def test_the_parameters_are_the_published_ones() -> None:
    # Supernets have no affine norm; the thesis's tables and the published standalone networks.
    assert parameters(PoolingResNet.resnet18()) == 11_164_362
    assert parameters(PoolingResNet.resnet18(num_classes=100)) == 11_210_532
    imagenet = PoolingResNet.resnet18(stem="imagenet", num_classes=1000)
    assert parameters(imagenet) == 11_679_912
    assert imagenet.parameter_count(imagenet.search_space.at(0)) == 11_689_512
    assert parameters(PoolingResNet.resnet50(stem="imagenet", num_classes=101)) == 23_661_861
    cifar = PoolingResNet.resnet50(num_classes=100)
    assert cifar.parameter_count(cifar.search_space.at(0)) == 23_705_252


@kinds
@pytest.mark.parametrize("image_size", [(32, 32), (37, 45)])
def test_macs_and_parameters_are_those_that_torch_counts(
    depth: int, stem: Stem, image_size: tuple[int, int]
) -> None:
    space = build(depth, stem, num_classes=7, in_chs=2)
    found = list(space.search_space)
    for architecture in {found[0], found[-1], *found[:: len(found) // 5]}:
        network = space.network(architecture).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.zeros(1, 2, *image_size))
        macs = space.macs(architecture, image_size=image_size)
        assert macs == counter.get_total_flops() / 2
        assert space.parameter_count(architecture) == parameters(network)


def test_the_usual_networks_are_timms_own() -> None:
    # timm's resnet18 and resnet50 for ImageNet: 1.81 and 4.09 billion macs, counted here anew.
    import timm

    for depth in (18, 50):
        space = build(depth, "imagenet", width=64, num_classes=1000)
        architecture = space.default_architecture
        assert architecture is not None
        torch.manual_seed(0)
        network = space.network(architecture).eval()
        other = timm.create_model(f"resnet{depth}").eval()
        # The same layers in the same order, under other names.
        mine = [t for name, t in network.state_dict().items() if "num_batches" not in name]
        theirs = [name for name in other.state_dict() if "num_batches" not in name]
        other.load_state_dict(dict(zip(theirs, mine, strict=True)), strict=False)
        images = torch.randn(1, 3, 64, 64)
        with torch.no_grad():
            torch.testing.assert_close(network(images), other(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("stem", "least"), [("cifar", 8), ("imagenet", 32)])
def test_images_too_small_for_the_halvings_are_refused(stem: Stem, least: int) -> None:
    space = build(18, stem)
    space.check_image_size((least, least))
    with pytest.raises(ValueError, match=rf"at least {least}x{least} for the 3 poolings"):
        space.check_image_size((least, least - 1))
    late = space.search_space.at(space.search_space.size - 1)
    with pytest.raises(ValueError, match=r"architecture \[\d,1,1,1\] of space 'pooling-resnet18'"):
        space.macs(late, image_size=(least - 1, least))


# The networks.


@kinds
def test_every_architecture_halves_three_times_the_last_block_included(
    depth: int, stem: Stem
) -> None:
    # In the published code of ResNet50 the last block never halved: n_3 = 1 had two halvings.
    space = supernet(build(depth, stem, width=1, in_chs=1))
    side = 8 if stem == "cifar" else 32
    images = torch.zeros(2, 1, side, side)
    last = 0
    with torch.no_grad():
        for place, architecture in enumerate(space.search_space):
            activate(space, architecture)
            stages = space.search_space.stages(architecture)
            expected = [8 >> level for level, n in enumerate(stages) for _ in range(n)]
            expected = expected if stem == "cifar" else [8, *expected]
            assert sides(space, images) == expected
            if place % 20 == 0:
                assert sides(space.network(architecture), images) == expected
            last += stages[-1] == 1
    assert last == {56: 21, 35: 15, 560: 105, 455: 91}[space.search_space.size]  # C(L - 2, 2)


def test_an_identity_shortcut_takes_every_second_pixel() -> None:
    # The published code: a depth-wise 1x1 convolution of ones with stride 2.
    images = torch.randn(2, 3, 5, 8)
    ones = torch.ones(3, 1, 1, 1)
    assert torch.equal(Subsample()(images), F.conv2d(images, ones, stride=2, groups=3))


def test_a_network_has_no_slots_and_strides_where_the_code_says() -> None:
    space = build(50)
    network: Any = space.network(space.search_space.from_code("01000000100000001"))
    assert not any(isinstance(module, MutableModule) for module in network.modules())
    strides = [block.conv2.stride for block in network.blocks]
    assert [at for at, stride in enumerate(strides) if stride == (2, 2)] == [0, 7, 15]
    # Block 0 has a projection, block 7 has one too (the width doubles), block 15 has none.
    assert isinstance(network.blocks[0].downsample[0], nn.Conv2d)
    assert network.blocks[0].downsample[0].stride == (2, 2)
    assert isinstance(network.blocks[15].downsample, Subsample)


@pytest.mark.parametrize("code", ["1000000", "0000000012", "0" * 8, ""])
def test_a_path_code_that_does_not_fit_is_refused(code: str) -> None:
    with pytest.raises(ValueError, match=r"code must be a 0 and 8 digits 0 or 1"):
        StridedNetwork(18, code, stem="cifar", width=2, num_classes=2, in_chs=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 34}, r"depth must be one of \[18, 50\], got 34"),
        (
            {"depth": 18, "stem": "none"},
            r"stem must be one of \['cifar', 'imagenet'\], got 'none'",
        ),
        ({"depth": 18, "width": 0}, "width must be a positive integer, got 0"),
        ({"depth": 18, "in_chs": 0}, "in_chs must be a positive integer, got 0"),
    ],
)
def test_a_wrong_argument_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StridedResNet(**arguments)


# The supernet.


@kinds
def test_an_active_architecture_equals_its_frozen_and_its_plain_network_bit_for_bit(
    depth: int, stem: Stem
) -> None:
    torch.manual_seed(0)
    space = supernet(build(depth, stem))
    images = torch.randn(4, 3, 32, 32)
    found = list(space.search_space)
    for architecture in found if depth == 18 else found[::97]:
        space.zero_grad()
        activate(space, architecture)
        output = space(images)
        output.logsumexp(1).sum().backward()
        for name, parameter in space.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
        frozen: Any = space.freeze(space.search_space.decode(architecture))
        assert not any(isinstance(module, Slot) for module in frozen.blocks.modules())
        assert torch.equal(frozen(images), output)
        plain = space.network(architecture).train()
        missing, unexpected = plain.load_state_dict(frozen.state_dict(), strict=False)
        assert unexpected == []
        norms = {n for n, m in plain.named_modules() if isinstance(m, nn.BatchNorm2d)}
        assert {name.rpartition(".")[0] for name in missing} == norms
        assert torch.equal(plain(images), output)


def test_a_frozen_network_shares_no_parameter_with_the_supernet() -> None:
    space = supernet(build(18))
    frozen = space.freeze(space.search_space.decode(space.search_space.at(3)))
    mine = {parameter.data_ptr() for parameter in space.parameters()}
    assert mine.isdisjoint(parameter.data_ptr() for parameter in frozen.parameters())


@kinds
def test_under_model_context_the_space_is_the_ordinary_network(depth: int, stem: Stem) -> None:
    space = build(depth, stem)
    images = torch.randn(2, 3, 32, 32)
    for architecture in [*list(space.search_space)[::171], space.search_space.at(0)]:
        torch.manual_seed(1)
        with model_context(space.search_space.decode(architecture)):
            built = build(depth, stem)
        torch.manual_seed(1)
        network = space.network(architecture)
        assert not any(isinstance(module, Slot) for module in built.modules())
        assert list(network.state_dict()) == list(built.state_dict())
        assert torch.equal(network(images), built(images))


@kinds
def test_the_chain_of_layers_is_the_forward(depth: int, stem: Stem) -> None:
    torch.manual_seed(0)
    space = supernet(build(depth, stem))
    activate(space, space.search_space.at(7))
    images = torch.randn(2, 3, 32, 32)
    x = images
    for layer, _ in space.forward_chain():
        x = layer(x)
    assert torch.equal(x, space(images))
    # A CIFAR stem is layer 1, which no choice concerns; behind an ImageNet stem block 1 is it.
    choices = [count for _, count in space.forward_chain()]
    last = len(space.search_space.choices)
    start = [0, *range(1, last + 1)] if stem == "cifar" else [0, 0, *range(1, last + 1)]
    assert choices == [*start, last]


def test_darts_is_refused_before_it_touches_the_space() -> None:
    space = build(18)
    with pytest.raises(TypeError, match="DARTS relaxes each layer by itself"):
        DARTS().mutate_model(space)


def test_a_short_search_ranks_architectures_above_chance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    data = digits(seed=0)
    val = data.val.select(torch.arange(256))
    trainer = Trainer(
        max_steps=60,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    evaluator = Lightning(
        SupernetTraining(),
        trainer,
        train_dataloaders=loader(data.train, data, batch_size=32, train=True, seed=0),
        val_dataloaders=loader(val, data, batch_size=64, train=False, drop_last=True),
    )
    strategy, space = LearnedTree(seed=0), build(18, width=8, in_chs=1)
    experiment = SearchExperiment(space, evaluator, strategy, out=tmp_path / "run")
    experiment.run()
    (sample,) = experiment.export_top_models(1, formatter="dict")
    experiment.stop()
    best = strategy.result.best
    assert space.search_space.encode(sample) == best.architecture
    assert strategy.result.space["size"] == 56
    # Ten classes: chance is .1 with a deviation of .019 over 256 images, the best of 56 .15.
    assert best.accuracy > 0.2

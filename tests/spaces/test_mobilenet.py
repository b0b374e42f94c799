"""The MobileNetV2 space: its layers, weights and costs, and a search at 64 pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from nni.nas.space import model_context
from timm.models._efficientnet_blocks import InvertedResidual, SqueezeExcite
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode

from nas_ext.architecture import Architecture
from nas_ext.nni import BaseSuperNetModule, Lightning, RandomOneShot, Trainer
from nas_ext.oneshot import SearchExperiment, SupernetTraining
from nas_ext.results import SearchResult
from nas_ext.samplers.prototype import PrototypeSampler
from nas_ext.spaces.mobilenet import MobileNetV2Space
from nas_ext.spaces.registry import Space
from nas_ext.strategies import PrototypeDensity

NARROW: dict[str, Any] = {"stem": 8, "first": 8, "widths": (8, 8, 16, 16, 16, 24), "head": 16}


def narrow(**arguments: Any) -> MobileNetV2Space:
    """All 21 layers with few channels."""
    torch.manual_seed(0)
    return MobileNetV2Space(**{**NARROW, "num_classes": 4, **arguments})


def short(**arguments: Any) -> MobileNetV2Space:
    """Three layers: one that changes the shape, one that keeps it, one that halves again."""
    stages = {"widths": (16, 24), "layers": (2, 1), "strides": (1, 2)}
    return narrow(**{"first": 8, **stages, **arguments})


def activate(space: nn.Module, sample: dict[str, Any]) -> None:
    modules: Any = space.modules()
    for module in modules:
        if isinstance(module, BaseSuperNetModule):
            module.resample(sample)


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def counted(network: nn.Module, *size: int) -> float:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(torch.zeros(1, *size))
    return float(counter.get_total_flops() / 2)


def by_hand(
    network: nn.Module, architecture: Architecture, strides: list[int], x: Tensor
) -> Tensor:
    """Run the network of section 6.5, written out, in training mode with initial norms."""
    weights = dict(network.state_dict())

    def conv(x: Tensor, name: str, stride: int = 1) -> Tensor:
        kernel = weights[f"{name}.weight"]
        groups = x.shape[1] // kernel.shape[1]
        x = F.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2, groups=groups)
        return F.batch_norm(x, None, None, training=True, eps=1e-5)

    def gate(x: Tensor, name: str) -> Tensor:
        squeezed = x.mean((2, 3), keepdim=True)
        for part, then in (("conv_reduce", torch.relu), ("conv_expand", torch.sigmoid)):
            weight, bias = weights[f"{name}.{part}.weight"], weights[f"{name}.{part}.bias"]
            squeezed = then(F.conv2d(squeezed, weight, bias))
        return x * squeezed

    x = F.relu6(conv(x, "stem.conv", 2))
    y = conv(F.relu6(conv(x, "blocks.0.conv_dw")), "blocks.0.conv_pw")
    x = x + y if x.shape == y.shape else y
    for at, (option, stride) in enumerate(zip(architecture, strides, strict=True)):
        block = f"blocks.{at + 1}"
        if option == 0:
            x = conv(x, f"{block}.conv", stride) if f"{block}.conv.weight" in weights else x
            continue
        y = F.relu6(conv(x, f"{block}.conv_pw"))
        y = F.relu6(conv(y, f"{block}.conv_dw", stride))
        y = gate(y, f"{block}.se") if option > 6 else y
        y = conv(y, f"{block}.conv_pwl")
        x = x + y if x.shape == y.shape else y
    x = F.relu6(conv(x, "conv_head.conv"))
    return F.linear(x.mean((2, 3)), weights["head.fc.weight"], weights["head.fc.bias"])


@pytest.fixture(scope="module")
def full() -> MobileNetV2Space:
    """The published space, with squeeze-and-excitation."""
    return MobileNetV2Space()


# Which architectures there are, and what they cost.


def test_the_space_has_the_published_size() -> None:
    space = narrow()
    assert space.search_space.size == 13**21 == 247064529073450392704413  # golden number 1
    assert narrow(squeeze_excite=False).search_space.size == 7**21
    assert isinstance(space, Space)
    simplified: Any = space.simplify()
    listed = {label: tuple(choice.values) for label, choice in simplified.items()}
    choices: Any = space.search_space.choices
    assert listed == {choice.label: choice.options for choice in choices}


@pytest.mark.parametrize(
    ("name", "millions", "count"),
    # Golden number 14: macs to three decimals, and parameters of the networks with affine norm.
    [
        ("identity", 50.879, 1_789_048),
        ("mb3_k3", 291.084, 3_203_992),
        ("mb6_k3", 539.944, 4_708_840),
        ("mb6_k7", 693.483, 5_135_080),
        ("mb6_k7_se", 697.455, 9_120_496),
    ],
)
def test_the_networks_have_the_published_macs_and_parameters(
    name: str, millions: float, count: int, full: MobileNetV2Space
) -> None:
    space = full
    architecture = (space.search_space.plan.names.index(name),) * 21
    network = space.network(architecture)
    assert parameters(network) == space.parameter_count(architecture) == count
    macs = space.macs(architecture, image_size=(224, 224))
    assert macs / 1e6 == pytest.approx(millions, abs=5.1e-4)
    assert macs == counted(network, 3, 224, 224)
    assert space.macs_table((224, 224)).fixed / 1e6 == pytest.approx(42.2236, abs=5.1e-5)


@pytest.mark.parametrize("squeeze_excite", [True, False])
@pytest.mark.parametrize("image_size", [(64, 64), (33, 50)])
def test_costs_are_those_that_torch_counts(
    squeeze_excite: bool, image_size: tuple[int, int]
) -> None:
    space = narrow(squeeze_excite=squeeze_excite, in_chs=2)
    rng = np.random.default_rng(0)
    for _ in range(4):
        architecture = space.search_space.draw(rng)
        network = space.network(architecture)
        assert space.macs(architecture, image_size=image_size) == counted(network, 2, *image_size)
        assert space.parameter_count(architecture) == parameters(network)


def test_the_costs_of_each_option_of_each_layer_are_those_that_torch_counts() -> None:
    space = narrow()
    macs, count = space.macs_table((40, 24)), space.parameter_table()
    for option in range(13):
        for place in (0, 1, 8, 20):
            architecture = (*[0] * place, option, *[0] * (20 - place))
            network = space.network(architecture)
            assert macs(architecture) == counted(network, 3, 40, 24)
            assert count(architecture) == parameters(network)


# The layers.


def test_every_option_of_every_layer_runs_and_trains_its_own_weights() -> None:
    space = narrow()
    names, images = space.search_space.plan.names, torch.randn(2, 3, 64, 64)
    supernet: Any = RandomOneShot().mutate_model(space)
    for option, chosen in enumerate(names):
        supernet.zero_grad()
        activate(supernet, space.search_space.decode((option,) * 21))
        logits = supernet(images)
        assert logits.shape == (2, 4)
        logits.logsumexp(1).sum().backward()
        for name, parameter in supernet.named_parameters():
            searched = name.startswith("blocks.") and not name.startswith("blocks.0.")
            on_path = not searched or f".{chosen}." in name
            assert (parameter.grad is not None) == on_path, name
            assert parameter.grad is None or parameter.grad.isfinite().all(), name


@pytest.mark.parametrize(
    "architecture", [(0, 0, 0), (1, 2, 3), (4, 5, 6), (7, 8, 9), (10, 11, 12), (12, 0, 7)]
)
def test_a_network_is_the_published_one_written_out(architecture: Architecture) -> None:
    for first in (8, 16):  # the fixed block adds its input where the channels stay
        network = short(first=first).network(architecture).train()
        x = torch.randn(4, 3, 16, 16)
        torch.testing.assert_close(network(x), by_hand(network, architecture, [1, 1, 2], x))


def test_squeeze_and_excitation_has_a_quarter_of_the_hidden_channels() -> None:
    network = MobileNetV2Space(**NARROW).network((12,) * 21)
    blocks = [block for block in network.blocks if isinstance(block, InvertedResidual)]
    assert len(blocks) == 21
    for block in blocks:
        assert isinstance(block.se, SqueezeExcite)
        assert 4 * block.se.conv_reduce.out_channels == block.conv_dw.out_channels


def test_the_chain_of_layers_is_the_forward() -> None:
    space = narrow()
    assert [choices for _, choices in space.forward_chain()] == [0, 0, *range(1, 22), 21, 21]
    supernet: Any = RandomOneShot().mutate_model(space)
    activate(supernet, space.search_space.decode(space.search_space.at(10**20)))
    images = torch.randn(2, 3, 64, 64)
    x = images
    for layer, _ in supernet.forward_chain():
        x = layer(x)
    assert torch.equal(supernet(images), x)


@pytest.mark.parametrize("architecture", [(0, 0, 0), (1, 6, 12), (9, 0, 4)])
def test_a_sample_is_the_same_network_frozen_in_context_supernet_and_plain(
    architecture: Architecture,
) -> None:
    space, images = short(), torch.randn(4, 3, 16, 16)
    sample = space.search_space.decode(architecture)
    with model_context(sample):
        built = short()
    network = space.network(architecture)
    assert list(network.state_dict()) == list(built.state_dict())
    network.load_state_dict(built.state_dict(), strict=True)
    assert torch.equal(network.eval()(images), built.eval()(images))
    frozen = space.freeze(sample)
    plain = space.network(architecture).train()
    missing, unexpected = plain.load_state_dict(frozen.state_dict(), strict=False)
    assert unexpected == []
    assert all(".bn" in name for name in missing)
    output = frozen(images)
    assert torch.equal(plain(images), output)
    supernet: Any = RandomOneShot().mutate_model(space)
    activate(supernet, sample)
    assert torch.equal(supernet(images), output)


def test_a_network_has_features_at_every_resolution() -> None:
    network = narrow().network((4,) * 21, num_classes=7, drop_path_rate=0.1).eval()
    images = torch.zeros(2, 3, 64, 64)
    assert network(images).shape == (2, 7)
    features = network.forward_intermediates(images, intermediates_only=True)
    shapes = [tuple(found.shape) for found in features if isinstance(found, Tensor)]
    # Behind the fixed block, and at the end of the stages before the next halving.
    assert shapes == [
        (2, 8, 32, 32),
        (2, 8, 16, 16),
        (2, 8, 8, 8),
        (2, 16, 4, 4),
        (2, 24, 2, 2),
    ]


# Settings.


def test_the_arguments_build_the_space_again() -> None:
    space = narrow(squeeze_excite=False)
    given = space.arguments
    assert given == {
        "name": "mobilenetv2",
        "squeeze_excite": False,
        "stem": 8,
        "first": 8,
        "widths": [8, 8, 16, 16, 16, 24],
        "layers": [4, 4, 4, 4, 4, 1],
        "strides": [2, 2, 2, 1, 2, 1],
        "head": 16,
        "num_classes": 4,
        "in_chs": 3,
    }
    del given["name"]
    again = MobileNetV2Space(**given)
    assert again.arguments == space.arguments
    assert again.state_dict().keys() == space.state_dict().keys()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"first": 12}, "first must be multiples of 8, got 12"),
        ({"layers": (1, 1)}, "layers must be 6 numbers, one a width, got"),
        ({"strides": (2, 2)}, "strides must be 6 numbers, one a width, got"),
        ({"strides": (0,) * 6}, "stride must be a positive integer, got 0"),
        ({"num_classes": 0}, "num_classes must be a positive integer, got 0"),
    ],
)
def test_a_wrong_argument_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        narrow(**arguments)


# A search.


def shapes(count: int, seed: int) -> TensorDataset:
    """Images of 64 x 64 pixels with noise, bright in the quarter that is their class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (count,), generator=generator)
    images = torch.randn(count, 3, 64, 64, generator=generator)
    for image, label in zip(images, labels.tolist(), strict=True):
        top, left = 32 * (label // 2), 32 * (label % 2)
        image[:, top : top + 32, left : left + 32] += 1.0
    return TensorDataset(images, labels)


def test_fifty_steps_of_prototype_density_at_64_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    space = narrow()
    trainer = Trainer(
        max_steps=50,
        limit_val_batches=0,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    evaluator = Lightning(
        SupernetTraining(),
        trainer,
        train_dataloaders=DataLoader(shapes(40, 0), batch_size=4),
        val_dataloaders=DataLoader(shapes(8, 1), batch_size=8),
    )
    strategy = PrototypeDensity(seed=0, prototypes=4, samples=12, rate=0.005, candidates=2)
    experiment = SearchExperiment(space, evaluator, strategy, out=tmp_path / "run")
    experiment.run()
    samples = experiment.export_top_models(2, formatter="dict")
    experiment.stop()
    result: SearchResult = strategy.result
    module: Any = strategy.oneshot_module
    assert isinstance(module.search.sampler, PrototypeSampler)
    assert result.budget.steps == len(result.draws) == 50
    assert result.budget.output_passes == 12 + module.search.sampler.proposals
    assert len({draw.architecture for draw in result.draws}) == 50
    assert all(space.search_space.encode(sample) for sample in samples)
    macs = [space.macs(a.architecture, image_size=(64, 64)) for a in result.ranking]
    assert [line.macs for line in result.ranking] == macs

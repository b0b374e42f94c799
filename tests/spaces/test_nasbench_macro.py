"""The networks of NAS-Bench-Macro: weights, costs, NNI's side, and short searches."""

from __future__ import annotations

import copy
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from nni.nas.evaluator.pytorch import Classification
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.space import model_context
from timm.layers.drop import DropPath
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nas_ext.benchmarks import nasbench_macro_table
from nas_ext.benchmarks.table import DATA
from nas_ext.data import digits, loader
from nas_ext.nni import (
    DARTS,
    BaseSuperNetModule,
    Lightning,
    RandomOneShot,
    RawFormatModelSpace,
    Trainer,
)
from nas_ext.oneshot import SearchExperiment, SupernetTraining
from nas_ext.results import SearchResult
from nas_ext.spaces.chain_network import ChainNetwork
from nas_ext.spaces.nasbench_macro import NASBenchMacro
from nas_ext.spaces.registry import Space
from nas_ext.strategies import DensityAware, IterativeMCTS, LearnedTree

QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def toy(**arguments: Any) -> NASBenchMacro:
    """27 architectures of three layers, 8 channels each."""
    torch.manual_seed(0)
    given = {"stem": 8, "widths": (8, 8, 8), "layers": (1, 1, 1), "head": 8, "in_chs": 1}
    return NASBenchMacro(**{**given, **arguments})


def small() -> NASBenchMacro:
    torch.manual_seed(0)
    return NASBenchMacro.small()


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


def published(weights: dict[str, Tensor], code: str, x: Tensor) -> Tensor:
    """Run the network of section 6.7, written out by hand, with batch statistics."""

    def conv(x: Tensor, name: str, norm: str, stride: int = 1) -> Tensor:
        kernel = weights[f"{name}.weight"]
        groups = x.shape[1] // kernel.shape[1]
        x = F.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2, groups=groups)
        return F.batch_norm(x, None, None, training=True, eps=1e-5)  # scale 1, shift 0

    x = F.relu(conv(x, "stem.conv", "stem.bn"))
    for layer, digit in enumerate(code):
        stride = 2 if layer in (0, 2, 5) else 1  # stages of 2, 3 and 3 layers
        block = f"blocks.{layer}"
        if digit == "0":
            x = conv(x, f"{block}.conv", f"{block}.bn", stride) if stride == 2 else x
            continue
        y = F.relu(conv(x, f"{block}.conv_pw", f"{block}.bn1"))
        y = F.relu(conv(y, f"{block}.conv_dw", f"{block}.bn2", stride))
        y = conv(y, f"{block}.conv_pwl", f"{block}.bn3")
        x = x + y if stride == 1 else y
    x = F.relu(conv(x, "conv_head.conv", "conv_head.bn"))
    return F.linear(x.mean((2, 3)), weights["head.fc.weight"], weights["head.fc.bias"])


# Costs.


def test_the_supernet_has_the_published_number_of_weights() -> None:
    space = NASBenchMacro()
    assert parameters(space) == 4_174_730  # golden number 13, no affine norm
    assert (space.search_space.size, space.search_space.name) == (6_561, "nasbench-macro")
    assert isinstance(space, Space)


@pytest.mark.parametrize(
    ("code", "params", "macs"),
    # Golden number 9.
    [("00000000", 387_882, 7_713_280), ("22222222", 2_932_586, 105_660_928),
     ("11111111", 1_588_874, 53_246_464), ("22212220", 1_985_514, 85_164_544)],
)  # fmt: skip
def test_the_networks_have_the_published_parameters_and_macs(
    code: str, params: int, macs: int
) -> None:
    space = NASBenchMacro()
    architecture = space.search_space.from_code(code)
    network = space.network(architecture)
    assert space.parameter_count(architecture) == parameters(network) == params
    assert space.macs(architecture, image_size=(32, 32)) == counted(network, 3, 32, 32) == macs


def test_the_closed_forms_are_the_published_costs_of_every_architecture() -> None:
    if not os.environ.get(DATA):
        pytest.skip(f"{DATA} does not name the folder of the published file")
    table, space = nasbench_macro_table(), NASBenchMacro()
    assert table.params is not None
    assert table.macs is not None
    for architecture in space.search_space:
        assert space.parameter_count(architecture) == table.params[architecture]
        assert space.macs(architecture, image_size=(32, 32)) == table.macs[architecture]


@pytest.mark.parametrize("image_size", [(16, 16), (9, 14), (1, 1)])
def test_costs_are_those_that_torch_counts(image_size: tuple[int, int]) -> None:
    space = NASBenchMacro(
        stem=16, widths=(8, 8, 24), layers=(1, 3, 2), head=7, num_classes=3, in_chs=2
    )
    rng = np.random.default_rng(0)
    for architecture in {space.search_space.draw(rng) for _ in range(12)}:
        network = space.network(architecture)
        assert space.macs(architecture, image_size=image_size) == counted(network, 2, *image_size)
        assert space.parameter_count(architecture) == parameters(network)


def test_costs_are_sums_over_the_choices() -> None:
    space = small()
    macs, params = space.macs_table((16, 16)), space.parameter_table()
    assert [len(row) for row in macs.options] == [len(row) for row in params.options] == [3] * 8
    architecture = space.search_space.from_code("02120011")
    chosen = sum(row[o] for row, o in zip(macs.options, architecture, strict=True))
    assert space.macs(architecture, image_size=(16, 16)) == macs.fixed + chosen
    assert macs.minimum == space.macs((0,) * 8, image_size=(16, 16))
    assert params.maximum == space.parameter_count((2,) * 8)


# The layers.


@pytest.mark.parametrize("code", ["00000000", "11111111", "22222222", "01201202"])
def test_every_option_runs_and_trains_its_own_weights(code: str) -> None:
    space = small()
    supernet: Any = RandomOneShot().mutate_model(space)
    activate(supernet, space.search_space.decode(space.search_space.from_code(code)))
    logits = supernet(torch.randn(4, 3, 16, 16))
    assert logits.shape == (4, 10)
    logits.logsumexp(1).sum().backward()
    names = space.search_space.plan.names
    chosen = {f"blocks.{at}.{names[int(digit)]}." for at, digit in enumerate(code)}
    for name, parameter in supernet.named_parameters():
        on_path = not name.startswith("blocks.") or any(name.startswith(c) for c in chosen)
        assert (parameter.grad is not None) == on_path, name
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("code", ["00000000", "22222222", "22212220", "01201202", "10020101"])
def test_the_layers_compute_what_the_published_network_does(code: str) -> None:
    space = small()
    sample = space.search_space.decode(space.search_space.from_code(code))
    images = torch.randn(4, 3, 16, 16)
    frozen = space.freeze(sample)
    found = frozen(images)
    torch.testing.assert_close(found, published(dict(frozen.state_dict()), code, images))
    supernet: Any = RandomOneShot().mutate_model(space)
    activate(supernet, sample)
    assert torch.equal(supernet(images), found)


def test_the_supernet_normalises_with_the_batch_in_eval_mode_too() -> None:
    frozen = toy().eval().freeze({f"layer{i}": "mb3_k3" for i in (1, 2, 3)})
    images = torch.randn(4, 1, 8, 8)
    assert not torch.allclose(frozen(images)[:2], frozen(images[:2]))


def test_the_chain_of_layers_is_the_forward() -> None:
    space = small()
    search_space, images = space.search_space, torch.randn(4, 3, 16, 16)
    assert [choices for _, choices in space.forward_chain()] == [0, *range(1, 9), 8, 8]
    supernet: Any = RandomOneShot().mutate_model(space)
    outputs: dict[int, Tensor] = {}
    for code in ("21021021", "21021020"):
        activate(supernet, search_space.decode(search_space.from_code(code)))
        x = images
        for at, (layer, choices) in enumerate(supernet.forward_chain()):
            x = layer(x)
            # Seven choices in common: whatever they determine is the same.
            if choices < 8:
                assert torch.equal(outputs.setdefault(at, x), x)
        assert torch.equal(supernet(images), x)


def test_encodings_of_one_network_compute_the_same() -> None:
    space = small()
    first, second = (space.search_space.from_code(c) for c in ("22212202", "22212220"))
    assert space.search_space.canonical(first) == second
    network, other = space.network(first).eval(), space.network(second).eval()
    values = network.state_dict().values()
    other.load_state_dict(dict(zip(other.state_dict(), values, strict=True)))
    images = torch.randn(2, 3, 16, 16)
    assert torch.equal(network(images), other(images))


# One architecture as an ordinary network.


@pytest.mark.parametrize("code", ["000", "111", "222", "012"])
def test_a_sample_is_the_same_network_frozen_in_context_and_plain(code: str) -> None:
    space, images = toy(), torch.randn(4, 1, 8, 8)
    architecture = space.search_space.from_code(code)
    sample = space.search_space.decode(architecture)
    with model_context(sample):
        built = toy()
    network = space.network(architecture)
    assert list(network.state_dict()) == list(built.state_dict())
    network.load_state_dict(built.state_dict(), strict=True)
    assert torch.equal(network.eval()(images), built.eval()(images))
    frozen = space.freeze(sample)
    missing, unexpected = network.load_state_dict(frozen.state_dict(), strict=False)
    norms = {n for n, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)}
    assert unexpected == []
    assert {name.rpartition(".")[0] for name in missing} == norms
    # In training mode, with the initial scale and shift, both norms are the batch's.
    network = space.network(architecture)
    network.load_state_dict(frozen.state_dict(), strict=False)
    assert torch.equal(network.train()(images), frozen(images))


def test_an_ordinary_network_is_plain_and_survives_pickle_and_deepcopy() -> None:
    space = toy()
    network = space.network((0, 1, 2)).eval()
    for module in network.modules():
        bases = {base.__module__.partition(".")[0] for base in type(module).__mro__}
        assert bases <= {"builtins", "nas_ext", "timm", "torch"}
        if isinstance(module, nn.BatchNorm2d):
            assert module.affine
            assert module.track_running_stats
    images = torch.randn(2, 1, 8, 8)
    for twin in (pickle.loads(pickle.dumps(network)), copy.deepcopy(network)):
        assert torch.equal(twin(images), network(images))


def test_a_network_has_timms_interface() -> None:
    space = small()
    network = space.network((1,) * 8, num_classes=3, in_chs=2, drop_path_rate=0.7).eval()
    assert network(torch.zeros(2, 2, 16, 16)).shape == (2, 3)
    rates = [module.drop_prob for module in network.modules() if isinstance(module, DropPath)]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
    assert list(network.state_dict()) == list(space.network((1,) * 8).state_dict())
    features = network.forward_intermediates(torch.zeros(2, 2, 16, 16), intermediates_only=True)
    # The last layer of stem and stages: 8, 16, 32 and 64 channels at every halving.
    shapes = [tuple(found.shape) for found in features if isinstance(found, Tensor)]
    assert shapes == [(2, 8, 16, 16), (2, 16, 8, 8), (2, 32, 4, 4), (2, 64, 2, 2)]
    network.reset_classifier(5)
    assert network(torch.zeros(2, 2, 16, 16)).shape == (2, 5)
    assert network.num_features == 128


# Settings.


def test_the_arguments_build_the_space_again() -> None:
    assert NASBenchMacro().arguments == {
        "name": "nasbench-macro",
        "stem": 32,
        "widths": [64, 128, 256],
        "layers": [2, 3, 3],
        "head": 1280,
        "num_classes": 10,
        "in_chs": 3,
    }
    given = toy(num_classes=4).arguments
    assert given.pop("name") == "nasbench-macro"
    assert NASBenchMacro(**given).arguments == toy(num_classes=4).arguments
    plan = NASBenchMacro.small().search_space.plan
    assert (plan.stem, [s.width for s in plan.stages], plan.head) == (8, [16, 32, 64], 128)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stem": 4}, "stem must be multiples of 8, got 4"),
        ({"widths": (8, 8)}, "layers must be 2 numbers"),
        ({"num_classes": 0}, "num_classes must be a positive integer, got 0"),
        ({"in_chs": True}, "in_chs must be a positive integer, got True"),
    ],
)
def test_a_wrong_argument_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        toy(**arguments)


def test_wrong_architectures_and_images_are_refused() -> None:
    space = toy()
    for use in (space.network, space.parameter_count):
        with pytest.raises(ValueError, match="must exist in space 'nasbench-macro'"):
            use((0, 0, 3))
    for wrong in ((0, 0), (0, 0, 3), (0, -1, 0)):
        with pytest.raises(ValueError, match="architecture must be 3 options below 3, got"):
            ChainNetwork(space.plan, wrong, num_classes=2, in_chs=1, activation="relu")
    with pytest.raises(ValueError, match=r"drop_path_rate must lie in \[0, 1\), got 1"):
        space.network((0, 0, 0), drop_path_rate=1.0)
    with pytest.raises(ValueError, match=r"image_size must be at least 1x1 .* got 0x8"):
        space.macs((0, 0, 0), image_size=(0, 8))
    space.check_image_size((1, 1))


# Searches.


def batches() -> dict[str, Any]:
    data = digits(seed=0)
    val = data.val.select(torch.arange(256))
    return {
        "train_dataloaders": loader(data.train, data, batch_size=32, train=True, seed=0),
        "val_dataloaders": loader(val, data, batch_size=64, train=False, drop_last=True),
    }


@pytest.mark.parametrize("make", [LearnedTree, DensityAware, IterativeMCTS])
def test_a_short_search_finds_architectures(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    strategy, space = make(seed=0), toy(widths=(16, 24, 32), head=32)
    trainer = Trainer(max_steps=90, limit_val_batches=0, **QUIET)
    evaluator = Lightning(SupernetTraining(), trainer, **batches())
    experiment = SearchExperiment(space, evaluator, strategy, out=tmp_path / "run")
    experiment.run()
    samples = experiment.export_top_models(2, formatter="dict")
    experiment.stop()
    result: SearchResult = strategy.result
    assert result.space["size"] == 27
    assert result.budget.steps == 90
    assert [space.search_space.encode(s) for s in samples] == [
        line.architecture for line in result.ranking[:2]
    ]
    # Ten classes: chance is .1 with a deviation of .019 over 256 images, the best of 27 .14.
    assert result.ranking[0].accuracy > 0.2


def one_shot(strategy: Any) -> dict[str, Any]:
    """Run one of NNI's strategies with NNI's evaluator, and export a sample."""
    evaluator = Classification(
        num_classes=10, learning_rate=0.01, max_epochs=1, **batches(), **QUIET
    )
    space = toy()
    before = {name: value.clone() for name, value in space.named_parameters()}
    strategy(RawFormatModelSpace(space, evaluator), SequentialExecutionEngine())
    after = dict(strategy.supernet.named_parameters())
    assert all(value.isfinite().all() for value in after.values())
    assert any(not torch.equal(after[name], value) for name, value in before.items())
    (model,) = strategy.list_models(limit=1)
    sample: dict[str, Any] = model.sample
    return sample


@pytest.mark.filterwarnings("ignore:Direct export from RandomOneShot:UserWarning")
@pytest.mark.parametrize("strategy", [DARTS, RandomOneShot])
def test_nnis_own_strategies_search_the_space(
    strategy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    search_space = toy().search_space
    assert search_space.encode(one_shot(strategy())) in search_space


def test_nni_sees_the_choices_of_the_search_space() -> None:
    simplified: Any = toy().simplify()
    listed = {label: tuple(choice.values) for label, choice in simplified.items()}
    choices: Any = toy().search_space.choices
    assert listed == {choice.label: choice.options for choice in choices}

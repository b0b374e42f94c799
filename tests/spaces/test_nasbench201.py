"""The networks of NAS-Bench-201: layers, costs, weights, and short searches."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from nni.nas.space import model_context
from nni.nas.strategy import DARTS, RandomOneShot
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nas_ext.cell import OPERATIONS, CellSkeleton
from nas_ext.data import digits, loader
from nas_ext.nni import BaseSuperNetModule, Lightning, ModelSpace, Trainer
from nas_ext.oneshot import SearchExperiment, SupernetTraining
from nas_ext.spaces.blocks import supernet_norm
from nas_ext.spaces.cell_blocks import Cell, Reduction, Zero, operation_layer
from nas_ext.spaces.nasbench201 import NASBench201, NASBench201Network
from nas_ext.spaces.registry import Space
from nas_ext.strategies import DensityAware, IterativeMCTS, LearnedTree

NONE, SKIP, CONV1, CONV3, POOL = range(5)
MIXED = (CONV3, POOL, CONV1, SKIP, NONE, CONV3)


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def small(**settings: Any) -> NASBench201:
    torch.manual_seed(0)
    return NASBench201(**{"width": 4, "cells": 1, "num_classes": 3, "in_chs": 1, **settings})


def activate(made: Any, sample: dict[str, Any]) -> None:
    for module in made.modules():
        if isinstance(module, BaseSuperNetModule):
            module.resample(sample)


def supernet(space: ModelSpace, sample: dict[str, Any]) -> Any:
    """Make a supernet of a space, and send it through a sample."""
    made = RandomOneShot().mutate_model(space)
    activate(made, sample)
    return made


# Which networks there are, and what they cost.


def test_the_published_networks_have_the_published_sizes() -> None:
    space = NASBench201()
    assert isinstance(space, Space)
    # Golden number 13
    assert parameters(space.network((CONV3,) * 6)) == 1_531_546
    assert parameters(space.network((NONE,) * 6)) == 73_306
    assert parameters(space.network((SKIP,) * 6)) == 73_306
    # Published: 184.73 M macs and 1.289 M parameters
    five = (CONV3, CONV3, CONV3, SKIP, CONV3, CONV3)
    assert space.macs(five, image_size=(32, 32)) == 184_730_240
    assert space.parameter_count(five) == 1_288_506


def test_nni_sees_six_choices_that_all_cells_share() -> None:
    space: Any = small(cells=2)
    seen = {label: tuple(mutable.values) for label, mutable in space.simplify().items()}
    assert seen == {choice.label: choice.options for choice in space.search_space.choices}


@pytest.mark.parametrize("image_size", [(8, 8), (7, 5), (1, 1)])
def test_costs_are_those_that_torch_counts(image_size: tuple[int, int]) -> None:
    space = small()
    for architecture in [(option,) * 6 for option in range(5)] + [MIXED]:
        network = space.network(architecture).eval()
        with FlopCounterMode(display=False) as counter:
            network(torch.randn(2, 1, *image_size))
        counted = counter.get_total_flops() // (2 * 2)  # two images, two operations each
        assert space.macs(architecture, image_size=image_size) == counted
        assert space.parameter_count(architecture) == parameters(network)


def test_the_default_is_the_residual_block_of_the_benchmarks_authors() -> None:
    space = small()
    assert space.default_architecture == (CONV3, NONE, CONV3, SKIP, NONE, SKIP)
    assert small(operations=("nor_conv_3x3", "none")).default_architecture is None


# The layers.


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_what_its_name_says(name: str) -> None:
    torch.manual_seed(0)
    layer: Any = operation_layer(name, 3, norm_layer=supernet_norm)
    x = torch.randn(2, 3, 5, 4, requires_grad=True)
    kept = x.detach().clone()
    y = layer(x)
    if name == "none":
        expected = torch.zeros_like(x)
    elif name == "skip_connect":
        expected = x
    elif name == "avg_pool_3x3":
        # The mean over those of the 3 x 3 pixels that lie in the image
        ones = torch.ones(3, 1, 3, 3)
        inside = F.conv2d(torch.ones_like(x), ones, padding=1, groups=3)
        expected = F.conv2d(x, ones, padding=1, groups=3) / inside
    else:
        convolved = F.conv2d(F.relu(x), layer.conv.weight, padding="same")
        mean = convolved.mean((0, 2, 3), keepdim=True)
        deviation = (convolved.var((0, 2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
        expected = (convolved - mean) / deviation
    torch.testing.assert_close(y, expected)
    assert torch.equal(x, kept)  # nothing in place: other edges read the same node


def test_nothing_gets_through_a_zero() -> None:
    x = torch.tensor([float("inf"), float("nan"), 1.0])
    assert torch.equal(Zero()(x), torch.zeros(3))


def test_a_cell_is_the_sum_over_its_edges_written_out() -> None:
    torch.manual_seed(0)
    edges = [nn.Conv2d(2, 2, 1) for _ in range(6)]
    x = torch.randn(2, 2, 3, 3)
    one = edges[0](x)
    two = edges[1](x) + edges[2](one)
    three = edges[3](x) + edges[4](one) + edges[5](two)
    torch.testing.assert_close(Cell(edges)(x), three)
    with pytest.raises(ValueError, match="edges must be 6 layers, got 5"):
        Cell(edges[:5])


def test_a_reduction_adds_two_convolutions_to_a_pooled_shortcut() -> None:
    torch.manual_seed(0)
    block = Reduction(2, 4, norm_layer=supernet_norm)
    x = torch.randn(3, 2, 6, 4)

    def convolve(x: Tensor, layer: Any, stride: int) -> Tensor:
        y = F.conv2d(F.relu(x), layer.conv.weight, stride=stride, padding=1)
        return F.batch_norm(y, None, None, training=True, eps=1e-5)

    pooled = x.reshape(3, 2, 3, 2, 2, 2).mean((3, 5))  # 2 x 2 pixels each
    expected = F.conv2d(pooled, block.conv_skip.weight)
    expected = expected + convolve(convolve(x, block.conv_a, 2), block.conv_b, 1)
    torch.testing.assert_close(block(x), expected)


def test_every_option_runs_forward_and_backward_in_the_supernet() -> None:
    space = small()
    made = RandomOneShot().mutate_model(space)
    x = torch.randn(4, 1, 8, 8)
    for edge, option in product(range(6), range(5)):
        architecture = tuple(option if at == edge else CONV1 for at in range(6))
        activate(made, space.search_space.decode(architecture))
        made.zero_grad(set_to_none=True)
        made(x).square().sum().backward()
        # Node 2 leaves by edge 5 alone: without that nothing flows back to the edges 1 and 2
        reached = set(range(6)) - ({1, 2} if architecture[5] == NONE else set())
        expected = {
            f"blocks.{block}.edges.{at}.{OPERATIONS[architecture[at]]}.conv.weight"
            for block in (0, 2, 4)
            for at in reached
            if architecture[at] in (CONV1, CONV3)
        }
        moved = {name for name, p in made.named_parameters() if p.grad is not None}
        assert {name for name in moved if ".edges." in name} == expected
        assert all(p.grad is None or p.grad.isfinite().all() for p in made.parameters())


def test_a_cell_of_nones_puts_out_a_constant() -> None:
    network = small().network((NONE,) * 6).eval()
    one, other = network(torch.randn(2, 1, 8, 8))
    torch.testing.assert_close(one, other)


# One architecture in its three forms.


@pytest.mark.parametrize("architecture", [MIXED, (CONV3,) * 6, (NONE,) * 6])
def test_a_sample_is_the_same_network_frozen_in_context_and_plain(
    architecture: tuple[int, ...],
) -> None:
    space, x = small(), torch.randn(4, 1, 8, 8)
    sample = space.search_space.decode(architecture)
    with model_context(sample):
        built = small()
    plain = space.network(architecture)
    assert built.state_dict().keys() == plain.state_dict().keys()
    assert any(isinstance(m, nn.BatchNorm2d) and m.affine for m in built.modules())
    built.load_state_dict(plain.state_dict())
    torch.testing.assert_close(built(x), plain(x))
    frozen = space.freeze(sample)
    assert frozen.state_dict().keys() <= plain.state_dict().keys()
    plain.load_state_dict(frozen.state_dict(), strict=False)
    torch.testing.assert_close(frozen(x), plain(x))
    assert torch.equal(supernet(space, sample)(x), frozen(x))


def test_the_chain_of_layers_is_the_forward() -> None:
    space = small(cells=2)
    made = supernet(space, space.search_space.decode(MIXED))
    x = torch.randn(2, 1, 8, 8)
    chain = made.forward_chain()
    y = x
    for layer, _ in chain:
        y = layer(y)
    assert torch.equal(y, made(x))
    # The stem is the same for all; the first cell needs all six choices
    assert [count for _, count in chain] == [0] + [6] * (3 * 2 + 2 + 2)


def test_a_network_gives_features_and_takes_other_classes_and_channels() -> None:
    network = small().network(MIXED, num_classes=7, in_chs=2)
    x = torch.randn(2, 2, 8, 8)
    assert network(x).shape == (2, 7)
    maps: Any = network.forward_intermediates(x, intermediates_only=True)
    assert [tuple(m.shape) for m in maps] == [(2, 4, 8, 8), (2, 8, 4, 4), (2, 16, 2, 2)]
    network.reset_classifier(5)
    assert network(x).shape == (2, 5)


def test_stochastic_depth_grows_from_the_first_block_to_the_last() -> None:
    network = small(cells=2).network((CONV3,) * 6, drop_path_rate=0.7)
    rates = []
    blocks: Any = network.blocks
    for block in blocks:
        layer = block.conv_b if isinstance(block, Reduction) else block.edges[0]
        rates.append(getattr(layer.drop_path, "drop_prob", 0.0))
    assert rates == pytest.approx([0.1 * at for at in range(8)])
    network.train()(torch.randn(4, 1, 8, 8)).sum().backward()


# Settings.


def test_the_arguments_build_the_space_again() -> None:
    space = small(cells=2, operations=("skip_connect", "nor_conv_1x1"))
    given = space.arguments
    assert given.pop("name") == "nasbench201"
    again = NASBench201(**given)
    assert again.search_space.size == 2**6
    assert again.arguments == {**space.arguments}
    assert again.parameter_count((1,) * 6) == space.parameter_count((1,) * 6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 0}, "width must be a positive integer, got 0"),
        ({"cells": 0}, "cells must be a positive integer, got 0"),
        ({"num_classes": 0}, "num_classes must be a positive integer, got 0"),
        ({"in_chs": -1}, "in_chs must be a positive integer, got -1"),
        ({"operations": ("conv",)}, r"operations must be some of .*got \['conv'\]"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**settings)


def test_a_wrong_network_is_refused() -> None:
    with pytest.raises(ValueError, match="operations must be 6 out of"):
        NASBench201Network(CellSkeleton(), ("none",) * 5)
    with pytest.raises(ValueError, match=r"drop_path_rate must lie in \[0, 1\), got 1"):
        small().network(MIXED, drop_path_rate=1.0)
    with pytest.raises(ValueError, match="architecture must exist"):
        small().network((5,) * 6)
    with pytest.raises(ValueError, match="image_size must be at least 1x1, got 8x0"):
        small().check_image_size((8, 0))


# Searches on real images.


def searched(strategy: Any, folder: Path, *, steps: int = 40, **settings: Any) -> list[Any]:
    """Train a tiny supernet on digits, and return the samples that the search exports."""
    data = digits(seed=0)
    trainer = Trainer(
        max_steps=steps,
        max_epochs=-1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    evaluator = Lightning(
        SupernetTraining(learning_rate=0.1),
        trainer,
        train_dataloaders=loader(data.train, data, batch_size=32, train=True, seed=0),
        val_dataloaders=loader(data.val, data, batch_size=128, train=False, drop_last=True),
    )
    space = small(num_classes=10, **settings)
    experiment = SearchExperiment(space, evaluator, strategy, out=folder)
    try:
        experiment.run()
        samples: list[Any] = experiment.export_top_models(formatter="dict")
    finally:
        experiment.stop()
    (sample,) = samples
    assert space.search_space.encode(sample) in space.search_space
    return samples


@pytest.mark.parametrize(
    "strategy",
    [
        LearnedTree(candidates=8, reinitialise=False),
        DensityAware(candidates=8),
        IterativeMCTS(candidates=8, iterations=2, batches=1),
    ],
    ids=["learned-tree", "density-aware", "iterative-mcts"],
)
def test_a_short_search_of_few_operations_ends(strategy: Any, tmp_path: Path) -> None:
    samples = searched(strategy, tmp_path, operations=("skip_connect", "nor_conv_3x3"))
    result = strategy.result
    assert dict(result.best.sample) == samples[0]
    assert result.space["size"] == 2**6
    assert result.budget.steps == 40
    assert result.best.macs is not None
    assert result.best.accuracy > 0.2  # of ten classes


def test_a_short_search_of_the_whole_space_ends(tmp_path: Path) -> None:
    strategy = IterativeMCTS(candidates=8, iterations=2, batches=1, rank_subset=32)
    searched(strategy, tmp_path)
    assert strategy.result.space["size"] == 15_625
    assert strategy.result.budget.steps == 40


@pytest.mark.filterwarnings("ignore:Direct export from RandomOneShot:UserWarning")
@pytest.mark.parametrize("strategy", [DARTS(), RandomOneShot()], ids=["DARTS", "RandomOneShot"])
def test_nnis_own_strategies_search_the_space_unchanged(strategy: Any, tmp_path: Path) -> None:
    searched(strategy, tmp_path, steps=5)

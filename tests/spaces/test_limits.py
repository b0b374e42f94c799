"""Model spaces kept within a budget of macs: what is searched, and how they are built again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from nas_ext.architecture import SearchSpace
from nas_ext.budget import BudgetedSpace, arguments_of
from nas_ext.nni import Lightning, Trainer
from nas_ext.oneshot import SampledStrategy, SearchExperiment, SupernetTraining
from nas_ext.results import SearchResult
from nas_ext.samplers import TreeSampler
from nas_ext.selection import Evolution, evolution
from nas_ext.spaces import PoolingResNet, ResolutionResNet, create
from nas_ext.spaces.limits import limit_macs
from nas_ext.spaces.mobilenet import MobileNetV2Space
from nas_ext.spaces.registry import SPACES, describe
from nas_ext.strategies import MCTS, BalancedMixture, LearnedTree, PrototypeDensity

SIZE = (64, 64)


def narrow() -> MobileNetV2Space:
    """21 layers with 13 options on few channels."""
    return MobileNetV2Space(
        stem=8, first=8, widths=(8, 8, 8, 8, 16, 16), head=32, num_classes=4, in_chs=3
    )


def images(count: int, seed: int, side: int = 64) -> TensorDataset:
    """Make images of noise, bright in the quarter that is their class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (count,), generator=generator)
    noise = torch.randn(count, 3, side, side, generator=generator)
    half = side // 2
    for image, label in zip(noise, labels.tolist(), strict=True):
        top, left = half * (label // 2), half * (label % 2)
        image[:, top : top + half, left : left + half] += 1.0
    return TensorDataset(noise, labels)


def run(strategy: SampledStrategy, space: Any, out: Path, *, steps: int, side: int = 64) -> Any:
    """Search inside an NNI experiment."""
    trainer = Trainer(
        max_steps=steps,
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
        train_dataloaders=DataLoader(images(40, 0, side), batch_size=4),
        val_dataloaders=DataLoader(images(8, 1, side), batch_size=8),
    )
    experiment = SearchExperiment(space, evaluator, strategy, out=out)
    experiment.run()
    samples = experiment.export_top_models(2, formatter="dict")
    experiment.stop()
    return samples


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let NNI write to a temporary folder."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def cheapest(space: MobileNetV2Space, most: int) -> tuple[int, int]:
    """Return a window from the cheapest architecture up that holds at most so many."""
    table = space.macs_table(SIZE)
    high = table.minimum
    while BudgetedSpace(space.search_space, table, low=0, high=high + 500).size <= most:
        high += 500
    return table.minimum, high


def test_a_learned_tree_of_a_budget_has_a_leaf_for_each_architecture_inside(
    tmp_path: Path,
) -> None:
    space = narrow()
    low, high = cheapest(space, 40)
    assert limit_macs(space, low=low, high=high, image_size=SIZE) is space
    inside: SearchSpace = space.search_space
    assert 5 < inside.size <= 40
    strategy = LearnedTree(seed=0, candidates=3)
    samples = run(strategy, space, tmp_path / "run", steps=50)
    result: SearchResult = strategy.result
    assert result.space["size"] == inside.size
    assert all(draw.architecture in inside for draw in result.draws)
    assert all(low <= (line.macs or 0) <= high for line in result.ranking)
    assert [inside.encode(s) for s in samples] == [r.architecture for r in result.ranking[:2]]
    assert result.tree is not None
    assert {tuple(a) for a in result.tree["architectures"]} == set(inside)


@pytest.mark.parametrize(
    "strategy",
    [
        PrototypeDensity(seed=0, prototypes=4, samples=12, rate=0.005, candidates=2),
        MCTS(seed=0, candidates=2),
    ],
    ids=["prototype-density", "mcts"],
)
def test_a_large_window_is_searched_and_never_left(
    strategy: SampledStrategy, tmp_path: Path
) -> None:
    space = narrow()
    table = space.macs_table(SIZE)
    high = table.minimum + (table.maximum - table.minimum) // 3
    low = high - high // 100
    limit_macs(space, low=low, high=high, image_size=SIZE)
    assert space.search_space.size > 10**15
    run(strategy, space, tmp_path / "run", steps=12)
    result = strategy.result
    assert len({draw.architecture for draw in result.draws}) > 6
    costs = [table(draw.architecture) for draw in result.draws]
    costs += [line.macs or 0 for line in result.ranking]
    assert low <= min(costs) <= max(costs) <= high
    module: Any = strategy.oneshot_module
    sampler = module.search.sampler
    if isinstance(sampler, TreeSampler):
        assert all(a in space.search_space for a in sampler.candidates(5))


def test_a_mixture_shares_out_what_lies_inside(tmp_path: Path) -> None:
    space = limit_macs(
        PoolingResNet.mini(num_classes=4, in_chs=3), low=0, high=450_000, image_size=(16, 16)
    )
    inside = list(space.search_space)
    strategy = BalancedMixture(seed=0, models=2, candidates=None)
    run(strategy, space, tmp_path / "run", steps=30, side=16)
    assert {line.architecture for line in strategy.result.ranking} <= set(inside)
    assert strategy.result.space["arguments"]["macs"] == [0, 450_000]


def test_evolution_on_a_trained_supernet_stays_inside(tmp_path: Path) -> None:
    space = narrow()
    table = space.macs_table(SIZE)
    low, high = 2_000_000, 2_100_000
    limit_macs(space, low=low, high=high, image_size=SIZE)
    strategy = MCTS(seed=0, candidates=2)
    run(strategy, space, tmp_path / "run", steps=6)
    module: Any = strategy.oneshot_module
    found = evolution(
        space.search_space,
        module.supernet,
        rng=np.random.default_rng(0),
        settings=Evolution(evaluations=12, population=6, parents=2, mutations=3, crossovers=2),
    )
    assert found
    assert all(low <= table(ranked.architecture) <= high for ranked in found)


def test_a_result_says_how_the_limited_space_is_built_again(tmp_path: Path) -> None:
    space = limit_macs(
        PoolingResNet.mini(num_classes=4, in_chs=3), low=0, high=450_000, image_size=(16, 16)
    )
    # By PoolingResNet.macs itself: what is inside is what costs no more.
    free = PoolingResNet.mini(num_classes=4, in_chs=3)
    cheap = [a for a in free.search_space if free.macs(a, image_size=(16, 16)) <= 450_000]
    assert list(space.search_space) == cheap
    assert 1 < len(cheap) < free.search_space.size
    strategy = MCTS(seed=0)
    run(strategy, space, tmp_path / "run", steps=4, side=16)
    arguments = json.loads(json.dumps(strategy.result.space["arguments"]))
    assert arguments == {**free.arguments, "macs": [0, 450_000], "image_size": [16, 16]}
    again = create(**arguments)
    assert list(again.search_space) == cheap
    assert arguments_of(again) == arguments
    network = again.network(cheap[0])
    assert sum(p.numel() for p in network.parameters()) == free.parameter_count(cheap[0])


def test_costs_that_are_no_sums_limit_a_space_too() -> None:
    space = ResolutionResNet(widths=(4, 4, 8), resolutions=3, num_classes=3, in_chs=1)
    costs = {a: space.macs(a, image_size=(8, 8)) for a in space.search_space}
    low, high = sorted(costs.values())[2:5:2]
    limit_macs(space, low=low, high=high, image_size=(8, 8))
    assert list(space.search_space) == [a for a, c in costs.items() if low <= c <= high]


def test_wrong_limits_are_named() -> None:
    space = PoolingResNet.mini()
    with pytest.raises(ValueError, match="none costs 1 to 2"):
        limit_macs(space, low=1, high=2, image_size=(16, 16))
    with pytest.raises(ValueError, match="image_size must be at least 4x4"):
        limit_macs(space, low=1, high=10**9, image_size=(2, 16))
    limit_macs(space, low=1, high=10**9, image_size=(16, 16))
    with pytest.raises(ValueError, match="model_space must not be limited already"):
        limit_macs(space, low=1, high=10**9, image_size=(16, 16))
    for macs, size in (((1, 2), None), (None, (8, 8)), ((1,), (8, 8)), ((1, 2), (8,))):
        with pytest.raises(ValueError, match="macs and image_size must be two numbers each"):
            create("mini-pooling", num_classes=3, in_chs=1, macs=macs, image_size=size)


def test_the_table_of_spaces_has_every_exact_size() -> None:
    lines = json.loads(json.dumps(describe()))
    assert [line["name"] for line in lines] == list(SPACES)
    sizes = {line["name"]: line["size"] for line in lines}
    # Chapter 2: C(9, 2) placements, and 3^9 resolutions.
    assert sizes["pooling-resnet20"] == 36
    assert sizes["resolution-resnet20"] == 3**9
    for line in lines:
        with torch.device("meta"):
            space = create(
                line["name"],
                num_classes=line["num_classes"],
                in_chs=line["in_chs"],
                **line["example"],
            )
        assert space.search_space.size == line["size"] > 0
        space.check_image_size(tuple(line["image_size"]))

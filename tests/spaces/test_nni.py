"""NNI's own strategies, unmodified, on the pooling spaces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nni
import pytest
import torch
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.evaluator.pytorch import Classification, ClassificationModule
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.experiment import NasExperiment, NasExperimentConfig
from nni.nas.space import RawFormatModelSpace
from nni.nas.strategy import DARTS, TPE, RandomOneShot, RegularizedEvolution
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from nas_ext.spaces import PoolingResNet
from nas_ext.spaces.blocks import PathSamplingPoolSlot, PoolSlot


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let NNI write its manifest, logs and checkpoints to a temporary folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def evaluator() -> Classification:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(32, 1, 8, 8, generator=generator)
    labels = torch.randint(10, (32,), generator=generator)
    data = TensorDataset(images, labels)
    return Classification(
        learning_rate=0.01,
        num_classes=10,
        train_dataloaders=DataLoader(data, 8),
        val_dataloaders=DataLoader(data, 8),
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def experiment(space: PoolingResNet, strategy: Any) -> NasExperiment:
    config: Any = NasExperimentConfig("sequential", "raw")
    return NasExperiment(space, evaluator(), strategy, config=config)


@pytest.mark.filterwarnings("ignore:Direct export from RandomOneShot:UserWarning")
def test_random_one_shot_trains_the_supernet_and_exports_an_architecture(home: Path) -> None:
    space = PoolingResNet.mini()
    before = {name: value.clone() for name, value in space.named_parameters()}
    search = experiment(space, RandomOneShot())
    search.run()
    (sample,) = search.export_top_models(formatter="dict")
    search.stop()
    assert space.search_space.encode(sample) in space.search_space
    after = dict(space.named_parameters())
    assert before.keys() == after.keys()
    for name, value in after.items():
        assert value.isfinite().all(), name
        assert not torch.equal(value, before[name]), name
    assert (home / "nni-experiments").is_dir()


def test_darts_is_refused_before_it_touches_the_space(home: Path) -> None:
    space = PoolingResNet.mini()
    with pytest.raises(TypeError, match="DARTS relaxes each layer by itself"):
        DARTS().mutate_model(space)
    assert all(type(pool) is PoolSlot for pool in space.pools)


def test_darts_is_refused_by_the_experiment_too(home: Path) -> None:
    search = experiment(PoolingResNet.mini(), DARTS())
    try:
        with pytest.raises(TypeError, match="DARTS relaxes each layer by itself"):
            search.run()
    finally:
        search.stop()


def test_a_filter_on_samples_holds_for_every_draw() -> None:
    space = PoolingResNet.mini()
    search_space = space.search_space

    def cheap(sample: dict[str, Any]) -> bool:
        return space.macs(search_space.encode(sample), image_size=(8, 8)) < 100_000

    allowed = {a for a in search_space if cheap(search_space.decode(a))}
    assert 0 < len(allowed) < search_space.size
    strategy = RandomOneShot(filter=cheap)
    strategy.mutate_model(space)
    module = strategy.configure_oneshot_module(ClassificationModule(num_classes=10))
    module.set_model(space)
    assert {search_space.encode(module.resample()) for _ in range(100)} <= allowed
    slots = [pool for pool in space.pools if isinstance(pool, PathSamplingPoolSlot)]
    assert len(slots) == 7


@pytest.mark.parametrize(
    "strategy", [RegularizedEvolution(population_size=3, sample_size=2), TPE()]
)
def test_multi_trial_strategies_search_a_trained_supernet(strategy: Any) -> None:
    torch.manual_seed(0)
    space: PoolingResNet = RandomOneShot().mutate_model(PoolingResNet.mini())
    images = torch.randn(4, 1, 8, 8)
    seen: list[float] = []

    def score(network: nn.Module) -> None:
        assert not any(isinstance(module, PoolSlot) for module in network.modules())
        seen.append(network(images).square().mean().item())
        nni.report_final_result(seen[-1])

    engine = SequentialExecutionEngine(max_model_count=5)
    strategy(RawFormatModelSpace(space, FunctionalEvaluator(score)), engine)
    models = list(strategy.list_models(limit=5))
    assert max(seen) == models[0].metric
    best = space.freeze(models[0].sample)
    assert best(images).square().mean().item() == max(seen)
    assert all(space.search_space.encode(model.sample) is not None for model in models)

"""The best architectures, as NNI's experiment exports them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from nni.nas.space import model_context
from torch import nn

from nas_ext.nni import Lightning
from nas_ext.oneshot import SearchExperiment
from nas_ext.spaces import PoolingResNet
from nas_ext.strategies import Uniform

Make = Callable[..., Any]


@pytest.fixture
def experiment(
    home: Path, tmp_path: Path, tiny: Make, trainer: Make, train: Make, val: Make
) -> Any:
    """A search that ranked all 8 architectures."""
    from nas_ext.oneshot import SupernetTraining

    torch.manual_seed(0)
    evaluator = Lightning(
        SupernetTraining(), trainer(), train_dataloaders=train(), val_dataloaders=val()
    )
    made = SearchExperiment(tiny(), evaluator, Uniform(), out=tmp_path)
    made.run()
    yield made
    made.stop()


def test_models_come_best_first_with_their_scores(experiment: Any) -> None:
    ranking = experiment.strategy.result.ranking
    assert len(ranking) == 8
    models = experiment.export_top_models(top_k=5, formatter=None)
    assert [model.metrics.final for model in models] == [line.accuracy for line in ranking[:5]]
    assert [model.metric for model in models] == [line.accuracy for line in ranking[:5]]
    scores = [model.metrics.final for model in models]
    assert scores == sorted(scores, reverse=True)
    assert [model.sample for model in models] == [dict(line.sample) for line in ranking[:5]]


@pytest.mark.parametrize(("top_k", "count"), [(1, 1), (3, 3), (8, 8), (20, 8)])
def test_so_many_are_exported_as_there_are(top_k: int, count: int, experiment: Any) -> None:
    samples = experiment.export_top_models(top_k=top_k, formatter="dict")
    assert len(samples) == count
    assert len({tuple(sample.items()) for sample in samples}) == count
    assert len(experiment.export_top_models(top_k=top_k, formatter="instance")) == count


def test_none_at_all_is_refused(experiment: Any) -> None:
    with pytest.raises(ValueError, match="limit must be at least 1, got 0"):
        experiment.export_top_models(top_k=0)


def test_instances_compute_what_the_supernet_does(experiment: Any, val: Make) -> None:
    supernet = experiment.strategy.oneshot_module.supernet
    fixed = next(iter(val()))[0]
    ranking = experiment.strategy.result.ranking
    models = experiment.export_top_models(top_k=3, formatter="instance")
    outputs = supernet.outputs([line.architecture for line in ranking[:3]])
    for model, expected in zip(models, outputs, strict=True):
        with torch.no_grad():
            assert model(fixed).double().numpy().tolist() == expected.tolist()


def test_training_an_instance_changes_neither_the_supernet_nor_other_exports(
    experiment: Any, train: Make
) -> None:
    supernet = experiment.strategy.supernet
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    first, second = (experiment.export_top_models(1, formatter="instance")[0] for _ in range(2))
    shared = {id(part) for part in supernet.modules()} & {id(part) for part in first.modules()}
    assert not shared
    optimizer = torch.optim.SGD(first.parameters(), lr=1.0)
    for inputs, labels in train():
        optimizer.zero_grad()
        loss: Any = nn.functional.cross_entropy(first(inputs), labels)
        loss.backward()
        optimizer.step()
    moved = [
        not torch.equal(a, b)
        for a, b in zip(*(m.parameters() for m in (first, second)), strict=True)
    ]
    assert all(moved)
    for name, value in supernet.state_dict().items():
        assert torch.equal(value, before[name]), name
    kept = [p for p in supernet.parameters() if p.grad is not None]
    third = experiment.export_top_models(1, formatter="instance")[0]
    for one, other in zip(second.parameters(), third.parameters(), strict=True):
        assert torch.equal(one, other)
    assert all(id(p) not in {id(q) for q in first.parameters()} for p in kept)


def test_a_sample_builds_the_network_alone(experiment: Any, tiny: Make) -> None:
    sample = experiment.export_top_models(1, formatter="dict")[0]
    with model_context(sample):
        network = tiny()
    exported = experiment.export_top_models(1, formatter="instance")[0]
    assert [type(layer) for layer in network.layers] == [nn.Linear] * 3
    network.load_state_dict(exported.state_dict())
    inputs = torch.randn(4, 6)
    assert torch.equal(network(inputs), exported(inputs))


def test_a_pooling_sample_builds_an_ordinary_network(search: Make, tmp_path: Path) -> None:
    data = torch.utils.data.TensorDataset(torch.randn(16, 1, 8, 8), torch.zeros(16).long())
    batches = torch.utils.data.DataLoader(data, batch_size=8)
    space = PoolingResNet(widths=(2, 2, 2), poolings=1, in_chs=1)
    done = search(Uniform(), space=space, train=batches, val=batches)
    assert len(done.result.ranking) == 2
    for model, line in zip(done.list_models(limit=2), done.result.ranking, strict=True):
        with model_context(model.sample):
            network = PoolingResNet(widths=(2, 2, 2), poolings=1, in_chs=1)
        assert network(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
        assert line.parameters == sum(p.numel() for p in network.parameters())
        assert line.macs == space.macs(line.architecture, image_size=(8, 8))


def test_list_models_without_a_limit_gives_the_whole_ranking(search: Make) -> None:
    done = search(Uniform())
    assert len(list(done.list_models(limit=None))) == 8
    assert len(list(done.list_models())) == 1

"""Short real trainings under an experiment, and rewards on a network."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nas_ext.data import digits, loader
from nas_ext.nni import Lightning, Trainer
from nas_ext.oneshot import SampledStrategy, SearchExperiment, SupernetTraining, accuracy
from nas_ext.oneshot.reward_variants import OnTrainingBatch, likelihood
from nas_ext.results import SearchResult
from nas_ext.spaces import PoolingResNet
from nas_ext.strategies.boltzmann import Boltzmann
from nas_ext.strategies.independent import Independent
from nas_ext.strategies.iterative_mcts import IterativeMCTS
from nas_ext.strategies.mcts import MCTS
from nas_ext.strategies.strict_fairness import StrictFairness

WIDTHS = (2, 2, 2, 2, 2)


class Logging(SupernetTraining):
    """Log a metric of its own, as a segmentation task would its intersection over union."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        images, labels = batch
        overlap = (self(images).argmax(dim=-1) == labels).float().mean()
        self.log("miou", overlap / (2 - overlap))


def search(
    strategy: SampledStrategy,
    folder: Path,
    *,
    module: Any = None,
    steps: int = 20,
    **settings: Any,
) -> SearchResult:
    """Train a tiny pooling network on digits for some steps, and return what was found."""
    data = digits(seed=0)
    torch.manual_seed(0)
    train, val = (part.select(torch.arange(96)) for part in (data.train, data.val))
    given: dict[str, Any] = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "limit_val_batches": 0,
        "max_steps": steps,
        **settings,
    }
    evaluator = Lightning(
        SupernetTraining() if module is None else module,
        Trainer(**given),
        train_dataloaders=loader(train, data, batch_size=16, train=True, seed=0),
        val_dataloaders=loader(val, data, batch_size=32, train=False, seed=0, drop_last=True),
    )
    space = PoolingResNet(widths=WIDTHS, poolings=2, in_chs=1)
    experiment = SearchExperiment(space, evaluator, strategy, out=folder)
    try:
        experiment.run()
        samples = experiment.export_top_models(2, formatter="dict")
    finally:
        experiment.stop()
    assert samples == [dict(line.sample) for line in strategy.result.ranking[:2]]
    return strategy.result


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("strategy", "rewarded", "passes"),
    [
        (Boltzmann, 20, 20),
        (Independent, 20, 20),
        (IterativeMCTS, 12, 20),
        # 4 positions, each architecture of a step is a pass
        (StrictFairness, 0, 80),
    ],
)
def test_a_short_training_finds_and_saves_something(
    strategy: Any, rewarded: int, passes: int, tmp_path: Path
) -> None:
    result = search(strategy(out=tmp_path / "found"), tmp_path)
    budget = result.budget
    assert (budget.steps, budget.train_passes, budget.reward_passes) == (20, passes, rewarded)
    assert len(result.draws) == passes
    assert 1 <= len(result.ranking) <= 6
    saved = SearchResult.load(tmp_path / "found")
    assert saved.ranking == result.ranking
    assert saved.strategy == strategy.__name__


@pytest.mark.parametrize("communication", ["shared", "broadcast"])
def test_communicating_walks_train_and_keep_their_tree(communication: Any, tmp_path: Path) -> None:
    result = search(MCTS(communication=communication, relative="accuracy"), tmp_path)
    assert result.budget.reward_passes == 20
    assert result.tree is not None
    assert result.tree["kind"] == "layers"
    # the ranking is on accuracies of 96 images, not on relative rewards
    assert all((96 * line.accuracy) % 1 < 1e-6 for line in result.ranking)


def test_iterative_search_ranks_by_a_metric_that_the_module_logs(tmp_path: Path) -> None:
    strategy = IterativeMCTS(reward="miou", iterations=2, batches=1, exploration=0.1)
    result = search(strategy, tmp_path, module=Logging())
    assert result.settings["reward"] == "miou"
    assert [name for name, _ in result.phases] == ["uniform", "iteration 1", "iteration 2"]
    for draw in result.draws:
        if draw.reward is not None:
            # s / (2 - s) of a share s of 32 images
            share = 2 * draw.reward / (1 + draw.reward)
            assert 32 * share == pytest.approx(round(32 * share), abs=1e-4)


def test_the_gradients_of_a_fair_step_are_summed(tmp_path: Path) -> None:
    # Section 4.2: one step of plain SGD moves a weight by minus the rate times the sum of the
    # gradients that the architectures have one by one.
    steps: list[tuple[Tensor, Tensor]] = []

    class Watched(SupernetTraining):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            model: Any = self.model
            weight = model.head.fc.weight
            (gradient,) = torch.autograd.grad(loss, weight, retain_graph=True)
            steps.append((weight.detach().clone(), gradient.clone()))
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.01)

    search(StrictFairness(), tmp_path, module=Watched(), steps=2)
    assert len(steps) == 8
    before, after = steps[0][0], steps[4][0]
    total = torch.stack([gradient for _, gradient in steps[:4]]).sum(dim=0)
    torch.testing.assert_close(after, before - 0.01 * total)
    assert not torch.allclose(after, before - 0.01 * total / 4)


def test_likelihood_is_the_geometric_mean_of_the_true_classes_probability() -> None:
    class Identity(SupernetTraining):
        def forward(self, images: Tensor) -> Any:
            return images

    logits = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    # softmax by hand: e / (e + 1) and, for label 0 of the second row, 1 / (1 + e^2)
    expected = math.sqrt(math.e / (math.e + 1) * 1 / (1 + math.e**2))
    assert likelihood(Identity(), (logits, torch.tensor([0, 0]))) == pytest.approx(expected)
    with pytest.raises(ValueError, match=r"batch must be \(inputs, labels\).*got Tensor"):
        likelihood(Identity(), logits)
    with pytest.raises(ValueError, match=r"\[S, C\] for labels \[S\].*got \[2, 2\] for \[1\]"):
        likelihood(Identity(), (logits, torch.tensor([0])))


def test_a_relative_loss_on_training_data_trains(tmp_path: Path) -> None:
    # Table I-2's combination of Su et al.: relative, loss, train.
    reward = OnTrainingBatch(likelihood)
    result = search(
        MCTS(communication="shared", relative="loss", reward=reward),
        tmp_path,
        callbacks=[reward],
    )
    assert result.settings["reward"] == "OnTrainingBatch(likelihood)"
    assert all(draw.reward is not None and 0 < draw.reward < 1 for draw in result.draws)


def test_a_training_reward_sees_the_batch_of_the_step_and_the_ranking_validation(
    tmp_path: Path,
) -> None:
    seen: dict[str, list[float]] = {"train": [], "rewarded": []}

    class Watched(SupernetTraining):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            seen["train"].append(float(batch[0].sum()))
            return super().training_step(batch, batch_idx)

    def spying(module: Any, batch: Any) -> float:
        seen["rewarded"].append(float(batch[0].sum()))
        return accuracy(module, batch)

    reward = OnTrainingBatch(spying)
    strategy = IterativeMCTS(reward=reward, iterations=1, batches=1)
    search(strategy, tmp_path, module=Watched(), callbacks=[reward])
    # 8 uniform steps without reward, a ranking of 6 architectures, 12 rewards, the final ranking
    ranked, rewarded, final = (
        seen["rewarded"][:6],
        seen["rewarded"][6:18],
        seen["rewarded"][18:],
    )
    assert rewarded == seen["train"][8:]
    assert len(set(ranked)) == 1
    assert not set(ranked) & set(seen["train"])
    assert final
    assert not set(final) & set(seen["train"])


def test_a_training_reward_must_be_among_the_callbacks(tmp_path: Path) -> None:
    strategy = Boltzmann(reward=OnTrainingBatch(accuracy))
    with pytest.raises(ValueError, match="callbacks of the trainer must hold the reward OnTrain"):
        search(strategy, tmp_path, steps=2)

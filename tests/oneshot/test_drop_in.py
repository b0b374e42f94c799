"""The strategies in place of NNI's own: stock experiment, stock evaluator, any trainer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from nni.nas.evaluator.pytorch import Classification
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.experiment import NasExperiment
from nni.nas.nn.pytorch import LayerChoice
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from nas_ext.data import digits, loader
from nas_ext.nni import Lightning, LightningModule, ModelSpace, RawFormatModelSpace
from nas_ext.oneshot import SearchExperiment, SupernetTraining, accuracy
from nas_ext.results import SearchResult
from nas_ext.spaces import PoolingResNet
from nas_ext.strategies import MCTS, LearnedTree, Uniform

Make = Callable[..., Any]

STRATEGIES = [Uniform, MCTS, LearnedTree]


class Own(LightningModule):  # type: ignore[misc]  # NNI has no types
    """A user's module: Adam, two logged metrics, a schedule by epochs."""

    def forward(self, x: Tensor) -> Any:
        return self.model(x)

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        inputs, labels = batch
        loss = nn.functional.cross_entropy(self(inputs), labels)
        self.log("train_loss", loss)
        return {"loss": loss}

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        inputs, labels = batch
        logits = self(inputs)
        right = (logits.argmax(dim=1) == labels).float().mean()
        loss = nn.functional.cross_entropy(logits, labels)
        self.log_dict({"val_acc": right, "val_loss": loss})

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=0.01)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]


class Data(pl.LightningDataModule):
    """Digits, loaded as Lightning wants it: made in `setup`."""

    def setup(self, stage: str) -> None:
        self.digits = digits(seed=0)

    def train_dataloader(self) -> Any:
        images = self.digits.train.select(torch.arange(80))
        return loader(images, self.digits, batch_size=16, train=True)

    def val_dataloader(self) -> Any:
        images = self.digits.val.select(torch.arange(64))
        return loader(images, self.digits, batch_size=32, train=False)


def pooling() -> PoolingResNet:
    torch.manual_seed(0)
    return PoolingResNet(widths=(2, 2, 2, 2), poolings=1, in_chs=1)


def digit_loaders() -> dict[str, Any]:
    data = Data()
    data.setup("fit")
    return {
        "train_dataloaders": data.train_dataloader(),
        "val_dataloaders": data.val_dataloader(),
    }


def classification(**settings: Any) -> Any:
    """NNI's own evaluator, with its own optimizer."""
    given: dict[str, Any] = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "max_epochs": 2,
        **settings,
    }
    return Classification(num_classes=10, learning_rate=0.01, **digit_loaders(), **given)


def check(experiment: Any, strategy: Any) -> SearchResult:
    """Run to the end, export, and return what was found."""
    experiment.run()
    result: SearchResult = strategy.result
    samples = experiment.export_top_models(top_k=2, formatter="dict")
    experiment.stop()
    assert samples == [dict(line.sample) for line in result.ranking[:2]]
    assert samples[0]["pooling"] in ("0100", "0010", "0001")
    assert result.budget.steps == len(result.draws) == 10
    return result


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("stock", [True, False])
@pytest.mark.parametrize("own", [True, False])
def test_a_strategy_runs_where_nnis_own_do(
    strategy: Any, stock: bool, own: bool, home: Path, tmp_path: Path, trainer: Make
) -> None:
    found = strategy(candidates=3)
    evaluator = classification()
    if own:
        evaluator = Lightning(Own(), trainer(limit_val_batches=1.0), **digit_loaders())
    if stock:
        experiment = NasExperiment(pooling(), evaluator, found)
    else:
        experiment = SearchExperiment(pooling(), evaluator, found, out=tmp_path / "out")
    check(experiment, found)
    # the stock experiment writes under HOME, ours does not
    assert (home / "nni-experiments").is_dir() == stock


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("limit_val_batches", [0, 1.0])
def test_a_data_module_brings_both_loaders(
    strategy: Any, limit_val_batches: float, home: Path, tmp_path: Path, trainer: Make
) -> None:
    found = strategy(candidates=3)
    evaluator = Lightning(Own(), trainer(limit_val_batches=limit_val_batches), datamodule=Data())
    result = check(SearchExperiment(pooling(), evaluator, found, out=tmp_path / "out"), found)
    if strategy is MCTS:
        assert all(draw.reward is not None for draw in result.draws)


def test_a_data_modules_batch_hooks_reach_the_rewards(trainer: Make) -> None:
    class Scaled(Data):
        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return [torch.zeros_like(batch[0]), batch[1]]

    seen: list[float] = []

    def reward(module: Any, batch: Any) -> float:
        seen.append(float(batch[0].abs().sum()))
        return accuracy(module, batch)

    evaluator = Lightning(SupernetTraining(), trainer(), datamodule=Scaled())
    MCTS(reward=reward)(RawFormatModelSpace(pooling(), evaluator), SequentialExecutionEngine())
    assert len(seen) >= 10
    assert set(seen) == {0.0}


def test_gradients_are_clipped(search: Make) -> None:
    class Steep(SupernetTraining):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return 1000 * super().training_step(batch, batch_idx)

        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            grads = [p.grad for p in self.parameters() if p.grad is not None]
            norm = float(torch.stack([grad.norm() for grad in grads]).norm())
            norms.append(norm)

    norms: list[float] = []
    search(LearnedTree(), module=Steep(), gradient_clip_val=1.0)
    assert len(norms) == 10
    assert norms == pytest.approx([1.0] * 10, rel=1e-4)


@pytest.mark.parametrize("accumulate", [2, 3, 5])
def test_steps_are_optimizer_steps_where_batches_accumulate(accumulate: int, search: Make) -> None:
    # 5 batches an epoch, 3 epochs; the last window of an epoch is short when it does not divide
    steps = {2: 9, 3: 6, 5: 3}[accumulate]
    result = search(LearnedTree(), accumulate_grad_batches=accumulate, max_epochs=3).result
    assert result.budget.steps == sum(n for _, n in result.phases) == steps
    assert result.budget.train_passes == 15


@pytest.mark.parametrize(
    ("precision", "weights", "logits"),
    [
        ("bf16-mixed", torch.float32, torch.bfloat16),
        ("64-true", torch.float64, torch.float64),
        ("bf16-true", torch.bfloat16, torch.bfloat16),
    ],
)
def test_rewards_are_computed_in_the_trainers_precision(
    precision: str, weights: torch.dtype, logits: torch.dtype, search: Make
) -> None:
    def reward(module: Any, batch: Any) -> float:
        seen.add((module.model.stem.weight.dtype, module(batch[0]).dtype))
        return accuracy(module, batch)

    seen: set[tuple[torch.dtype, torch.dtype]] = set()
    result = search(LearnedTree(reward=reward), precision=precision).result
    assert seen == {(weights, logits)}
    assert result.budget.steps == 10
    assert result.budget.output_passes == 8


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_trainer_may_end_by_steps(strategy: Any, search: Make) -> None:
    result = search(strategy(), max_steps=7, max_epochs=-1).result
    assert result.budget.steps == sum(n for _, n in result.phases) == 7


def test_callbacks_see_the_users_validation_metric(search: Make, tmp_path: Path) -> None:
    class Improving(SupernetTraining):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val_acc", 0.1 + 0.1 * self.current_epoch)

    saved = ModelCheckpoint(dirpath=tmp_path, monitor="val_acc", mode="max", filename="{epoch}")
    stop = EarlyStopping("val_acc", mode="max", patience=2)
    search(
        LearnedTree(),
        module=Improving(),
        limit_val_batches=1.0,
        max_epochs=4,
        enable_checkpointing=True,
        callbacks=[saved, stop],
    )
    assert Path(saved.best_model_path).name == "epoch=3.ckpt"
    assert float(saved.best_model_score or 0) == pytest.approx(0.4)


def test_a_search_that_is_stopped_early_says_so(search: Make) -> None:
    class Flat(SupernetTraining):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val_acc", 0.5)

    stop = EarlyStopping("val_acc", mode="max", patience=1)
    with pytest.warns(UserWarning, match="ended after 10 of 30 steps, in phase 'warm-up'"):
        done = search(MCTS(), module=Flat(), limit_val_batches=1.0, max_epochs=6, callbacks=[stop])
    assert done.result.budget.steps == len(done.result.draws) == 10
    assert done.result.ranking


def test_plain_torch_loaders_with_workers_serve_too(search: Make, val: Make) -> None:
    torch_val = DataLoader(val().dataset, batch_size=8, num_workers=1)
    result = search(MCTS(), val=torch_val).result
    one_process = search(MCTS(), val=val()).result
    assert result.draws == one_process.draws


class Stream(IterableDataset[Any]):
    """Rows without a length."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __iter__(self) -> Any:
        return iter([self.rows[index] for index in range(len(self.rows))])


def test_a_training_set_without_a_length_serves_where_steps_are_given(
    search: Make, train: Make
) -> None:
    stream = DataLoader(Stream(train().dataset), batch_size=8)
    result = search(LearnedTree(), train=stream, max_steps=12, max_epochs=-1).result
    assert result.budget.steps == 12
    with pytest.raises(ValueError, match=r"must end after a number of steps.*loader has a length"):
        search(LearnedTree(), train=stream, max_epochs=2)


def test_labels_may_be_made_by_nni(search: Make) -> None:
    class Prefixed(ModelSpace, label_prefix="own"):  # type: ignore[misc, call-arg]  # NNI has no types
        def __init__(self) -> None:
            super().__init__()
            self.one = LayerChoice([nn.Linear(6, 4), nn.Linear(6, 4)])
            self.two = LayerChoice([nn.Linear(4, 3), nn.Linear(4, 3)])

        def forward(self, x: Tensor) -> Any:
            return self.two(self.one(x))

    done = search(LearnedTree(), space=Prefixed())
    assert [choice.label for choice in done.search_space.choices] == ["own/1", "own/2"]


def test_the_reward_may_be_a_metric_that_the_module_logs(search: Make) -> None:
    named = search(MCTS(reward="val_acc"), module=Own()).result
    counted = search(MCTS(), module=Own()).result
    # the same share of the same batch: float32 in the module, float64 in ours
    assert [d.architecture for d in named.draws] == [d.architecture for d in counted.draws]
    assert [d.reward for d in named.draws] == pytest.approx([d.reward for d in counted.draws])


def test_what_the_reward_logs_reaches_no_metric(search: Make) -> None:
    done = search(MCTS(reward="val_acc"), module=Own())
    metrics = done.oneshot_module.trainer.callback_metrics
    assert set(metrics) == {"train_loss"}


def test_the_result_is_saved_where_the_strategy_is_told(search: Make, tmp_path: Path) -> None:
    done = search(Uniform(out=tmp_path))
    assert SearchResult.load(tmp_path) == done.result
    assert json.loads((tmp_path / "search.json").read_text())["strategy"] == "Uniform"

"""A tiny model space, tiny data, and one call that runs a search on them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from nni.nas.evaluator.pytorch import DataLoader
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.nn.pytorch import LayerChoice
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from nas_ext.nni import Lightning, ModelSpace, RawFormatModelSpace, Trainer
from nas_ext.oneshot import SupernetTraining

QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


class Tiny(ModelSpace):  # type: ignore[misc]  # NNI has no types
    """Rows of 6 numbers, 3 classes, `layers` choices between `options` linear layers."""

    def __init__(self, *, layers: int = 3, options: int = 2, width: int = 4) -> None:
        super().__init__()
        self.stem = nn.Linear(6, width)
        self.layers = nn.ModuleList(
            LayerChoice([nn.Linear(width, width) for _ in range(options)], label=f"layer{i}")
            for i in range(layers)
        )
        self.head = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for layer in self.layers:
            x = torch.tanh(layer(x))
        logits: Tensor = self.head(x)
        return logits


def rows(count: int, *, seed: int) -> TensorDataset:
    """Rows whose class is the largest of their first three numbers."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 6, generator=generator)
    return TensorDataset(inputs, inputs[:, :3].argmax(dim=1))


def train_rows(**settings: Any) -> Any:
    """5 batches of 8, in order unless told otherwise."""
    return DataLoader(rows(40, seed=0), batch_size=8, **settings)


def val_rows(count: int = 32) -> Any:
    """4 batches of 8, other rows than the training ones."""
    return DataLoader(rows(count, seed=1), batch_size=8)


def make_trainer(**settings: Any) -> Any:
    """Two epochs on the CPU, without validation, files or output."""
    return Trainer(**{**QUIET, "max_epochs": 2, "limit_val_batches": 0, **settings})


def make_search(
    strategy: Any,
    /,
    *,
    module: Any = None,
    space: Any = None,
    train: Any = None,
    val: Any = None,
    ckpt_path: str | Path | None = None,
    run: bool = True,
    **settings: Any,
) -> Any:
    """Run a strategy on NNI's engine without an experiment, and return it.

    Initial weights come from seed 0 unless there is a `space`; `settings` are the trainer's.
    """
    if space is None:
        torch.manual_seed(0)
        space = Tiny()
    evaluator = Lightning(
        SupernetTraining() if module is None else module,
        make_trainer(**settings),
        train_dataloaders=train_rows() if train is None else train,
        val_dataloaders=val_rows() if val is None else val,
        fit_kwargs={} if ckpt_path is None else {"ckpt_path": str(ckpt_path)},
    )
    strategy.initialize(RawFormatModelSpace(space, evaluator), SequentialExecutionEngine())
    if run:
        strategy.run()
    return strategy


def path_of(model: Any) -> tuple[int, ...]:
    """The options that the layers of a `Tiny` supernet are set to."""
    return tuple(int(layer._sampled) for layer in model.layers)


@pytest.fixture
def tiny() -> Callable[..., Any]:
    """Build the tiny model space."""
    return Tiny


@pytest.fixture
def search() -> Callable[..., Any]:
    """Run a strategy on tiny things."""
    return make_search


@pytest.fixture
def trainer() -> Callable[..., Any]:
    """Build NNI's trainer, quiet and short."""
    return make_trainer


@pytest.fixture
def train() -> Callable[..., Any]:
    """Build the training loader."""
    return train_rows


@pytest.fixture
def val() -> Callable[..., Any]:
    """Build the validation loader."""
    return val_rows


@pytest.fixture
def path() -> Callable[[Any], tuple[int, ...]]:
    """Look up the active path of a tiny supernet."""
    return path_of


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let NNI write its manifest, logs and checkpoints to a temporary folder."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder

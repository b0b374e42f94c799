"""Rewards, and how wrong ones reach the user."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy

from nas_ext.nni import Lightning
from nas_ext.oneshot import SearchExperiment, SupernetTraining, accuracy, logged
from nas_ext.strategies import MCTS, Uniform

Make = Callable[..., Any]


class Identity(SupernetTraining):
    """A module whose logits are its inputs."""

    def forward(self, images: Tensor) -> Any:
        return images


LOGITS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [2.0, 3.0]])


def test_accuracy_is_the_share_of_highest_logits_that_are_the_label() -> None:
    # by hand: 0, 1, 0, 1 are predicted; three of the four labels agree
    assert accuracy(Identity(), (LOGITS, torch.tensor([0, 1, 1, 1]))) == 0.75
    assert accuracy(Identity(), [LOGITS, torch.tensor([0, 1, 1, 1]), "more"]) == 0.75


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (LOGITS, r"batch must be \(inputs, labels\) .* got Tensor"),
        ({"x": LOGITS}, r"batch must be \(inputs, labels\) .* got dict"),
        ([LOGITS], r"batch must be \(inputs, labels\) .* got list"),
        # broadcasting would compare the 4 predictions with 2 columns, or with every row
        (
            (LOGITS, torch.eye(2)[[0, 1, 0, 1]]),
            r"\[S, C\] for labels \[S\].* got \[4, 2\] for \[4, 2",
        ),
        ((LOGITS, torch.tensor([[0]])), r"got \[4, 2\] for \[1, 1\]"),
        ((LOGITS, [0, 1, 0, 1]), r"got \[4, 2\] for list"),
        (({"logits": LOGITS}, torch.zeros(4)), r"got dict for \[4\]"),
    ],
)
def test_accuracy_refuses_what_it_cannot_compare(batch: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        accuracy(Identity(), batch)


class Logging(SupernetTraining):
    """Log one value, as the test wants it."""

    def __init__(self, value: Any, how: str = "log") -> None:
        super().__init__()
        self.value, self.how = value, how

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        if self.how == "log":
            self.log("val_acc", self.value, prog_bar=True)
        elif self.how == "keywords":
            self.log(name="val_acc", value=self.value)
        else:
            self.log_dict({"other": 2.0, "val_acc": self.value})


@pytest.mark.parametrize("how", ["log", "keywords", "log_dict"])
@pytest.mark.parametrize("value", [0.25, torch.tensor(0.25), torch.tensor([0.25])])
def test_a_logged_number_is_the_reward(how: str, value: Any) -> None:
    assert logged("val_acc")(Logging(value, how), (LOGITS, LOGITS)) == 0.25


def test_catching_a_metric_leaves_the_modules_own_log_in_place() -> None:
    module: Any = Logging(0.5)
    before = module.log
    logged("val_acc")(module, (LOGITS, LOGITS))
    assert module.log == before
    with pytest.raises(ValueError, match="must be logged by validation_step, got 'auc'"):
        logged("auc")(module, (LOGITS, LOGITS))
    assert module.log == before


def test_a_metric_object_is_refused_by_its_name() -> None:
    metric = MulticlassAccuracy(num_classes=2)
    with pytest.raises(ValueError, match="'val_acc' must be logged as a number, got a Multiclass"):
        logged("val_acc")(Logging(metric), (LOGITS, LOGITS))


WRONG = {
    "nan": (lambda module, batch: float("nan"), r"reward must be a share in \[0, 1\], got nan"),
    "percent": (lambda module, batch: 91.0, r"reward must be a share in \[0, 1\], got 91.0"),
    "negative": (lambda module, batch: -0.1, r"reward must be a share in \[0, 1\], got -0.1"),
    "unlogged": ("val_auc", r"must be logged by validation_step, got 'val_auc'.*\['val_acc'\]"),
}


@pytest.mark.parametrize("strategy", [MCTS, Uniform])
@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_reward_reaches_the_user(
    strategy: Any,
    wrong: str,
    home: Path,
    tmp_path: Path,
    tiny: Make,
    trainer: Make,
    train: Make,
    val: Make,
) -> None:
    reward, message = WRONG[wrong]
    evaluator = Lightning(
        SupernetTraining(), trainer(), train_dataloaders=train(), val_dataloaders=val()
    )
    made = strategy(reward=reward, out=tmp_path)
    experiment = SearchExperiment(tiny(), evaluator, made, out=tmp_path)
    with pytest.raises(ValueError, match=message):
        experiment.run()
    experiment.stop()
    assert not (tmp_path / "search.json").exists()


def test_an_error_in_the_users_reward_reaches_the_user(search: Make) -> None:
    def broken(module: Any, batch: Any) -> float:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        search(MCTS(reward=broken))

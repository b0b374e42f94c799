"""The hooks of a user's Lightning module, counted against a plain Lightning fit."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from pytorch_lightning.core.hooks import CheckpointHooks, DataHooks, ModelHooks
from torch import Tensor, nn

from nas_ext.nni import LightningModule
from nas_ext.oneshot import SupernetTraining
from nas_ext.strategies import MCTS, Uniform

Make = Callable[..., Any]

STEPS = (
    "backward",
    "configure_callbacks",
    "configure_gradient_clipping",
    "configure_optimizers",
    "lr_scheduler_step",
    "optimizer_step",
    "optimizer_zero_grad",
    "training_step",
    "validation_step",
)
NOT_COUNTED = {
    "configure_sharded_model",  # an older name, which Lightning refuses beside configure_model
    "train_dataloader",  # NNI's evaluator is given the loaders
    "val_dataloader",
    "test_dataloader",
    "predict_dataloader",
}
TRANSFER = {"on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer"}


def hook_names() -> list[str]:
    """Every hook that Lightning knows, from its own classes."""
    names = list(STEPS)
    for owner in (ModelHooks, DataHooks, CheckpointHooks):
        functions = inspect.getmembers(owner, inspect.isfunction)
        names += [name for name, _ in functions if not name.startswith("_")]
    return sorted(set(names) - NOT_COUNTED)


def counting(names: list[str]) -> Any:
    """A module that overrides these hooks, counts the calls and does what Lightning does."""

    def make(name: str) -> Callable[..., Any]:
        def hook(self: Any, *args: Any, **kwargs: Any) -> Any:
            self.counts[name] += 1
            return getattr(SupernetTraining, name)(self, *args, **kwargs)

        return hook

    made: Any = type("Counting", (SupernetTraining,), {name: make(name) for name in names})
    module = made()
    module.counts = Counter()
    return module


def net(module: Any) -> Any:
    return module.model


class Plain(nn.Module):
    """A fixed network on the tiny rows."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Any:
        return self.linear(x)


def settings(folder: Path, accumulate: int) -> dict[str, Any]:
    return {
        "accumulate_grad_batches": accumulate,
        "gradient_clip_val": 1.0,
        "limit_val_batches": 1.0,
        "enable_checkpointing": True,
        "callbacks": [ModelCheckpoint(dirpath=folder)],
    }


@pytest.mark.parametrize("accumulate", [1, 2])
def test_every_hook_is_called_as_often_as_in_a_plain_fit(
    accumulate: int, search: Make, trainer: Make, train: Make, val: Make, tmp_path: Path
) -> None:
    names = hook_names()
    plain = counting(names)
    plain.set_model(Plain())
    trainer(**settings(tmp_path / "plain", accumulate)).fit(plain, train(), val())
    searched = counting(names)
    search(Uniform(), module=searched, **settings(tmp_path / "search", accumulate))
    # The one difference: batches of ours also go through the transfer hooks. Uniform reads one
    # before the first step, to check it, and the 4 of the validation set for the ranking.
    for name in TRANSFER:
        searched.counts[name] -= 5
    assert searched.counts == plain.counts
    called = {name for name in names if plain.counts[name]}
    never = {name for name in names if "test" in name or "predict" in name}
    assert set(names) - called == never | {"on_load_checkpoint"}


def test_rewards_call_no_other_hook(search: Make) -> None:
    names = hook_names()
    uniform, tree = counting(names), counting(names)
    search(Uniform(), module=uniform)
    search(MCTS(), module=tree)
    # one validation batch for each of the 10 rewards
    extra = {name: tree.counts[name] - uniform.counts[name] for name in names}
    assert {name: n for name, n in extra.items() if n} == dict.fromkeys(TRANSFER, 10)


def test_a_module_without_a_validation_step_is_not_validated(search: Make) -> None:
    class Without(LightningModule):  # type: ignore[misc]  # NNI has no types
        def forward(self, x: Tensor) -> Any:
            return self.model(x)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return nn.functional.cross_entropy(self(batch[0]), batch[1])

        def on_validation_start(self) -> None:
            raise AssertionError("validation ran")

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    with pytest.warns(UserWarning, match="no `validation_step`"):
        done = search(Uniform(), module=Without(), limit_val_batches=1.0)
    assert done.result.budget.steps == 10


def test_modules_in_eval_mode_stay_there_over_validation(search: Make) -> None:
    class Half(SupernetTraining):
        def on_train_start(self) -> None:
            net(self).stem.eval()

        def on_train_epoch_end(self) -> None:
            modes.append((net(self).stem.training, net(self).head.training))

    modes: list[tuple[bool, bool]] = []
    # Lightning restores each module's own mode unless the user's hook says otherwise
    search(MCTS(), module=Half(), limit_val_batches=1.0)
    assert modes == [(False, True)] * 2


def test_the_users_callbacks_and_clipping_are_used(search: Make) -> None:
    class Counted(Callback):
        batches = 0

        def on_train_batch_end(
            self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            self.batches += 1

    class Asking(SupernetTraining):
        def configure_callbacks(self) -> Any:
            return [counted]

        def configure_gradient_clipping(
            self,
            optimizer: Any,
            gradient_clip_val: Any = None,
            gradient_clip_algorithm: Any = None,
        ) -> None:
            self.clip_gradients(optimizer, gradient_clip_val=0.5, gradient_clip_algorithm="value")

        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            largest.append(max(float(p.grad.abs().max()) for p in self._reached()))

        def _reached(self) -> list[Any]:
            return [p for p in self.parameters() if p.grad is not None]

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return 1000 * super().training_step(batch, batch_idx)

    counted = Counted()
    largest: list[float] = []
    search(Uniform(), module=Asking())
    assert counted.batches == 10
    assert largest == [0.5] * 10


def test_steps_may_leave_the_batch_index_out(search: Make) -> None:
    class Short(SupernetTraining):
        def training_step(self, batch: Any) -> Tensor:  # type: ignore[override]  # as Lightning allows
            return super().training_step(batch, 0)

        def validation_step(self, batch: Any) -> None:  # type: ignore[override]  # as Lightning allows
            super().validation_step(batch, 0)

    short = search(MCTS(reward="val_acc"), module=Short(), limit_val_batches=1.0).result
    usual = search(MCTS(reward="val_acc"), limit_val_batches=1.0).result
    assert short.draws == usual.draws


def test_what_configure_model_adds_is_trained_and_evaluated(search: Make) -> None:
    class Late(SupernetTraining):
        def configure_model(self) -> None:
            self.last = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5))

        def forward(self, images: Tensor) -> Any:
            modes.append((self.last[1].training, torch.is_grad_enabled()))
            return self.last(self.model(images))

    modes: list[tuple[bool, bool]] = []
    module = Late()
    search(MCTS(), module=module)
    before = nn.Linear(3, 3).weight
    assert module.last[0].weight.shape == before.shape
    assert modes.count((True, True)) == 10
    assert set(modes) == {(True, True), (False, False)}

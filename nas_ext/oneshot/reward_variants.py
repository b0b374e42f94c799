"""The rewards of Table I-2 beside accuracy on validation data: from the loss, on training data."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_lightning import Callback
from torch import nn

from nas_ext.nni import LightningModule
from nas_ext.oneshot.rewards import Reward

__all__ = ["OnTrainingBatch", "likelihood"]


def likelihood(module: LightningModule, batch: Any) -> float:
    """Return exp(-L) of the cross-entropy L: the geometric mean of the true classes' probability.

    The published absolute reward of a loss is -L, which is no share in [0, 1]; exp(-L) is one, in
    the same order. Raises ValueError for a batch that is not (inputs, labels) or an output that
    is not `[S, C]`.
    """
    if not (isinstance(batch, list | tuple) and len(batch) >= 2):
        raise ValueError(
            f"batch must be (inputs, labels) for the likelihood, got {type(batch).__name__}"
        )
    logits, labels = module(batch[0]), batch[1]
    if not isinstance(logits, torch.Tensor) or logits.shape[:-1] != labels.shape:
        shape = list(getattr(logits, "shape", ())) or type(logits).__name__
        raise ValueError(
            f"module must return [S, C] for labels [S] for the likelihood, got {shape} "
            f"for {list(labels.shape)}"
        )
    return float(torch.exp(-nn.functional.cross_entropy(logits.double(), labels)))


class OnTrainingBatch(Callback):
    """Be a reward on the batch of the step itself, which Table I-2 calls a train reward.

    Give one object both to the strategy, as `reward`, and to the trainer, in `callbacks`: the
    trainer shows it the batches. The network is run once more after its step, in evaluation mode,
    so this is not the loss that the step had. The final ranking, and the rankings inside a
    search, stay on validation data. One validation batch a step is read and not used.
    Raises ValueError when the trainer does not have it.
    """

    def __init__(self, reward: Reward) -> None:
        super().__init__()
        self.reward = reward
        self._seen: Any = None
        self._stepping = False

    def __call__(self, module: LightningModule, batch: Any) -> float:
        trainer: Any = module.trainer
        if not any(callback is self for callback in trainer.callbacks):
            raise ValueError(f"callbacks of the trainer must hold the reward {self!r}")
        return self.reward(module, self._seen if self._stepping else batch)

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        self._seen = batch

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
        self._stepping = True

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._seen, self._stepping = None, False

    def __repr__(self) -> str:
        return f"OnTrainingBatch({getattr(self.reward, '__qualname__', repr(self.reward))})"

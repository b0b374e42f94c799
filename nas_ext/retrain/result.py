"""What a training leaves: its epochs, its result, or the epoch in which it diverged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Epoch:
    """Hold what one epoch brought; `epoch` counts from 0.

    `train_loss` is the mean over the batches while they trained, `lr` the rate of the epoch's
    first update. `accuracy` (a share in [0, 1]) and `loss` are the evaluation's, None where
    there was none. Seconds do not count when two epochs are compared.
    """

    epoch: int
    train_loss: float
    lr: float
    accuracy: float | None
    loss: float | None
    seconds: float = field(compare=False)


@dataclass(frozen=True)
class FitResult:
    """Hold what a training brought.

    `accuracy`, `loss` and `train_loss` are those of the last epoch: an earlier one is not
    picked out. `best_accuracy` is the largest of all evaluations, for information only.
    `weights` are the judged network's (the moving average's where the recipe keeps one), on the
    CPU. Neither they nor the seconds count when two results are compared.
    """

    accuracy: float
    best_accuracy: float
    loss: float
    train_loss: float
    history: tuple[Epoch, ...]
    parameters: int
    seed: int
    seconds: float = field(compare=False)
    weights: Mapping[str, Tensor] = field(compare=False, repr=False)


class TrainingDiverged(FloatingPointError):
    """Report that the training loss became infinite or NaN: in which epoch, and what to lower.

    `epochs` and `lr` are the recipe's, for the message.
    """

    def __init__(
        self, epoch: int, loss: float, epochs: int | None = None, lr: float | None = None
    ) -> None:
        of = "" if epochs is None else f" of {epochs}"
        rate = "" if lr is None else f" of {lr:g}"
        super().__init__(
            f"the training loss became {loss} in epoch {epoch}{of}: lower the recipe's lr{rate}, "
            "or set warmup_epochs or clip_grad, and train in another folder; no checkpoint holds "
            "such weights"
        )
        self.epoch = epoch
        self.loss = loss
        self._recipe = epochs, lr

    def __reduce__(self) -> tuple[type[TrainingDiverged], tuple[int, float, Any, Any]]:
        """Come through a pipe to another process as the same error."""
        return type(self), (self.epoch, self.loss, *self._recipe)

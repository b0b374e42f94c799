"""How a supernet is trained when the user brings no Lightning module."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from nas_ext.nni import LightningModule
from nas_ext.oneshot.module import SearchModule

__all__ = ["SupernetTraining"]


class SupernetTraining(LightningModule):  # type: ignore[misc]  # NNI has no types
    """Classify with SGD, momentum and a cosine from `learning_rate` to zero.

    The cosine runs once for each start of the weights: a strategy that reinitialises them gets a
    whole one before and a whole one after. The published supernets use a rate of 0.1 or 0.05 with
    batches of 512 or 256, momentum 0.9 and weight decay 1e-3. Chapters 3 and 5.
    """

    def __init__(
        self, *, learning_rate: float = 0.1, momentum: float = 0.9, weight_decay: float = 1e-3
    ) -> None:
        super().__init__()
        for name, value in (("learning_rate", learning_rate), ("momentum", momentum)):
            if not value > 0:
                raise ValueError(f"{name} must be positive, got {value}")
        if not weight_decay >= 0:
            raise ValueError(f"weight_decay must not be negative, got {weight_decay}")
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.weight_decay = weight_decay

    def forward(self, images: torch.Tensor) -> Any:
        return self.model(images)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        images, labels = batch
        logits = self(images)
        try:
            return nn.functional.cross_entropy(logits, labels)
        except IndexError as error:  # on a GPU a wrong label ends the process
            known = f"[0, {logits.shape[-1]}), the model's classes"
            raise ValueError(f"labels must lie in {known}, got {int(labels.max())}") from error

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        images, labels = batch
        right = (self(images).argmax(dim=-1) == labels).float().mean()
        self.log("val_acc", right, prog_bar=True)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(
            self.parameters(),
            lr=self.learning_rate,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._cosine)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def _cosine(self, step: int) -> float:
        """Return the factor of the learning rate at a step since the weights began."""
        trainer, total = self.trainer, 0
        if isinstance(trainer.lightning_module, SearchModule):
            total = trainer.lightning_module.segment_steps
        else:
            total = int(trainer.estimated_stepping_batches)
        return 0.5 * (1.0 + math.cos(math.pi * min(step, total) / total))

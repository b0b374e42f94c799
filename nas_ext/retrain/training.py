"""One network in training: all that an update moves, and how to save and restore it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from timm.data.random_erasing import RandomErasing
from timm.optim import create_optimizer_v2  # type: ignore[attr-defined]  # re-export unmarked
from timm.scheduler.scheduler import Scheduler
from timm.scheduler.scheduler_factory import create_scheduler_v2
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn
from torch.nn import functional

from nas_ext.data import Augmentation, ImageData, Images, loader
from nas_ext.retrain.randomness import random_state, set_random_state
from nas_ext.retrain.recipe import Recipe

EVALUATION_BATCH = 512


class Training:
    """Train one network, an epoch at a time, with timm's optimizer, schedule, erasing and EMA.

    Differs from timm's `train.py` in three points: the schedule goes by updates and begins with
    the warm-up (`warmup_prefix`; without it timm's cosine never reaches the recipe's rate), the
    moving average warms up too, and erased rectangles take the mean colour (cutout).
    """

    def __init__(
        self,
        build: Callable[[], nn.Module],
        recipe: Recipe,
        train: Images,
        data: ImageData,
        *,
        seed: int,
        device: torch.device,
        augmentation: Augmentation | None,
    ) -> None:
        self._recipe = recipe
        self._num_classes = data.num_classes
        self._device = device
        self._batches = loader(
            train,
            data,
            batch_size=recipe.batch_size,
            train=True,
            seed=seed,
            augmentation=augmentation,
        )
        self._shuffle = cast(torch.Generator, self._batches.generator)
        self._model = build().to(device).to(memory_format=torch.channels_last)
        decay = recipe.model_ema_decay
        self._ema = None if decay is None else ModelEmaV3(self._model, decay, use_warmup=True)
        self._optimizer = create_optimizer_v2(
            self._model,
            opt=recipe.opt,
            lr=recipe.lr,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            filter_bias_and_bn=recipe.filter_bias_and_bn,
        )
        scheduler, self.epochs = create_scheduler_v2(
            self._optimizer,
            sched=recipe.sched,
            num_epochs=recipe.epochs - recipe.warmup_epochs,
            warmup_epochs=recipe.warmup_epochs,
            warmup_prefix=True,
            min_lr=recipe.min_lr,
            step_on_epochs=False,
            updates_per_epoch=len(self._batches),
        )
        self._scheduler = cast(Scheduler, scheduler)
        self._erase = RandomErasing(  # type: ignore[no-untyped-call]  # timm leaves it untyped
            recipe.reprob, mode="const", device="cpu"
        )
        self._updates = 0

    @property
    def judged(self) -> nn.Module:
        """Return the network that counts: the moving average where the recipe keeps one."""
        return self._model if self._ema is None else self._ema.module

    @property
    def lr(self) -> float:
        """Return the learning rate of the next update."""
        return float(self._optimizer.param_groups[0]["lr"])

    @property
    def parameters(self) -> int:
        """Count the trainable parameters."""
        return sum(p.numel() for p in self._model.parameters() if p.requires_grad)

    def train_epoch(self) -> float:
        """Train on every batch once; return their mean loss."""
        self._model.train()
        losses = [self._update(pixels, labels) for pixels, labels in self._batches]
        return float(torch.stack(losses).double().cpu().mean())

    def _update(self, pixels: Tensor, labels: Tensor) -> Tensor:
        erased = self._erase(pixels) if self._recipe.reprob else pixels
        inputs = erased.to(self._device, memory_format=torch.channels_last)
        logits = _logits(self._model, inputs, self._num_classes)
        loss = functional.cross_entropy(
            logits, labels.to(self._device), label_smoothing=self._recipe.smoothing
        )
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        if self._recipe.clip_grad is not None:
            nn.utils.clip_grad_norm_(self._model.parameters(), self._recipe.clip_grad)
        self._optimizer.step()
        self._updates += 1
        if self._ema is not None:
            self._ema.update(self._model, step=self._updates)
        self._scheduler.step_update(self._updates)
        return loss.detach()

    def state_dict(self) -> dict[str, Any]:
        """Return everything a continuation needs, random states included.

        `load_state_dict` of it into a training made from the same arguments continues bit by
        bit (on a CPU, with the same number of threads).
        """
        return {
            "model": self._model.state_dict(),
            "ema": None if self._ema is None else self._ema.module.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scheduler": self._scheduler.state_dict(),
            "updates": self._updates,
            "shuffle": self._shuffle.get_state(),
            "random": random_state(self._device),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`'s state; the global generators are set too."""
        self._model.load_state_dict(state["model"])
        if self._ema is not None:
            self._ema.module.load_state_dict(state["ema"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._scheduler.load_state_dict(state["scheduler"])
        self._updates = state["updates"]
        self._shuffle.set_state(state["shuffle"])
        set_random_state(state["random"], self._device)


def accuracy_and_loss(
    model: nn.Module, images: Images, data: ImageData, *, device: torch.device
) -> tuple[float, float]:
    """Judge a network in evaluation mode on all images: share of right answers, mean loss."""
    model.eval()
    right, loss = 0, 0.0
    with torch.inference_mode():
        for pixels, labels in loader(images, data, batch_size=EVALUATION_BATCH, train=False):
            inputs = pixels.to(device, memory_format=torch.channels_last)
            logits = _logits(model, inputs, data.num_classes).cpu()
            right += int((logits.argmax(1) == labels).sum())
            loss += float(functional.cross_entropy(logits, labels, reduction="sum"))
    return right / len(images), loss / len(images)


def _logits(model: nn.Module, inputs: Tensor, num_classes: int) -> Tensor:
    logits: Tensor = model(inputs)
    if logits.shape != (len(inputs), num_classes):
        expected, got = [len(inputs), num_classes], list(logits.shape)
        raise ValueError(f"build must make a network with outputs {expected}, got {got}")
    return logits

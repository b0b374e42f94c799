"""One network in training: all that an update moves, and how to save and restore it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any, cast

import torch
from timm.data.mixup import Mixup
from timm.data.random_erasing import RandomErasing
from timm.optim import create_optimizer_v2  # type: ignore[attr-defined]  # re-export unmarked
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from nas_ext.data import Augmentation, ImageData, Images, loader
from nas_ext.retrain.augment import rand_augment
from nas_ext.retrain.distributed import Ranks
from nas_ext.retrain.precision import Precision
from nas_ext.retrain.randomness import derived_seed, random_state, set_random_state
from nas_ext.retrain.recipe import Recipe
from nas_ext.retrain.schedules import schedule

EVALUATION_BATCH = 512


class Training:
    """Train one network, an epoch at a time, with timm's optimizer, schedule, mixing and EMA.

    Differs from timm's `train.py` in three points: the schedule goes by updates and begins with
    the warm-up (`warmup_prefix`; without it timm's cosine never reaches the recipe's rate), the
    moving average warms up too, and erased rectangles take the mean colour (cutout). As there,
    images are moved and mirrored, then RandAugmented, normalised, erased in part, and mixed.

    With several `ranks` each trains on its share of every batch; `dtype` is that of mixed
    precision.
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
        dtype: torch.dtype | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self._recipe = recipe
        self._num_classes = data.num_classes
        self._device = device
        self._ranks = ranks or Ranks()
        self._batches = self._loader(train, data, seed, augmentation)
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
        self._scheduler = schedule(self._optimizer, recipe, len(self._batches))
        self._precision = Precision(dtype, device)
        self._erase = RandomErasing(  # type: ignore[no-untyped-call]  # timm leaves it untyped
            recipe.reprob, mode="const", device="cpu"
        )
        self._mix = _mixing(recipe, data.num_classes)
        self._network = self._ranks.parallel(self._model, device)
        self._updates = 0

    def _loader(
        self, train: Images, data: ImageData, seed: int, augmentation: Augmentation | None
    ) -> DataLoader[tuple[Tensor, Tensor]]:
        text, rank = self._recipe.auto_augment, self._ranks.rank
        self._moves = (
            None if rank == 0 else torch.Generator().manual_seed(derived_seed(seed, rank))
        )
        return loader(
            train,
            data,
            batch_size=self._recipe.batch_size,
            train=True,
            seed=seed,
            augmentation=augmentation,
            vary=None if text is None else rand_augment(text, data),
            share=(rank, self._ranks.count),
            moves=self._moves,
        )

    @property
    def updates_per_epoch(self) -> int:
        """Return the number of batches of an epoch."""
        return len(self._batches)

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

    def train_epoch(self, on_update: Callable[[], None] | None = None) -> float:
        """Train on every batch once; return their mean loss."""
        self._model.train()
        losses = []
        for pixels, labels in self._batches:
            losses.append(self._update(pixels, labels))
            if on_update is not None:
                on_update()
        self._ranks.average_buffers(self._model)
        if self._ema is not None:
            self._ranks.average_buffers(self._ema.module)
        mean = torch.stack(losses).double().cpu().mean()
        return sum(self._ranks.gathered(float(mean))) / self._ranks.count

    def _update(self, pixels: Tensor, labels: Tensor) -> Tensor:
        varied = self._erase(pixels) if self._recipe.reprob else pixels
        smoothing, targets = self._recipe.smoothing, labels
        if self._mix is not None:
            varied, targets = self._mix(varied, labels)
            smoothing = 0.0  # the mixed targets are smooth already
        inputs = varied.to(self._device, memory_format=torch.channels_last)
        with self._precision.forward():
            logits = _logits(self._network, inputs, self._num_classes)
            loss = functional.cross_entropy(
                logits, targets.to(self._device), label_smoothing=smoothing
            )
        self._optimizer.zero_grad()
        self._precision.update(loss, self._optimizer, self._model, self._recipe.clip_grad)
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
            "precision": self._precision.state_dict(),
            "updates": self._updates,
            "random": self._ranks.gathered(self._random_state()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`'s state; the global generators are set too."""
        self._model.load_state_dict(state["model"])
        if self._ema is not None:
            self._ema.module.load_state_dict(state["ema"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._scheduler.load_state_dict(state["scheduler"])
        self._precision.load_state_dict(state["precision"])
        self._updates = state["updates"]
        random = state["random"][self._ranks.rank]
        self._shuffle.set_state(random["shuffle"])
        if self._moves is not None:
            self._moves.set_state(random["moves"])
        set_random_state(random["global"], self._device)

    def _random_state(self) -> dict[str, Any]:
        return {
            "shuffle": self._shuffle.get_state(),
            "moves": None if self._moves is None else self._moves.get_state(),
            "global": random_state(self._device),
        }


def _mixing(recipe: Recipe, num_classes: int) -> Mixup | None:
    if not recipe.mixes:
        return None
    return Mixup(  # type: ignore[no-untyped-call]  # timm leaves it untyped
        mixup_alpha=recipe.mixup,
        cutmix_alpha=recipe.cutmix,
        label_smoothing=recipe.smoothing,
        num_classes=num_classes,
    )


def accuracy_and_loss(
    model: nn.Module,
    images: Images,
    data: ImageData,
    *,
    device: torch.device,
    ranks: Ranks | None = None,
) -> tuple[float, float]:
    """Judge a network in evaluation mode on all images: share of right answers, mean loss.

    With several `ranks` each takes its share of the batches; the answer is the same for all.
    """
    ranks = ranks or Ranks()
    model.eval()
    right, loss = 0, 0.0
    batches = loader(images, data, batch_size=EVALUATION_BATCH, train=False)
    with torch.inference_mode():
        for pixels, labels in islice(batches, ranks.rank, None, ranks.count):
            inputs = pixels.to(device, memory_format=torch.channels_last)
            logits = _logits(model, inputs, data.num_classes).cpu()
            right += int((logits.argmax(1) == labels).sum())
            loss += float(functional.cross_entropy(logits, labels, reduction="sum"))
    shares = ranks.gathered((right, loss))
    right, loss = sum(share[0] for share in shares), sum(share[1] for share in shares)
    return right / len(images), loss / len(images)


def _logits(model: nn.Module, inputs: Tensor, num_classes: int) -> Tensor:
    logits: Tensor = model(inputs)
    if logits.shape != (len(inputs), num_classes):
        expected, got = [len(inputs), num_classes], list(logits.shape)
        raise ValueError(f"build must make a network with outputs {expected}, got {got}")
    return logits

"""How a supernet is trained on images: budget, batches, optimizer, device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback

from nas_ext.data import Augmentation, ImageData, loader
from nas_ext.field_types import check_fields
from nas_ext.nni import Lightning, Trainer
from nas_ext.oneshot import SearchProgress, SupernetTraining
from nas_ext.oneshot.resuming import WholeFiles

__all__ = ["Training", "described", "evaluator"]


@dataclass(frozen=True, kw_only=True)
class Training:
    """Say how a supernet is trained: budget, batches, optimizer and device.

    `steps` are optimizer steps, each one training pass; `validation_batch_size` is that of
    rewards and rankings, at least 64 where the images suffice, since every batch is normalised by
    its own statistics. Without `augment` the images are trained on as they are.
    """

    steps: int = 2000
    batch_size: int = 64
    validation_batch_size: int = 128
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-3
    device: str = "auto"
    progress: bool = True
    augment: bool = True

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("steps", "batch_size", "validation_batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay must not be negative, got {self.weight_decay}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must lie in [0, 1), got {self.momentum}")
        if self.device not in ("auto", "cpu", "gpu"):
            raise ValueError(f"device must be auto, cpu or gpu, got {self.device!r}")


def evaluator(
    data: ImageData,
    training: Training,
    *,
    seed: int,
    title: str,
    callbacks: Sequence[Callback] = (),
    checkpoint: Path | None = None,
) -> Any:
    """Return NNI's Lightning evaluator that trains on `data.train` and validates on `data.val`.

    It goes on from a `checkpoint` where there is one.
    """
    train = loader(
        data.train,
        data,
        batch_size=training.batch_size,
        train=True,
        seed=seed,
        augmentation=None if training.augment else Augmentation(),
    )
    val = loader(
        data.val,
        data,
        batch_size=training.validation_batch_size,
        train=False,
        seed=seed,
        drop_last=True,
    )
    trainer = Trainer(
        max_steps=training.steps,
        max_epochs=-1,
        accelerator=training.device,
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=training.progress,
        callbacks=[*callbacks, *([SearchProgress(title)] if training.progress else [])],
        plugins=[WholeFiles()],
        limit_val_batches=0,
    )
    module = SupernetTraining(
        learning_rate=training.learning_rate,
        momentum=training.momentum,
        weight_decay=training.weight_decay,
    )
    going_on = {} if checkpoint is None else {"ckpt_path": str(checkpoint)}
    return Lightning(
        module, trainer, train_dataloaders=train, val_dataloaders=val, fit_kwargs=going_on
    )


def described(data: ImageData) -> dict[str, Any]:
    """Return what a result says of its images: name, digest, shape and numbers, as JSON values."""
    return {
        "name": data.name,
        "digest": data.digest,
        "size": [data.in_chs, *data.image_size],
        "images": {"train": len(data.train), "val": len(data.val), "test": len(data.test)},
    }

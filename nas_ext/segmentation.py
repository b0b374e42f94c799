"""What NNI's evaluator needs to search segmentation networks: loss, metric and reward."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nas_ext.nni import LightningModule
from nas_ext.oneshot import SupernetTraining

__all__ = ["IGNORE_INDEX", "Segmentation", "intersection_over_union", "mean_iou"]

IGNORE_INDEX = 255
"""The label of pixels that are neither trained on nor counted, as Cityscapes and VOC have it."""


def intersection_over_union(
    predicted: Tensor, labels: Tensor, *, num_classes: int, ignore_index: int = IGNORE_INDEX
) -> Tensor:
    """Return the `[num_classes]` intersections over unions, from one confusion over all pixels.

    NaN for classes that neither `predicted` nor `labels`, of one shape, have. Raises ValueError
    for labels that are no class and not `ignore_index`.
    """
    if predicted.shape != labels.shape:
        raise ValueError(
            f"predicted must be of the labels' shape {list(labels.shape)}, "
            f"got {list(predicted.shape)}"
        )
    counted = labels != ignore_index
    truth, found = labels[counted], predicted[counted]
    wrong = truth[(truth < 0) | (truth >= num_classes)]
    if len(wrong):
        raise ValueError(
            f"labels must lie in [0, {num_classes}) or be {ignore_index}, got {int(wrong[0])}"
        )
    pairs = torch.bincount(truth * num_classes + found, minlength=num_classes**2)
    confusion = pairs.view(num_classes, num_classes).double()
    both = confusion.diagonal()
    return both / (confusion.sum(0) + confusion.sum(1) - both)


def mean_iou(module: LightningModule, batch: Any, *, ignore_index: int = IGNORE_INDEX) -> float:
    """Return the mean intersection over union of a batch (images, labels), a share in [0, 1].

    A `reward` of strategies: all pixels of the batch make one confusion, and classes that neither
    labels nor predictions have are left out (section 4.1). `functools.partial` sets another
    `ignore_index`. Raises ValueError for a batch or an output of another form, and for a batch
    whose pixels are all ignored.
    """
    if not (isinstance(batch, list | tuple) and len(batch) >= 2):
        raise ValueError(
            f"batch must be (images, labels) for the mean IoU, got {type(batch).__name__}"
        )
    return float(_mean_iou(module(batch[0]), batch[1], ignore_index))


def _mean_iou(logits: Any, labels: Any, ignore_index: int) -> Tensor:
    _check_forms(logits, labels)
    shares = intersection_over_union(
        logits.argmax(dim=1), labels, num_classes=logits.shape[1], ignore_index=ignore_index
    )
    seen = shares[~shares.isnan()]
    if not len(seen):
        raise ValueError(f"labels must have a pixel that is not {ignore_index}, they have none")
    return seen.mean()


def _check_forms(logits: Any, labels: Any) -> None:
    """Raise ValueError unless these are logits [S, C, H, W] and labels [S, H, W]."""
    fits = isinstance(logits, Tensor) and isinstance(labels, Tensor) and logits.ndim == 4
    if not fits or logits.shape[:1] + logits.shape[2:] != labels.shape:
        given = [
            str(list(x.shape)) if isinstance(x, Tensor) else type(x).__name__
            for x in (logits, labels)
        ]
        raise ValueError(
            "module must return [S, C, H, W] for labels [S, H, W] to be segmentation, got "
            f"{given[0]} for {given[1]}"
        )


class Segmentation(SupernetTraining):
    """Segment with SGD, momentum and a cosine from `learning_rate` to zero, for NNI's evaluator.

    Batches are images `[S, C, H, W]` and labels `[S, H, W]`, a class for each pixel or
    `ignore_index`; the loss is the mean cross-entropy of the others, zero where there are none.
    Validation logs "val_miou", the mean over batches of `mean_iou`; a strategy takes it as
    `reward="val_miou"`, or `mean_iou` itself.

    Rate and weight decay are those of chapter 4 for Auto-DeepLab; its momentum is not printed.
    """

    def __init__(
        self,
        *,
        learning_rate: float = 0.025,
        momentum: float = 0.9,
        weight_decay: float = 3e-4,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__(learning_rate=learning_rate, momentum=momentum, weight_decay=weight_decay)
        self.ignore_index = ignore_index

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        images, labels = batch
        logits = self(images)
        _check_forms(logits, labels)
        total = nn.functional.cross_entropy(
            logits, labels, ignore_index=self.ignore_index, reduction="sum"
        )
        loss: Tensor = total / (labels != self.ignore_index).sum().clamp(min=1)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        images, labels = batch
        share = _mean_iou(self(images), labels, self.ignore_index)
        self.log("val_miou", share.float(), prog_bar=True)

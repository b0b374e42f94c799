"""One training from scratch, repeatable from its seed and resumable from its checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nas_ext.data import Augmentation, ImageData, Images, default_augmentation
from nas_ext.retrain.checkpoint import restore, save
from nas_ext.retrain.distributed import Ranks, joined
from nas_ext.retrain.precision import precision
from nas_ext.retrain.processes import on_devices
from nas_ext.retrain.progress import TrainingProgress, training_progress
from nas_ext.retrain.randomness import kept_randomness, own_randomness, seed_generators
from nas_ext.retrain.recipe import Recipe
from nas_ext.retrain.result import Epoch, FitResult, TrainingDiverged
from nas_ext.retrain.training import Training, accuracy_and_loss

__all__ = ["Epoch", "FitResult", "TrainingDiverged", "fit"]

Device = str | torch.device
OnEpoch = Callable[[Epoch], None]


def fit(
    build: Callable[[], nn.Module],
    recipe: Recipe,
    train: Images,
    evaluate: Images,
    data: ImageData,
    *,
    seed: int,
    device: Device | Sequence[Device] = "cpu",
    augmentation: Augmentation | None = None,
    checkpoint: Path | None = None,
    on_epoch: OnEpoch | None = None,
    evaluate_every_epoch: bool = True,
    amp: bool | str = False,
    progress: bool = False,
) -> FitResult:
    """Train a fresh network on `train` and judge it on all of `evaluate`.

    `build` makes the network, with torch's global generator seeded; `data` gives the images'
    normalisation and the number of classes. The same arguments give the same bits on the same
    kind of CPU with the same number of threads. The process's random states are left alone.

    With a `checkpoint` the training is saved there after every epoch, and continues from there,
    bit by bit, when the file exists; the file stays. `on_epoch` is told each epoch after it is
    saved, restored ones first; what it raises ends the training. Without `evaluate_every_epoch`
    only the network of the last epoch is judged.

    `amp` computes updates in mixed precision: True is bfloat16 or, on GPUs without it, float16
    with scaled gradients; a CPU, slower with it, takes "bfloat16" by name. Networks are judged in
    full precision. `progress` shows a bar on stderr.

    Several devices (`["cuda:0", "cuda:1"]`, or `["cpu", "cpu"]`) train together, in one new
    process each, for which `build` must be picklable. So do the processes of a program under
    torchrun that all call this alike: each returns the result, the first one writes the
    checkpoint, is told the epochs and shows the bar. Each takes its share of every batch, with
    batch norm on that share, running statistics averaged after each epoch, and random numbers of
    its own: other bits than a single device's, and the same whenever as many train.

    Raises TrainingDiverged when an epoch's loss is not finite, and ValueError for a checkpoint
    of another training, a broken one, a network with the wrong outputs, too few images for one
    batch, and settings that do not fit the images or the devices.
    """
    places = [device] if isinstance(device, str | torch.device) else device
    devices = [torch.device(place) for place in places]
    if not devices:
        raise ValueError("device must name one at least, got []")
    task = _Task(
        build=build,
        recipe=recipe,
        train=train,
        evaluate=evaluate,
        data=data,
        seed=seed,
        augmentation=default_augmentation(data) if augmentation is None else augmentation,
        checkpoint=checkpoint,
        evaluate_every_epoch=evaluate_every_epoch,
        amp=amp,
        progress=progress,
    )
    tell = on_epoch or _nothing
    if len(devices) > 1:
        task.check_shares(len(devices))
        return on_devices(task, devices, tell)
    return task(devices[0], tell)


def _nothing(epoch: Epoch) -> None:
    """Be told an epoch."""


@dataclass(frozen=True, kw_only=True)
class _Task:
    """All that `fit` is asked for, but the place and who is told."""

    build: Callable[[], nn.Module]
    recipe: Recipe
    train: Images
    evaluate: Images
    data: ImageData
    seed: int
    augmentation: Augmentation
    checkpoint: Path | None
    evaluate_every_epoch: bool
    amp: bool | str
    progress: bool

    def __call__(self, device: torch.device, report: OnEpoch) -> FitResult:
        """Train on a device, as one of the processes that this one may belong to."""
        ranks, place = joined(device)
        with own_randomness(self.seed, place):
            self.check_shares(ranks.count)
            training = Training(
                self.build,
                self.recipe,
                self.train,
                self.data,
                seed=self.seed,
                device=place,
                augmentation=self.augmentation,
                dtype=precision(self.amp, place),
                ranks=ranks,
            )
            if not ranks.first:  # weights are the first one's; what is drawn from here is not
                seed_generators(self.seed, place, rank=ranks.rank)
            with training_progress(
                self.progress and ranks.first,
                epochs=self.recipe.epochs,
                updates=training.updates_per_epoch,
            ) as bar:
                history = self._run(training, ranks, place, report, bar)
            return _result(training, history, self.seed)

    def _run(
        self,
        training: Training,
        ranks: Ranks,
        device: torch.device,
        report: OnEpoch,
        bar: TrainingProgress,
    ) -> list[Epoch]:
        identity = self._identity(ranks, device)
        path = self.checkpoint
        history = [] if path is None else restore(path, training, identity, ranks)
        for epoch in history:
            bar.epoch(epoch)
            _tell(report, epoch, ranks, device)
        while len(history) < self.recipe.epochs:
            history.append(self._epoch(training, len(history), ranks, device, bar))
            if path is not None:
                save(path, training, identity, history, ranks)
            bar.epoch(history[-1])
            _tell(report, history[-1], ranks, device)
        return history

    def _epoch(
        self,
        training: Training,
        number: int,
        ranks: Ranks,
        device: torch.device,
        bar: TrainingProgress,
    ) -> Epoch:
        start = time.perf_counter()
        lr = training.lr
        train_loss = training.train_epoch(bar.update)
        if not math.isfinite(train_loss):
            raise TrainingDiverged(number, train_loss, self.recipe.epochs, self.recipe.lr)
        accuracy, loss = None, None
        if self.evaluate_every_epoch or number + 1 == self.recipe.epochs:
            accuracy, loss = accuracy_and_loss(
                training.judged, self.evaluate, self.data, device=device, ranks=ranks
            )
        return Epoch(number, train_loss, lr, accuracy, loss, time.perf_counter() - start)

    def _identity(self, ranks: Ranks, device: torch.device) -> dict[str, Any]:
        """Return what a checkpoint must agree in, as plain values."""
        dtype = precision(self.amp, device)
        return {
            "recipe": self.recipe.to_json(),
            "seed": self.seed,
            "data": self.data.digest,
            "training images": len(self.train),
            "evaluated images": len(self.evaluate),
            "augmentation": asdict(self.augmentation),
            "evaluation in every epoch": self.evaluate_every_epoch,
            "mixed precision": None if dtype is None else str(dtype),
            "processes": ranks.count,
        }

    def check_shares(self, count: int) -> None:
        """Refuse batches that a number of processes cannot share."""
        size, unit = self.recipe.batch_size, count * (2 if self.recipe.mixes else 1)
        if count > 1 and size % unit:
            raise ValueError(
                f"batch_size must be a multiple of {unit} for {count} devices, got {size}"
            )


def _tell(report: OnEpoch, epoch: Epoch, ranks: Ranks, device: torch.device) -> None:
    """Tell an epoch in the first process; where that ends the training, end it in all."""
    ended = True
    try:
        if ranks.first:
            with kept_randomness(device):  # whatever it draws, the training goes on as it would
                report(epoch)
        ended = False
    finally:
        ended = ranks.from_first(ended)
    if ended:
        raise RuntimeError(f"the first process ended the training in epoch {epoch.epoch}")


def _result(training: Training, history: list[Epoch], seed: int) -> FitResult:
    last = history[-1]
    if last.accuracy is None or last.loss is None:
        raise RuntimeError("the last epoch was not evaluated")
    accuracies = [epoch.accuracy for epoch in history if epoch.accuracy is not None]
    weights = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in training.judged.state_dict().items()
    }
    return FitResult(
        accuracy=last.accuracy,
        best_accuracy=max(accuracies),
        loss=last.loss,
        train_loss=last.train_loss,
        history=tuple(history),
        parameters=training.parameters,
        seed=seed,
        seconds=sum(epoch.seconds for epoch in history),
        weights=weights,
    )

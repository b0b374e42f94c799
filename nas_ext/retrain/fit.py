"""One training from scratch, repeatable from its seed and resumable from its checkpoint."""

from __future__ import annotations

import io
import pickle
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nas_ext.data import Augmentation, ImageData, Images, default_augmentation
from nas_ext.files import write_bytes
from nas_ext.retrain.randomness import kept_randomness, own_randomness
from nas_ext.retrain.recipe import Recipe
from nas_ext.retrain.training import Training, accuracy_and_loss


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
    """Report that the training loss became infinite or NaN, in which epoch and how."""

    def __init__(self, epoch: int, loss: float) -> None:
        super().__init__(f"the training loss became {loss} in epoch {epoch}")
        self.epoch = epoch
        self.loss = loss


def fit(
    build: Callable[[], nn.Module],
    recipe: Recipe,
    train: Images,
    evaluate: Images,
    data: ImageData,
    *,
    seed: int,
    device: str | torch.device = "cpu",
    augmentation: Augmentation | None = None,
    checkpoint: Path | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    evaluate_every_epoch: bool = True,
) -> FitResult:
    """Train a fresh network on `train` and judge it on all of `evaluate`.

    `build` makes the network, with torch's global generator seeded; `data` gives the images'
    normalisation and the number of classes. The same arguments give the same bits on the same
    kind of CPU with the same number of threads. The process's random states are left alone.

    With a `checkpoint` the training is saved there after every epoch, and continues from there,
    bit by bit, when the file exists; the file stays. `on_epoch` is told each epoch after it is
    saved, restored ones first; what it raises ends the training. Without `evaluate_every_epoch`
    only the network of the last epoch is judged.

    Raises TrainingDiverged when an epoch's loss is not finite, and ValueError for a checkpoint
    of another training, a broken one, a network with the wrong outputs, and too few images for
    one batch.
    """
    place = torch.device(device)
    varied = default_augmentation(data) if augmentation is None else augmentation
    identity: dict[str, Any] = {
        "recipe": recipe.to_json(),
        "seed": seed,
        "data": data.digest,
        "training images": len(train),
        "evaluated images": len(evaluate),
        "augmentation": asdict(varied),
        "evaluation in every epoch": evaluate_every_epoch,
    }
    with own_randomness(seed, place):
        training = Training(
            build, recipe, train, data, seed=seed, device=place, augmentation=varied
        )
        history = [] if checkpoint is None else _restore(checkpoint, training, identity)
        for epoch in history:
            _tell(on_epoch, epoch, place)
        while len(history) < training.epochs:
            judges = evaluate_every_epoch or len(history) + 1 == training.epochs
            judged = evaluate if judges else None
            history.append(_run_epoch(training, len(history), judged, data, place))
            if checkpoint is not None:
                _save(checkpoint, training, identity, history)
            _tell(on_epoch, history[-1], place)
        return _result(training, history, seed)


def _run_epoch(
    training: Training, number: int, evaluate: Images | None, data: ImageData, device: torch.device
) -> Epoch:
    start = time.perf_counter()
    lr = training.lr
    train_loss = training.train_epoch()
    if not torch.isfinite(torch.tensor(train_loss)):
        raise TrainingDiverged(number, train_loss)
    accuracy, loss = None, None
    if evaluate is not None:
        accuracy, loss = accuracy_and_loss(training.judged, evaluate, data, device=device)
    return Epoch(number, train_loss, lr, accuracy, loss, time.perf_counter() - start)


def _tell(on_epoch: Callable[[Epoch], None] | None, epoch: Epoch, device: torch.device) -> None:
    if on_epoch is not None:
        with kept_randomness(device):  # whatever it draws, the training goes on as it would
            on_epoch(epoch)


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


def _save(path: Path, training: Training, identity: dict[str, Any], history: list[Epoch]) -> None:
    buffer = io.BytesIO()
    state = {
        "identity": identity,
        "history": [asdict(epoch) for epoch in history],
        "training": training.state_dict(),
    }
    torch.save(state, buffer)
    write_bytes(path, buffer.getvalue())


def _restore(path: Path, training: Training, identity: dict[str, Any]) -> list[Epoch]:
    if not path.exists():
        return []
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        saved = state["identity"]
    except (
        *(OSError, EOFError, RuntimeError, pickle.UnpicklingError),  # torch.load's
        *(KeyError, TypeError),  # not one of ours
    ) as error:
        raise ValueError(f"{path} is not a readable checkpoint: {error}") from error
    for name, value in identity.items():
        if saved.get(name) != value:
            raise ValueError(
                f"checkpoint {path} belongs to another training: {name} was {saved.get(name)}, "
                f"is now {value}"
            )
    try:
        training.load_state_dict(state["training"])
    except RuntimeError as error:
        raise ValueError(f"checkpoint {path} does not fit the network: {error}") from error
    return [Epoch(**epoch) for epoch in state["history"]]

"""The same training with several seeds: in this process, or one process for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nas_ext.data import Augmentation, ImageData
from nas_ext.out_of_memory import naming_memory
from nas_ext.retrain.fit import fit
from nas_ext.retrain.recipe import Recipe
from nas_ext.retrain.result import TrainingDiverged
from nas_ext.workers import finished


@dataclass(frozen=True, kw_only=True)
class Repeat:
    """Name one training of a recipe: with which seed, and where it saves its epochs.

    `key` tells the caller which of its trainings this is. With `test` the network is trained on
    train and val together and judged on the test set, otherwise on train and on val.
    """

    key: tuple[Any, ...]
    build: Callable[[Recipe], nn.Module]
    recipe: Recipe
    seed: int
    checkpoint: Path
    augmentation: Augmentation | None = None
    test: bool = False


@dataclass(frozen=True, kw_only=True)
class Repeated:
    """Hold what one training brought; `accuracy` is a share in [0, 1].

    One that diverged has the accuracy 0, says so in `error`, and has no loss and no weights.
    """

    seed: int
    accuracy: float
    loss: float | None
    seconds: float
    error: str | None = None
    weights: Mapping[str, Tensor] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return all but the weights as JSON values."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "weights"}


def repeat(
    repeats: Sequence[Repeat],
    data: ImageData,
    *,
    device: str | torch.device = "cpu",
    workers: int = 1,
    weights: bool = False,
) -> Iterator[tuple[Repeat, Repeated]]:
    """Train each once and yield it with its result as soon as it ends; checkpoints stay.

    The network is judged after its last epoch alone. One worker is this process with its own
    number of threads; more are processes of one thread each, for which builders must be
    picklable. The number of threads may change the last bits of a result. `weights` asks for
    the networks' weights, too. Raises ValueError for fewer than one worker.
    """
    tasks = [(one, data, device, weights) for one in repeats]
    if workers == 1:
        for task in tasks:
            yield task[0], _train(*task)
    else:
        for done, result in finished(_train, tasks, workers=workers, named=_named):
            yield done[0], result


def _named(task: Sequence[Any]) -> str:
    return f"the training {task[0].checkpoint.stem}"


def _train(one: Repeat, data: ImageData, device: str | torch.device, weights: bool) -> Repeated:
    lower = "the recipe's batch_size or the image size"
    with naming_memory(lambda: _named((one,)), lower=lower):
        return _trained(one, data, device, weights)


def _trained(one: Repeat, data: ImageData, device: str | torch.device, weights: bool) -> Repeated:
    train, judged = (data.train_and_val(), data.test) if one.test else (data.train, data.val)
    try:
        found = fit(
            partial(one.build, one.recipe),
            one.recipe,
            train,
            judged,
            data,
            seed=one.seed,
            device=device,
            augmentation=one.augmentation,
            checkpoint=one.checkpoint,
            evaluate_every_epoch=False,
        )
    except TrainingDiverged as error:
        return Repeated(seed=one.seed, accuracy=0.0, loss=None, seconds=0.0, error=str(error))
    return Repeated(
        seed=found.seed,
        accuracy=found.accuracy,
        loss=found.loss,
        seconds=found.seconds,
        weights=found.weights if weights else None,
    )

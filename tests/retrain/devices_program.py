"""Train on two devices: started by torchrun, or with `own`, which starts its own processes.

Prints what came out as one JSON line, from each process of torchrun's.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nas_ext.data import Augmentation, digits
from nas_ext.retrain import Epoch, FitResult, Recipe, TrainingDiverged, fit
from nas_ext.retrain.processes import on_devices

PLAIN = Recipe(epochs=2, batch_size=50, lr=0.05, warmup_epochs=1, smoothing=0.1, clip_grad=1.0)
RICH = Recipe(
    epochs=3, batch_size=32, warmup_epochs=1, min_lr=1e-3, smoothing=0.1, clip_grad=1.0,
    reprob=0.3, mixup=0.4, cutmix=1.0, model_ema_decay=0.9,
)  # fmt: skip


class Stop(Exception):
    """Ends a training from outside."""


def rich_network() -> nn.Module:
    """A network with batch norm and dropout."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
        nn.Flatten(), nn.Dropout(0.1), nn.Linear(64, 10),
    )  # fmt: skip


def digest(result: FitResult) -> str:
    """Return what only equal bits share."""
    hasher = hashlib.sha256(repr(result.history[-1].accuracy).encode())
    for epoch in result.history:
        hasher.update(repr(epoch.train_loss).encode())
    for weight in result.weights.values():
        hasher.update(weight.numpy().tobytes())
    return hasher.hexdigest()


def flat_network() -> nn.Module:
    """A network without batch norm and draws, which two devices train like one."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def train(
    build: Callable[[], nn.Module], recipe: Recipe, device: Any = "cpu", **options: Any
) -> FitResult:
    data = digits()
    data = replace(data, train=data.train.select(torch.arange(150)))
    return fit(build, recipe, data.train, data.val, data, seed=3, device=device, **options)


def flat() -> dict[str, list[float]]:
    result = train(flat_network, PLAIN, augmentation=Augmentation())
    return {
        "flat": [result.train_loss, result.accuracy, result.loss],
        "flat weights": result.weights["1.weight"].flatten().tolist(),
    }


def stop_after(last: int, told: list[int], epoch: Epoch) -> None:
    """End the training; `told` is of the process that listens."""
    told.append(epoch.epoch)
    if epoch.epoch == last:
        raise Stop


def diverge(device: torch.device, report: Callable[[Any], None]) -> None:
    """Do what a process does whose training diverges."""
    raise TrainingDiverged(7, float("inf"))


def interrupted(device: Any, path: Path) -> tuple[list[int], str]:
    told: list[int] = []
    try:
        train(rich_network, RICH, device, checkpoint=path, on_epoch=partial(stop_after, 1, told))
    except (Stop, RuntimeError) as error:
        return told, type(error).__name__
    return told, "none"


def by_torchrun(folder: Path) -> dict[str, Any]:
    """Train as one of torchrun's processes."""
    told, ended = interrupted("cpu", folder / "torchrun.pt")
    resumed = train(rich_network, RICH, checkpoint=folder / "torchrun.pt")
    return {
        "whole": digest(train(rich_network, RICH)),
        "resumed": digest(resumed),
        "told": told,
        "ended": ended,
        **flat(),
    }


def by_own_processes(folder: Path) -> dict[str, Any]:
    """Train in own processes, and the flat network in this one alone."""
    devices = ["cpu", "cpu"]
    told, ended = interrupted(devices, folder / "own.pt")
    listened: list[int] = []
    resumed = train(
        rich_network, RICH, devices, checkpoint=folder / "own.pt",
        on_epoch=partial(stop_after, -1, listened),
    )  # fmt: skip
    try:
        on_devices(diverge, [torch.device("cpu")], print)
        diverged = "no"
    except TrainingDiverged as error:
        diverged = str(error)
    return {
        "resumed": digest(resumed), "told": told, "ended": ended, "listened": listened,
        "diverged": diverged, **flat(),
    }  # fmt: skip


if __name__ == "__main__":
    torch.set_num_threads(1)
    work = by_own_processes if sys.argv[1] == "own" else by_torchrun
    folder = Path(sys.argv[2])
    found = work(folder)
    with open(folder / "speaking", "w") as turn:  # both processes write to one pipe: in turn
        fcntl.flock(turn, fcntl.LOCK_EX)
        print(json.dumps(found), flush=True)

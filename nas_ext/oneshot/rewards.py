"""Rewards: what an architecture is worth on one validation batch, as a share in [0, 1]."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real
from typing import Any, TypeAlias

import torch

from nas_ext.nni import LightningModule
from nas_ext.oneshot.steps import call_step

__all__ = ["Reward", "accuracy", "logged"]

Reward: TypeAlias = Callable[[LightningModule, Any], float]
"""From the evaluator's module, in evaluation mode, and a batch on its device, to a share."""


def accuracy(module: LightningModule, batch: Any) -> float:
    """Return the share of a batch (inputs, labels) whose highest logit is the label.

    Raises ValueError for a batch or an output of another form (such a task needs `logged`) and
    for labels of no class, FloatingPointError for logits that are infinite or NaN: a network that
    exploded would else count as one that is right by chance. Minus infinity may mask a class.
    """
    if not (isinstance(batch, list | tuple) and len(batch) >= 2):
        raise ValueError(
            "batch must be (inputs, labels) for the accuracy reward, got "
            f"{type(batch).__name__}; name a metric of your validation_step as reward instead"
        )
    logits = module(batch[0])
    if not isinstance(logits, torch.Tensor) or _form(logits[..., 0]) != _form(batch[1]):
        raise ValueError(
            "module must return [S, C] for labels [S] for the accuracy reward, got "
            f"{_form(logits)} for {_form(batch[1])}; name a metric of your validation_step as "
            "reward instead"
        )
    labels, classes = batch[1], logits.shape[-1]
    if labels.device.type == "cpu" and labels.numel() and (most := labels.max().item()) >= classes:
        raise ValueError(f"labels must lie in [0, {classes}), the model's classes, got {most}")
    right = float((logits.argmax(dim=-1) == labels).double().mean())
    if not math.isfinite(float(logits.sum())) and not bool(logits.amax(dim=-1).isfinite().all()):
        raise FloatingPointError("logits became infinite or NaN")
    return right


def logged(name: str) -> Reward:
    """Return the reward that is a metric which the module's `validation_step` logs.

    The step runs in evaluation mode without gradients and what it logs is caught, so that
    neither the trainer's metrics nor its logger see it. Numbers and tensors are understood, not
    metric objects: those gather over batches, and over architectures too. Raises ValueError when
    the step logs no such name, or no number under it.
    """

    def reward(module: LightningModule, batch: Any) -> float:
        seen: dict[str, Any] = {}

        def record(name: str, value: Any, *_: Any, **__: Any) -> None:
            seen[name] = value

        caught: Any = module
        before = caught.log
        caught.log = record
        try:
            call_step(module.validation_step, batch, 0)
        finally:
            caught.log = before
        if name not in seen:
            raise ValueError(
                f"reward must be logged by validation_step, got {name!r}, it logs {sorted(seen)}"
            )
        value = seen[name]
        if not isinstance(value, torch.Tensor | Real):
            raise ValueError(
                f"reward {name!r} must be logged as a number, got a {type(value).__name__}: "
                "log the value it has on the batch"
            )
        return float(value)

    return reward


def _form(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return type(value).__name__ if shape is None else str(list(shape))

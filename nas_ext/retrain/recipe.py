"""How a network is trained: the settings, by timm's names, and the published ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

OPTIMIZERS = ("momentum", "sgd", "adamw", "lamb", "muon")
SCHEDULES = ("cosine", "constant")

_PUBLISHED: Mapping[str, Mapping[str, Any]] = {
    "resnet20-pooling": {},  # the defaults
    "resnet50-food101": {"min_lr": 1e-5},
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Hold the settings of one training; names and meanings are those of timm's `train.py`.

    The defaults are the thesis's for the retrained ResNet-20 of its pooling benchmark: momentum
    SGD, rate 0.1 along a cosine, weight decay 1e-3, batches of 256. It names no number of epochs;
    100 is ours.

    - `opt`: `"momentum"` is the classical one; timm's `"sgd"` is Nesterov's.
    - `sched`: the rate follows the schedule update by update. It starts with `warmup_epochs` of
      linear rise, which count as `epochs`.
    - `filter_bias_and_bn`: spare biases and norm layers the weight decay. timm does by default;
      the published trainings do not.
    - `smoothing`: label smoothing. `reprob`: probability that a rectangle of a training image
      is erased. `clip_grad`: the largest norm of the gradient, or None.
    - `model_ema_decay`: keep a moving average of the weights, and judge and return that. Its
      decay rises with the number of updates up to this value.
    - `drop_path`: for whoever builds the network; the training itself does not read it.

    Raises ValueError for a value out of range.
    """

    epochs: int = 100
    batch_size: int = 256
    opt: str = "momentum"
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-3
    filter_bias_and_bn: bool = False
    sched: str = "cosine"
    warmup_epochs: int = 0
    min_lr: float = 0.0
    smoothing: float = 0.0
    clip_grad: float | None = None
    drop_path: float = 0.0
    reprob: float = 0.0
    model_ema_decay: float | None = None

    def __post_init__(self) -> None:
        _check_whole("epochs", self.epochs, 1)
        _check_whole("batch_size", self.batch_size, 1)
        _check_whole("warmup_epochs", self.warmup_epochs, 0)
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs must be fewer than epochs {self.epochs}, got {self.warmup_epochs}"
            )
        _check_choice("opt", self.opt, OPTIMIZERS)
        _check_choice("sched", self.sched, SCHEDULES)
        if not isinstance(self.filter_bias_and_bn, bool):
            raise ValueError(
                f"filter_bias_and_bn must be True or False, got {self.filter_bias_and_bn!r}"
            )
        _check_real("lr", self.lr, above=0)
        _check_real("weight_decay", self.weight_decay)
        _check_real("min_lr", self.min_lr)
        if self.min_lr > self.lr:
            raise ValueError(f"min_lr must be at most lr {self.lr}, got {self.min_lr}")
        for name in ("momentum", "smoothing", "drop_path"):
            _check_real(name, getattr(self, name), below=1)
        _check_real("reprob", self.reprob, most=1)
        if self.clip_grad is not None:
            _check_real("clip_grad", self.clip_grad, above=0)
        if self.model_ema_decay is not None:
            _check_real("model_ema_decay", self.model_ema_decay, above=0, below=1)

    @classmethod
    def published(cls, name: str, *, epochs: int) -> Recipe:
        """Return a published recipe, its schedule stretched or shrunk to `epochs`.

        `"resnet20-pooling"` is the thesis's for the ResNet-20 on CIFAR-10, `"resnet50-food101"`
        the one its published code uses on Food-101 (there for 90 epochs).
        """
        _check_choice("name", name, tuple(_PUBLISHED))
        return cls(epochs=epochs, **_PUBLISHED[name])

    def to_json(self) -> dict[str, Any]:
        """Return all settings as a dictionary of plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Recipe:
        """Build a recipe from `to_json`'s dictionary; settings left out keep their defaults.

        Raises ValueError for unknown names, and for values out of range.
        """
        known = [field.name for field in fields(cls)]
        if not isinstance(value, Mapping):
            raise ValueError(f"recipe must be a dictionary of settings, got {value!r}")
        if unknown := sorted(set(value) - set(known)):
            raise ValueError(f"recipe must only have the settings {known}, got {unknown}")
        return cls(**value)


def _check_whole(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def _check_real(
    name: str,
    value: object,
    *,
    above: float | None = None,
    below: float = math.inf,
    most: float = math.inf,
) -> None:
    """Refuse a value that is not finite, negative, or outside the given bounds."""
    fits = (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and (value > above if above is not None else value >= 0)
        and value < below
        and value <= most
    )
    if not fits:
        rules = ["a number"]
        rules.append("at least 0" if above is None else f"above {above}")
        rules += [f"below {below}"] if below < math.inf else []
        rules += [f"at most {most}"] if most < math.inf else []
        raise ValueError(f"{name} must be {', '.join(rules)}, got {value!r}")

"""How a network is trained: the settings, by timm's names, and the published ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

# timm does not mark what it exports again
from timm.optim import get_optimizer_info, list_optimizers  # type: ignore[attr-defined]

from nas_ext.retrain.augment import check_auto_augment
from nas_ext.retrain.checks import check_choice, check_milestones, check_real, check_whole

USUAL_OPTIMIZERS = ("momentum", "sgd", "adamw", "lamb", "muon")
SCHEDULES = ("cosine", "multistep", "step", "constant")


def _trains_here(name: str) -> bool:
    info = get_optimizer_info(name)  # an optimizer of another library is named by a text
    return not isinstance(info.opt_class, str) and not info.second_order


OPTIMIZERS = tuple(name for name in map(str, list_optimizers()) if _trains_here(name))
"""timm's optimizers of first order that need no other library."""

_FOOD101: Mapping[str, Any] = {"min_lr": 1e-5}
_PUBLISHED: Mapping[str, tuple[int, Mapping[str, Any]]] = {  # the epochs its milestones count in
    "resnet20-pooling": (100, {}),  # the defaults
    "resnet20-pooling-code": (
        200,
        {
            "sched": "multistep",
            "decay_milestones": (80, 120, 160, 180),
            "weight_decay": 0.0,
            "batch_size": 128,
        },
    ),
    "resnet18-cifar10": (
        400,
        {
            "sched": "multistep",
            "decay_milestones": (200, 300),
            "weight_decay": 5e-3,
            "batch_size": 512,
        },
    ),
    "resnet50-cifar100": (
        250,
        {
            "sched": "multistep",
            "decay_milestones": (60, 120, 160),
            "decay_rate": 0.2,
            "weight_decay": 5e-4,
        },
    ),
    "resnet50-food101": (90, _FOOD101),
    "resnet18-imagenet": (100, _FOOD101),
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Hold the settings of one training; names and meanings are those of timm's `train.py`.

    The defaults are the thesis's for the retrained ResNet-20 of its pooling benchmark: momentum
    SGD, rate 0.1 along a cosine, weight decay 1e-3, batches of 256. It names no number of epochs;
    100 is ours.

    - `opt`: `"momentum"` is the classical one; timm's `"sgd"` is Nesterov's. Others are those of
      timm that go by first derivatives and need no other library (`OPTIMIZERS`).
    - `sched`: the rate follows the schedule update by update. It starts with `warmup_epochs` of
      linear rise, which count as `epochs`. `"cosine"` falls to `min_lr`. `"multistep"` takes
      `decay_rate` of the rate after each of `decay_milestones` epochs, `"step"` after every
      `decay_epochs`; both count from the first epoch, warm-up included. A milestone of 80 is
      torch's `MultiStepLR`'s: epochs 0 to 79 go before it. timm's own multistep decays one of its
      steps earlier (an epoch in its `train.py`), so that its 81 is our 80.
    - `filter_bias_and_bn`: spare biases and norm layers the weight decay. timm does by default;
      the published trainings do not.
    - `smoothing`: label smoothing. `reprob`: probability that a rectangle of a training image
      is erased. `clip_grad`: the largest norm of the gradient, or None.
    - `mixup`, `cutmix`: the alpha of the Beta distribution from which the share of each batch's
      mirrored order is drawn, mixed in whole images or in rectangles; with both, either half of
      the time; 0 is without. They need an even batch size.
    - `auto_augment`: RandAugment by timm's text, such as `"rand-m7-mstd0.5-inc1"`, for RGB images.
      Texts that break with Pillow are refused (`nas_ext.retrain.augment`).
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
    decay_milestones: tuple[float, ...] = ()
    decay_epochs: float = 30
    decay_rate: float = 0.1
    smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    auto_augment: str | None = None
    clip_grad: float | None = None
    drop_path: float = 0.0
    reprob: float = 0.0
    model_ema_decay: float | None = None

    def __post_init__(self) -> None:
        check_whole("epochs", self.epochs, 1)
        check_whole("batch_size", self.batch_size, 1)
        self._check_schedule()
        if self.opt not in OPTIMIZERS:
            raise ValueError(
                f"opt must be one of {', '.join(USUAL_OPTIMIZERS)} or another of timm's that "
                f"needs first derivatives and no other library, got {self.opt!r}"
            )
        if not isinstance(self.filter_bias_and_bn, bool):
            raise ValueError(
                f"filter_bias_and_bn must be True or False, got {self.filter_bias_and_bn!r}"
            )
        check_real("weight_decay", self.weight_decay)
        for name in ("momentum", "smoothing", "drop_path"):
            check_real(name, getattr(self, name), below=1)
        check_real("reprob", self.reprob, most=1)
        check_real("mixup", self.mixup)
        check_real("cutmix", self.cutmix)
        if self.mixes and self.batch_size % 2:
            raise ValueError(
                f"batch_size must be even with mixup or cutmix, got {self.batch_size}"
            )
        if self.auto_augment is not None:
            check_auto_augment(self.auto_augment)
        if self.clip_grad is not None:
            check_real("clip_grad", self.clip_grad, above=0)
        if self.model_ema_decay is not None:
            check_real("model_ema_decay", self.model_ema_decay, above=0, below=1)

    def _check_schedule(self) -> None:
        check_choice("sched", self.sched, SCHEDULES)
        check_real("lr", self.lr, above=0)
        check_real("min_lr", self.min_lr)
        if self.min_lr > self.lr:
            raise ValueError(f"min_lr must be at most lr {self.lr}, got {self.min_lr}")
        check_whole("warmup_epochs", self.warmup_epochs, 0)
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs must be fewer than epochs {self.epochs}, got {self.warmup_epochs}"
            )
        needed = self.sched == "multistep"
        check_milestones(self.decay_milestones, epochs=self.epochs, needed=needed)
        check_real("decay_epochs", self.decay_epochs, above=0)
        check_real("decay_rate", self.decay_rate, above=0, most=1)

    @property
    def mixes(self) -> bool:
        """Say whether training images are mixed, and targets with them."""
        return self.mixup > 0 or self.cutmix > 0

    @classmethod
    def published(cls, name: str, *, epochs: int) -> Recipe:
        """Return a published recipe, its schedule stretched or shrunk to `epochs`.

        | name | trained there | rate | weight decay | batch |
        |---|---|---|---|---|
        | `resnet20-pooling` | CIFAR-10 (thesis) | 0.1, cosine | 1e-3 | 256 |
        | `resnet20-pooling-code` | CIFAR-10 (code) | x0.1 at 80, 120, 160, 180 | 0 | 128 |
        | `resnet18-cifar10` | 400 epochs | x0.1 at 200, 300 | 5e-3 | 512 |
        | `resnet50-cifar100` | 250 epochs | x0.2 at 60, 120, 160 | 5e-4 | 256 |
        | `resnet50-food101` | 90 epochs | 0.1, cosine to 1e-5 | 1e-3 | 256 |
        | `resnet18-imagenet` | 100 epochs | as Food-101's | 1e-3 | 256 |

        All: momentum SGD of 0.9 from the rate 0.1. The published code of the ResNet-20 names no
        number of epochs that fits its milestones; they are shares of 200 here. Of the ImageNet
        training the thesis gives the epochs alone; the rest is ours.
        """
        check_choice("name", name, tuple(_PUBLISHED))
        length, settings = _PUBLISHED[name]
        stretched = {**settings}
        if "decay_milestones" in settings:
            stretched["decay_milestones"] = tuple(
                milestone * epochs / length for milestone in settings["decay_milestones"]
            )
        return cls(epochs=epochs, **stretched)

    def to_json(self) -> dict[str, Any]:
        """Return all settings as a dictionary of plain JSON values."""
        return {**asdict(self), "decay_milestones": list(self.decay_milestones)}

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
        settings = dict(value)
        if isinstance(settings.get("decay_milestones"), list):
            settings["decay_milestones"] = tuple(settings["decay_milestones"])
        return cls(**settings)

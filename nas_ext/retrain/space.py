"""Which recipes a study proposes, and how to ask it for a given one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import optuna

from nas_ext.data import ImageData
from nas_ext.retrain.augment import RAND_AUGMENT
from nas_ext.retrain.checks import check_whole
from nas_ext.retrain.recipe import Recipe

Suggest = Callable[[optuna.Trial, Recipe], Recipe]


MAGNITUDES = (5, 7)  # of RandAugment; timm's usual 9 breaks, see check_auto_augment
LEAST_SIDE = 32  # pixels: on smaller images RandAugment leaves little


@dataclass(frozen=True)
class DefaultSpace:
    """Propose what a recipe's accuracy was seen to depend on; everything else is the base's.

    Optimizer (`opt`), its rate and weight decay (`lr_sgd`, `wd_sgd`, `lr_adamw`, `wd_adamw`, as
    their useful ranges differ), schedule (`sched`: cosine, or the base's milestones, without any
    1/2 and 3/4 of the epochs), warm-up (`warmup_share` of the epochs), `smoothing`, `reprob`,
    `drop_path`, moving average (`ema`), and with an even batch size `mixup` and `cutmix`. The
    ranges are ours; the thesis's recipe of its ResNet-20 lies inside. A rate below the base's
    `min_lr` is its own least one.

    With `auto_augment` RandAugment too (`rand_augment`), for RGB images that are large enough;
    with several `batch_sizes` one of them (`batch_size`).
    """

    auto_augment: bool = False
    batch_sizes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for size in self.batch_sizes:
            check_whole("batch_sizes", size, 1)
        # a study keeps this name, and goes on with no other space
        object.__setattr__(self, "__qualname__", repr(self))

    @classmethod
    def of(cls, data: ImageData, *, batch_sizes: Sequence[int] = ()) -> DefaultSpace:
        """Return the space for a data set: with RandAugment where its images are made for it.

        Raises ValueError for a batch size of more than the training images.
        """
        if too_large := [size for size in batch_sizes if size > len(data.train)]:
            raise ValueError(
                "batch_sizes must be at most the number of training images "
                f"{len(data.train)}, got {too_large}"
            )
        fits = data.in_chs == 3 and min(data.image_size) >= LEAST_SIDE
        return cls(auto_augment=fits, batch_sizes=tuple(batch_sizes))

    def __call__(self, trial: optuna.Trial, base: Recipe) -> Recipe:
        """Propose a recipe."""
        changes: dict[str, Any] = {"batch_size": base.batch_size, "min_lr": base.min_lr}
        if self.batch_sizes:
            changes["batch_size"] = trial.suggest_categorical("batch_size", self.batch_sizes)
        opt = changes["opt"] = trial.suggest_categorical("opt", ["momentum", "adamw"])
        if opt == "momentum":
            changes["lr"] = trial.suggest_float("lr_sgd", 1e-2, 1.0, log=True)
            changes["weight_decay"] = trial.suggest_float("wd_sgd", 1e-5, 1e-2, log=True)
        else:
            changes["lr"] = trial.suggest_float("lr_adamw", 1e-4, 1e-2, log=True)
            changes["weight_decay"] = trial.suggest_float("wd_adamw", 1e-4, 0.5, log=True)
        changes["min_lr"] = min(base.min_lr, changes["lr"])
        changes["sched"] = trial.suggest_categorical("sched", ["cosine", "multistep"])
        if changes["sched"] == "multistep" and not base.decay_milestones:
            changes["decay_milestones"] = (base.epochs / 2, base.epochs * 3 / 4)
        warmup_share = trial.suggest_float("warmup_share", 0.0, 0.1)
        changes["warmup_epochs"] = round(warmup_share * base.epochs)
        changes["smoothing"] = trial.suggest_float("smoothing", 0.0, 0.2, step=0.05)
        changes["reprob"] = trial.suggest_float("reprob", 0.0, 0.4, step=0.1)
        changes["drop_path"] = trial.suggest_float("drop_path", 0.0, 0.2, step=0.05)
        if all(size % 2 == 0 for size in self.batch_sizes or (base.batch_size,)):
            changes["mixup"] = trial.suggest_float("mixup", 0.0, 0.4, step=0.1)
            changes["cutmix"] = trial.suggest_float("cutmix", 0.0, 1.0, step=0.5)
        if self.auto_augment:
            kind = trial.suggest_categorical("rand_augment", list(_rand_augments()))
            changes["auto_augment"] = _rand_augments()[kind]
        ema = trial.suggest_categorical("ema", ["off", 0.98, 0.995])
        changes["model_ema_decay"] = ema if isinstance(ema, float) else None
        return replace(base, **changes)


def default_suggest(trial: optuna.Trial, base: Recipe) -> Recipe:
    """Propose a recipe of the `DefaultSpace`, with RandAugment where the base has it."""
    return DefaultSpace(auto_augment=base.auto_augment is not None)(trial, base)


def _rand_augments() -> dict[str, str | None]:
    """Return the proposed texts by their short names."""
    return {"off": None, **{f"m{m}": RAND_AUGMENT.format(magnitude=m) for m in MAGNITUDES}}


def parameters(recipe: Recipe, suggest: Suggest, base: Recipe, *, exact: bool) -> dict[str, Any]:
    """Find the parameter values with which `suggest` proposes a given recipe.

    Parameters are recognised by the names of `Recipe`'s settings and of `default_suggest`'s
    parameters. Without `exact` the settings that `suggest` leaves alone may stay the base's.

    Raises ValueError for a parameter of another name, a value outside its parameter's range
    (Optuna would use it all the same, or fail in mid-study), and, with `exact`, for a recipe
    that `suggest` cannot propose.
    """
    probe = _Probe({**recipe.to_json(), **_default_values(recipe)})
    proposed = suggest(cast(optuna.Trial, probe), base)  # FixedTrial: Optuna's stand-in for one
    if exact and proposed != recipe:
        wanted, got = recipe.to_json(), proposed.to_json()
        odd = [
            f"{name} {got[name]} for {wanted[name]}" for name in got if got[name] != wanted[name]
        ]
        raise ValueError(
            f"enqueued recipe must be one that suggest proposes, got {', '.join(odd)}"
        )
    return dict(probe.params)


def _default_values(recipe: Recipe) -> dict[str, Any]:
    names = {text: name for name, text in _rand_augments().items()}
    return {
        "lr_sgd": recipe.lr,
        "lr_adamw": recipe.lr,
        "wd_sgd": recipe.weight_decay,
        "wd_adamw": recipe.weight_decay,
        "warmup_share": recipe.warmup_epochs / recipe.epochs,
        "ema": "off" if recipe.model_ema_decay is None else recipe.model_ema_decay,
        "rand_augment": names.get(recipe.auto_augment, recipe.auto_augment),
    }


class _Probe(optuna.trial.FixedTrial):
    """Answer with given values, and refuse those outside the range asked for."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__(dict(values))
        self._values = values

    def suggest_float(
        self,
        name: str,
        low: float,
        high: float,
        *,
        step: float | None = None,
        log: bool = False,
    ) -> float:
        self._check_range(name, low, high, step)
        return super().suggest_float(name, low, high, step=step, log=log)

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        self._check_range(name, low, high, step)
        return super().suggest_int(name, low, high, step=step, log=log)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        value = self._value(name)
        if not any(_same(value, choice) for choice in choices):
            raise ValueError(f"enqueued {name} must be one of {list(choices)}, got {value!r}")
        return super().suggest_categorical(name, choices)

    def _check_range(self, name: str, low: float, high: float, step: float | None) -> None:
        value = self._value(name)
        if not isinstance(value, int | float) or not low <= value <= high:
            raise ValueError(f"enqueued {name} must lie in [{low}, {high}], got {value!r}")
        if step is not None and abs((value - low) / step - round((value - low) / step)) > 1e-8:
            rule = f"be {low} plus a multiple of {step}"
            raise ValueError(f"enqueued {name} must {rule}, got {value!r}")

    def _value(self, name: str) -> Any:
        if name not in self._values:
            known = ", ".join(self._values)
            raise ValueError(f"enqueued recipes need parameters named {known}, got {name!r}")
        return self._values[name]


def _same(value: object, choice: object) -> bool:
    """Say whether two values are one for Optuna too, for which 1 and True are not."""
    return value == choice and isinstance(value, bool) == isinstance(choice, bool)

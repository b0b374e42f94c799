"""Which recipes a study proposes, and how to ask it for a given one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import optuna

from nas_ext.retrain.recipe import Recipe

Suggest = Callable[[optuna.Trial, Recipe], Recipe]


def default_suggest(trial: optuna.Trial, base: Recipe) -> Recipe:
    """Propose optimizer, rate, decay, warm-up, smoothing, erasing and moving average.

    Everything else is the base recipe's. Rate and weight decay have parameters of their own for
    each optimizer, as their useful ranges differ. The ranges are ours; the published recipe lies
    inside.
    """
    opt = trial.suggest_categorical("opt", ["momentum", "adamw"])
    if opt == "momentum":
        lr = trial.suggest_float("lr_sgd", 1e-2, 1.0, log=True)
        weight_decay = trial.suggest_float("wd_sgd", 1e-5, 1e-2, log=True)
    else:
        lr = trial.suggest_float("lr_adamw", 1e-4, 1e-2, log=True)
        weight_decay = trial.suggest_float("wd_adamw", 1e-4, 0.5, log=True)
    warmup_share = trial.suggest_float("warmup_share", 0.0, 0.1)
    smoothing = trial.suggest_float("smoothing", 0.0, 0.2, step=0.05)
    reprob = trial.suggest_float("reprob", 0.0, 0.4, step=0.1)
    ema = trial.suggest_categorical("ema", ["off", 0.98])
    return replace(
        base,
        opt=opt,
        lr=lr,
        weight_decay=weight_decay,
        warmup_epochs=round(warmup_share * base.epochs),
        smoothing=smoothing,
        reprob=reprob,
        model_ema_decay=ema if isinstance(ema, float) else None,
    )


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
    return {
        "lr_sgd": recipe.lr,
        "lr_adamw": recipe.lr,
        "wd_sgd": recipe.weight_decay,
        "wd_adamw": recipe.weight_decay,
        "warmup_share": recipe.warmup_epochs / recipe.epochs,
        "ema": "off" if recipe.model_ema_decay is None else recipe.model_ema_decay,
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
        if value not in choices:
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

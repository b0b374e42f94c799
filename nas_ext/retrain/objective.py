"""What one trial of the study does: propose, measure, train, report."""

from __future__ import annotations

import errno
import glob
import os
import platform
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

import optuna
import torch
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial
from torch import nn

from nas_ext.data import Augmentation, ImageData
from nas_ext.out_of_memory import ran_out
from nas_ext.retrain.fit import Device, Epoch, FitResult, TrainingDiverged, fit
from nas_ext.retrain.measures import TRAINED, Goals
from nas_ext.retrain.randomness import kept_randomness
from nas_ext.retrain.recipe import Recipe
from nas_ext.retrain.resume import environment
from nas_ext.retrain.space import Suggest
from nas_ext.retrain.stopping import Stop, Stopped

OUT_OF_MEMORY = "out of memory"
REPORTED = {"accuracy": "accuracy", "loss": "loss"}
DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


@dataclass(frozen=True)
class Objective:
    """Train what a trial proposes, from scratch, and return its objectives' values.

    A recipe whose network exceeds a limit is not trained: its trial is pruned, and the excess
    leads the sampler. So are trainings that diverge or run out of memory; all three have the
    reason in the attribute `error`.
    """

    build: Callable[[Recipe], nn.Module]
    data: ImageData
    base: Recipe
    suggest: Suggest
    out: Path
    seed: int
    augmentation: Augmentation
    device: Device | Sequence[Device]
    amp: bool | str
    goals: Goals

    def __call__(self, trial: optuna.Trial, stop: Stop) -> float | tuple[float, ...]:
        try:
            recipe = self._begin(trial)
            measured = self._measure(trial, recipe)
            return self._train(trial, recipe, measured, stop)
        except (KeyboardInterrupt, Stopped):
            _interrupt(trial)
            raise
        except OSError as error:
            if error.errno in DISK_FAULTS:  # not the trial's fault: it goes on another time
                _interrupt(trial)
            raise

    def checkpoint(self, trial: optuna.Trial | FrozenTrial) -> Path:
        """Return where this attempt at a trial that has begun saves its epochs."""
        return self._checkpoint(trial, trial.user_attrs.get("attempt", 0))

    def clean(self, trial: FrozenTrial) -> None:
        """Remove the checkpoints of all attempts at a trial."""
        if "run" in trial.user_attrs:
            name = f"{glob.escape(trial.user_attrs['run'])}.*.pt"
            for path in (self.out / "ckpt").glob(name):
                path.unlink(missing_ok=True)

    def _checkpoint(self, trial: optuna.Trial | FrozenTrial, attempt: int) -> Path:
        return self.out / "ckpt" / f"{trial.user_attrs['run']}.{attempt}.pt"

    def _begin(self, trial: optuna.Trial) -> Recipe:
        recipe = self.suggest(trial, self.base)
        if recipe.epochs != self.base.epochs:
            raise ValueError(
                f"suggest must keep the base recipe's epochs {self.base.epochs}, "
                f"got {recipe.epochs}"
            )
        if "run" not in trial.user_attrs:  # a repetition inherits it
            study = quote(trial.study.study_name, safe="")
            trial.set_user_attr("recipe", recipe.to_json())
            trial.set_user_attr("run", f"{study}-trial{trial.number}-{secrets.token_hex(3)}")
        earlier = self._checkpoint(trial, trial.user_attrs.get("attempt", 0) - 1)
        if earlier.exists():
            os.replace(earlier, self.checkpoint(trial))
        return recipe

    def _measure(self, trial: optuna.Trial, recipe: Recipe) -> dict[str, float]:
        size = (self.data.in_chs, *self.data.image_size)
        with kept_randomness(torch.device("cpu")):
            measured = self.goals.measure(self.build(recipe), recipe, size)
        excess = self.goals.excess(measured)
        for name, value in excess.items():
            trial.set_constraint(name, value)
        too_much = [f"{name} {measured[name]:g}" for name, value in excess.items() if value > 0]
        if too_much:
            _give_up(trial, f"over the limit: {', '.join(too_much)}")
        return measured

    def _train(
        self, trial: optuna.Trial, recipe: Recipe, measured: Mapping[str, float], stop: Stop
    ) -> float | tuple[float, ...]:
        reported = REPORTED.get(self.goals.objectives[0]) if not self.goals.several else None
        done = 0

        def report(epoch: Epoch) -> None:
            nonlocal done
            done = epoch.epoch + 1
            value = None if reported is None else getattr(epoch, reported)
            if value is not None:
                trial.report(value, epoch.epoch)  # raises for a trial that was given up as dead
                if done < recipe.epochs and trial.should_prune():
                    raise optuna.TrialPruned
            if done < recipe.epochs and stop.asked:
                raise Stopped("SIGTERM")

        result = self._fit(trial, recipe, report)
        if isinstance(result, str):  # outside of the except, which would hold on to the tensors
            torch.cuda.empty_cache()
            if reported == "accuracy":
                # Without a value TPE would not learn much from this trial.
                trial.report(0.0, done)
            _give_up(trial, result)
        trial.set_user_attr("result", _summary(result, measured))
        values = {**measured, **{name: getattr(result, name) for name in TRAINED}}
        chosen = tuple(float(values[name]) for name in self.goals.objectives)
        return chosen if self.goals.several else chosen[0]

    def _fit(
        self, trial: optuna.Trial, recipe: Recipe, report: Callable[[Epoch], None]
    ) -> FitResult | str:
        """Train; return what became of it, or why it cannot be trained."""
        try:
            return fit(
                partial(self.build, recipe),  # which several devices can have sent
                recipe,
                self.data.train,
                self.data.val,
                self.data,
                seed=self.seed,
                device=self.device,
                amp=self.amp,
                augmentation=self.augmentation,
                checkpoint=self.checkpoint(trial),
                on_epoch=report,
            )
        except TrainingDiverged as error:
            return str(error)
        except (MemoryError, RuntimeError) as error:
            if not ran_out(error):
                raise
            return f"{OUT_OF_MEMORY}: {error}"


def _give_up(trial: optuna.Trial, reason: str) -> NoReturn:
    trial.set_user_attr("error", reason)
    raise optuna.TrialPruned(reason)


def _interrupt(trial: optuna.Trial) -> None:
    with suppress(OSError, UpdateFinishedTrialError):  # it is found dead, or is lost already
        trial.set_user_attr("interrupted", True)


def _summary(result: FitResult, measured: Mapping[str, float]) -> dict[str, Any]:
    """Return all that is known at the end as one attribute: each costs a write to the disk."""
    names = ("accuracy", "best_accuracy", "loss", "train_loss", "parameters", "seed", "seconds")
    return {
        **{name: getattr(result, name) for name in names},
        **{name: value for name, value in measured.items() if name not in names},
        "host": platform.node(),
        "environment": environment(),
    }

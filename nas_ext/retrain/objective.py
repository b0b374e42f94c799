"""What one trial of the study does: propose, train, report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.trial import FrozenTrial
from torch import nn

from nas_ext.data import Augmentation, ImageData
from nas_ext.retrain.fit import Epoch, FitResult, TrainingDiverged, fit
from nas_ext.retrain.recipe import Recipe
from nas_ext.retrain.space import Suggest


@dataclass(frozen=True)
class Objective:
    """Train what a trial proposes, from scratch, and return the last epoch's accuracy."""

    build: Callable[[Recipe], nn.Module]
    data: ImageData
    base: Recipe
    suggest: Suggest
    out: Path
    seed: int
    augmentation: Augmentation
    device: str | torch.device

    def __call__(self, trial: optuna.Trial) -> float:
        recipe = self.suggest(trial, self.base)
        if recipe.epochs != self.base.epochs:
            raise ValueError(
                f"suggest must keep the base recipe's epochs {self.base.epochs}, "
                f"got {recipe.epochs}"
            )
        if "run" not in trial.user_attrs:  # a retry inherits it, and with it the checkpoint
            trial.set_user_attr("recipe", recipe.to_json())
            trial.set_user_attr("run", f"trial{trial.number}")

        def report(epoch: Epoch) -> None:
            if epoch.accuracy is not None:
                trial.report(epoch.accuracy, epoch.epoch)
            if epoch.epoch + 1 < recipe.epochs and trial.should_prune():
                raise optuna.TrialPruned

        try:
            result = fit(
                lambda: self.build(recipe),
                recipe,
                self.data.train,
                self.data.val,
                self.data,
                seed=self.seed,
                device=self.device,
                augmentation=self.augmentation,
                checkpoint=self.checkpoint(trial),
                on_epoch=report,
            )
        except TrainingDiverged as error:
            # Without a value TPE would not learn from this trial, and propose its like again.
            trial.report(0.0, error.epoch)
            trial.set_user_attr("error", str(error))
            raise optuna.TrialPruned from error
        except KeyboardInterrupt:
            trial.set_user_attr("interrupted", True)
            raise
        trial.set_user_attr("result", _summary(result))
        return result.accuracy

    def checkpoint(self, trial: optuna.Trial | FrozenTrial) -> Path:
        """Return where a trial that has begun saves its epochs."""
        return self.out / "ckpt" / f"{trial.user_attrs['run']}.pt"


def _summary(result: FitResult) -> dict[str, Any]:
    names = ("accuracy", "best_accuracy", "loss", "train_loss", "parameters", "seed", "seconds")
    return {name: getattr(result, name) for name in names}

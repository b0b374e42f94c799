"""The last training, on all search images, and the one look at the test set."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
import safetensors.torch
import torch
from scipy.stats import t as student_t
from torch import nn

from nas_ext.data import Augmentation, ImageData
from nas_ext.files import write_bytes, write_json
from nas_ext.retrain.fit import FitResult, fit
from nas_ext.retrain.recipe import Recipe
from nas_ext.retrain.resume import best_trial, environment
from nas_ext.retrain.storage import locked

CONFIDENCE = 0.95


@dataclass(frozen=True)
class FinalResult:
    """Hold the test accuracies of one recipe, a share in [0, 1] for each seed.

    `half_width` is that of the mean's 95 % interval by Student's t over the seeds, None for a
    single one. `trial` is the number of the study's trial with this recipe.
    """

    accuracies: tuple[float, ...]
    seeds: tuple[int, ...]
    mean: float
    half_width: float | None
    recipe: Recipe
    trial: int


def final(
    study: optuna.Study,
    build: Callable[[Recipe], nn.Module],
    data: ImageData,
    *,
    out: Path,
    seeds: int,
    device: str | torch.device = "cpu",
    again: bool = False,
) -> FinalResult:
    """Train the study's best recipe on train and val together, and report the test accuracy.

    It is trained with the seeds 0, 1, ..., and each network sees the test set once, after its
    last epoch. The images' mean and deviation stay those of `data.train`. `out` receives
    `final.json` and a `final-seed0.safetensors` with the weights for each seed; an interrupted
    call goes on from its checkpoints.

    Raises ValueError when `final.json` exists (unless `again`), the study has no complete trial
    or was made with other data, and `seeds` is not positive.
    """
    if seeds < 1:
        raise ValueError(f"seeds must be positive, got {seeds}")
    target = Path(out) / "final.json"
    if target.exists() and not again:
        raise ValueError(
            f"{target} must not exist: the test set was already used; again=True uses it anew"
        )
    fingerprint = study.user_attrs.get("fingerprint", {})
    if fingerprint.get("data") != data.digest:
        raise ValueError(f"data must be the study's {fingerprint.get('data')}, got {data.digest}")
    trial = best_trial(study)
    recipe = Recipe.from_json(trial.user_attrs["recipe"])
    with locked(Path(out)):
        results = [
            _train(build, recipe, data, Path(out), seed, device, fingerprint["augmentation"])
            for seed in range(seeds)
        ]
        summary = _summarise([result.accuracy for result in results], recipe, trial.number)
        value = {
            **asdict(summary),
            "confidence": CONFIDENCE,
            "losses": [result.loss for result in results],
            "study": fingerprint,
            "environment": environment(),
        }
        write_json(target, value)
        for seed in range(seeds):
            _checkpoint(Path(out), seed).unlink(missing_ok=True)
    return summary


def _train(
    build: Callable[[Recipe], nn.Module],
    recipe: Recipe,
    data: ImageData,
    out: Path,
    seed: int,
    device: str | torch.device,
    augmentation: dict[str, Any],
) -> FitResult:
    result = fit(
        lambda: build(recipe),
        recipe,
        data.train_and_val(),
        data.test,
        data,
        seed=seed,
        device=device,
        augmentation=Augmentation(**augmentation),
        checkpoint=_checkpoint(out, seed),
        evaluate_every_epoch=False,
    )
    weights = safetensors.torch.save(dict(result.weights))
    write_bytes(out / f"final-seed{seed}.safetensors", weights)
    return result


def _checkpoint(out: Path, seed: int) -> Path:
    return out / "ckpt" / f"final-seed{seed}.pt"


def _summarise(accuracies: list[float], recipe: Recipe, trial: int) -> FinalResult:
    count = len(accuracies)
    half_width = None
    if count > 1:
        quantile = float(student_t.ppf((1 + CONFIDENCE) / 2, count - 1))
        half_width = quantile * statistics.stdev(accuracies) / math.sqrt(count)
    return FinalResult(
        accuracies=tuple(accuracies),
        seeds=tuple(range(count)),
        mean=statistics.fmean(accuracies),
        half_width=half_width,
        recipe=recipe,
        trial=trial,
    )

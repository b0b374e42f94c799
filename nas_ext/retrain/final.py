"""The last training, on all search images, and the one look at the test set."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
import safetensors.torch
import torch
from optuna.trial import FrozenTrial
from scipy.stats import t as student_t
from torch import nn

from nas_ext.data import Augmentation, ImageData
from nas_ext.field_types import check_fields, clause
from nas_ext.files import check_format, read_json, write_bytes, write_json
from nas_ext.manifest import manifest
from nas_ext.retrain.candidates import TimmEntry
from nas_ext.retrain.card import Card, write_model
from nas_ext.retrain.confirm import CONFIRMED
from nas_ext.retrain.recipe import Recipe
from nas_ext.retrain.repeats import Repeat, Repeated, repeat
from nas_ext.retrain.resume import best_trial, environment
from nas_ext.retrain.storage import locked

CONFIDENCE = 0.95
FILE = "final.json"
FORMAT = "nas-ext/final-1"


@dataclass(frozen=True)
class FinalResult:
    """Hold the test accuracies of one recipe, a share in [0, 1] for each seed.

    `half_width` is that of the mean's 95 % interval by Student's t over the seeds, None for a
    single one. `trial` is the number of the study's trial with this recipe, None where there was
    no study.
    """

    accuracies: tuple[float, ...]
    seeds: tuple[int, ...]
    mean: float
    half_width: float | None
    recipe: Recipe
    trial: int | None

    @classmethod
    def load(cls, folder: str | Path) -> FinalResult:
        """Read the `final.json` of a folder; ValueError for one that is not whole."""
        path = Path(folder) / FILE
        values = read_json(path)
        check_final(values, path)
        try:
            accuracies = tuple(float(value) for value in values["accuracies"])
            made = _summarise(
                list(accuracies), Recipe.from_json(values["recipe"]), values["trial"]
            )
        except (KeyError, OverflowError, TypeError, ValueError) as error:
            raise ValueError(f"{path} must be the result of a retraining: {error!r}") from error
        check_fields(made, of=f" of {path}")
        return made


def check_final(values: Any, path: Path) -> None:
    """Raise ValueError for a `final.json` of another format; the first ones did not name it."""
    if not isinstance(values, Mapping):
        raise ValueError(f"{path} must be the result of a retraining, got {clause(values)}")
    if "format" in values:
        check_format(values, FORMAT, path)


def final(
    study: optuna.Study,
    build: Callable[[Recipe], nn.Module],
    data: ImageData,
    *,
    out: Path,
    seeds: int,
    device: str | torch.device = "cpu",
    again: bool = False,
    trial: int | None = None,
    timm: TimmEntry | None = None,
    workers: int = 1,
) -> FinalResult:
    """Train a recipe of the study on train and val together, and report the test accuracy.

    It is the recipe of `trial`, else the one that `confirm` chose, else the study's best. It is
    trained with the seeds 0, 1, ..., and each network sees the test set once, after its last
    epoch. The images' mean and deviation stay those of `data.train`. With several `workers` every
    training is a process of its own.

    `out` receives `final.json`, a `final-seed0.safetensors` with the weights for each seed, and
    the folder `model`: the first seed's network with a model card, and with `timm` as
    `timm.create_model("local-dir:...")` reads it. An interrupted call goes on from its
    checkpoints.

    Raises ValueError when `final.json` exists (unless `again`), the study has no complete trial
    or was made with other data, `trial` has no recipe, and `seeds` is not positive;
    FloatingPointError when a training diverges, with its seed, epoch and what to lower.
    """
    check_unused(Path(out), seeds=seeds, again=again)
    fingerprint = study.user_attrs.get("fingerprint", {})
    if fingerprint.get("data") != data.digest:
        raise ValueError(f"data must be the study's {fingerprint.get('data')}, got {data.digest}")
    chosen, why = _chosen(study, trial)
    return train_and_test(
        build,
        Recipe.from_json(chosen.user_attrs["recipe"]),
        data,
        out=Path(out),
        seeds=seeds,
        device=device,
        again=again,
        augmentation=Augmentation(**fingerprint["augmentation"]),
        trial=chosen.number,
        about={"chosen by": why, "study": fingerprint},
        attributes=study.user_attrs,
        timm=timm,
        workers=workers,
    )


def train_and_test(
    build: Callable[[Recipe], nn.Module],
    recipe: Recipe,
    data: ImageData,
    *,
    out: Path,
    seeds: int,
    device: str | torch.device = "cpu",
    again: bool = False,
    augmentation: Augmentation | None = None,
    trial: int | None = None,
    about: dict[str, Any] | None = None,
    attributes: dict[str, Any] | None = None,
    timm: TimmEntry | None = None,
    workers: int = 1,
) -> FinalResult:
    """Do what `final` does with a recipe that no study chose.

    `about` goes into `final.json`; `attributes` say what the network is (`architecture`, `macs`,
    `parameters`), for the model card, and where the images are (`data_source`). Raises as `final`
    does.
    """
    check_unused(out, seeds=seeds, again=again)
    with locked(out):
        tasks = [
            Repeat(
                key=(seed,),
                build=build,
                recipe=recipe,
                seed=seed,
                checkpoint=out / "ckpt" / f"final-seed{seed}.pt",
                augmentation=augmentation,
                test=True,
            )
            for seed in range(seeds)
        ]
        done: dict[int, Repeated] = {}
        for task, result in repeat(tasks, data, device=device, workers=workers, weights=True):
            if result.error is not None:
                raise FloatingPointError(f"seed {task.seed}: {result.error}")
            weights = safetensors.torch.save(dict(result.weights or {}))
            write_bytes(out / f"final-seed{task.seed}.safetensors", weights)
            done[task.seed] = result
        results = [done[seed] for seed in range(seeds)]
        summary = _summarise([result.accuracy for result in results], recipe, trial)
        known = environment()
        card = Card(
            attributes=attributes or {},
            data=data,
            recipe=recipe,
            accuracies=summary.accuracies,
            half_width=summary.half_width,
            environment=known,
        )
        write_model(out / "model", card, results[0].weights or {}, timm)
        value = {
            "format": FORMAT,
            **asdict(summary),
            "recipe": recipe.to_json(),
            "confidence": CONFIDENCE,
            "losses": [result.loss for result in results],
            **(about or {}),
            "manifest": manifest(
                seeds=range(seeds),
                data=data.digest,
                threads=1 if workers > 1 else None,
                made_with={
                    "architecture": (attributes or {}).get("architecture"),
                    "augmentation": None if augmentation is None else asdict(augmentation),
                    "data_source": (attributes or {}).get("data_source"),
                },
            ),
        }
        write_json(out / FILE, value)
        for task in tasks:
            task.checkpoint.unlink(missing_ok=True)
    return summary


def check_unused(out: Path, *, seeds: int, again: bool = False) -> None:
    """Raise ValueError when the test set was already used from here, or `seeds` is none."""
    if seeds < 1:
        raise ValueError(f"seeds must be positive, got {seeds}")
    target = out / FILE
    if target.exists() and not again:
        raise ValueError(
            f"{target} must not exist: the test set was already used; again=True uses it anew"
        )


def _chosen(study: optuna.Study, number: int | None) -> tuple[FrozenTrial, str]:
    """Return the trial whose recipe counts, and why it does."""
    why = "caller"
    if number is None:
        number, why = study.user_attrs.get(CONFIRMED, {}).get("trial"), "confirmation"
    if number is None:
        return best_trial(study), "study"
    trials = {t.number: t for t in study.get_trials(deepcopy=False) if "recipe" in t.user_attrs}
    if number not in trials:
        raise ValueError(f"trial must be one of {sorted(trials)}, got {number}")
    return trials[number], why


def _summarise(accuracies: list[float], recipe: Recipe, trial: int | None) -> FinalResult:
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

"""One recipe with several seeds, without a study: a training as people know it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from nas_ext.compare import Interval, mean_interval
from nas_ext.data import ImageData
from nas_ext.field_types import check_fields
from nas_ext.files import check_format, read_json, write_bytes, write_json
from nas_ext.manifest import manifest
from nas_ext.retrain.candidates import Candidate
from nas_ext.retrain.recipe import Recipe
from nas_ext.retrain.repeats import Repeat, Repeated, repeat
from nas_ext.retrain.storage import locked

FILE = "fit.json"
FORMAT = "nas-ext/fit-1"


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """Hold the validation accuracies of one recipe, a share in [0, 1] for each seed."""

    name: str
    recipe: Recipe
    runs: tuple[Repeated, ...]

    @property
    def accuracies(self) -> tuple[float, ...]:
        """Return the accuracies by seed."""
        return tuple(run.accuracy for run in self.runs)

    @property
    def mean(self) -> float:
        """Return their mean."""
        return sum(self.accuracies) / len(self.runs)

    @property
    def interval(self) -> Interval | None:
        """Return the mean's 95 % interval by Student's t, None for a single seed."""
        return mean_interval(self.accuracies) if len(self.runs) > 1 else None


def fit_seeds(
    candidate: Candidate,
    recipe: Recipe,
    data: ImageData,
    *,
    out: str | Path,
    seeds: int,
    device: str | torch.device = "cpu",
    workers: int = 1,
    made_with: Mapping[str, Any] | None = None,
) -> Fitted:
    """Train a network on `data.train` with the seeds 0, 1, ..., judged on `data.val`.

    `out` receives `fit.json` and a `fit-seed0.safetensors` for each seed. The same call goes on
    where one was interrupted; with more seeds only the new ones are trained. A training that
    diverges counts as accuracy 0 and has no weights. The test set is not touched. `made_with` goes
    into the manifest, see `nas_ext.manifest`.

    Raises ValueError when `seeds` is not positive, and for a folder of another network, recipe
    or data.
    """
    if seeds < 1:
        raise ValueError(f"seeds must be positive, got {seeds}")
    folder = Path(out)
    header = {
        "format": FORMAT,
        "name": candidate.name,
        "architecture": dict(candidate.architecture),
        "macs": candidate.macs,
        "parameters": candidate.parameters,
        "recipe": recipe.to_json(),
        "data": data.digest,
    }
    threads = 1 if workers > 1 else None
    made_by = manifest(seeds=range(seeds), data=data.digest, threads=threads, made_with=made_with)
    with locked(folder):
        runs = _done(folder / FILE, header)
        waiting = [
            Repeat(
                key=(),
                build=candidate.build,
                recipe=recipe,
                seed=seed,
                checkpoint=folder / "ckpt" / f"fit-seed{seed}.pt",
            )
            for seed in range(seeds)
            if seed not in runs
        ]
        for one, result in repeat(waiting, data, device=device, workers=workers, weights=True):
            if result.weights is not None:
                content = safetensors.torch.save(dict(result.weights))
                write_bytes(folder / f"fit-seed{one.seed}.safetensors", content)
            runs[one.seed] = result
            _write(folder / FILE, header, runs, made_by)
            one.checkpoint.unlink(missing_ok=True)
    kept = tuple(runs[seed] for seed in range(seeds))
    return Fitted(name=candidate.name, recipe=recipe, runs=kept)


def _done(path: Path, header: Mapping[str, Any]) -> dict[int, Repeated]:
    if not path.exists():
        return {}
    values = check_format(read_json(path), FORMAT, path)
    for key, value in header.items():
        if values.get(key) != value:
            raise ValueError(
                f"{path} must go on with the {key} it was made with, got another: use another "
                "folder"
            )
    try:
        runs = {run["seed"]: Repeated(**run) for run in values["runs"]}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} must be a whole record, got {error!r}") from error
    for run in runs.values():
        check_fields(run, of=f" of a run in {path}")
    return runs


def _write(
    path: Path,
    header: Mapping[str, Any],
    runs: Mapping[int, Repeated],
    made_by: Mapping[str, Any],
) -> None:
    lines = [runs[seed].to_json() for seed in sorted(runs)]
    write_json(path, {**header, "runs": lines, "manifest": made_by})

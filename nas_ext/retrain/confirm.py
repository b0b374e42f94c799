"""The second look: the best recipes of each study anew, with seeds that none was picked by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.trial import FrozenTrial, TrialState
from torch import nn

from nas_ext.data import Augmentation, ImageData
from nas_ext.files import check_format, naming, read_json, write_json
from nas_ext.manifest import manifest
from nas_ext.retrain.candidates import slug
from nas_ext.retrain.confirmation import FILE, FORMAT, Confirmation, ConfirmedRecipe
from nas_ext.retrain.recipe import Recipe
from nas_ext.retrain.repeats import Repeat, Repeated, repeat
from nas_ext.retrain.resume import COUNTED
from nas_ext.retrain.storage import locked

CONFIRMED = "confirmed"
"""The study's attribute that says which trial's recipe `final` takes."""

Tuned = tuple[optuna.Study, Callable[[Recipe], nn.Module]]
Key = tuple[str, int, int]


def confirm(
    tuned: Mapping[str, Tuned],
    data: ImageData,
    *,
    out: str | Path,
    top: int = 3,
    seeds: int = 5,
    device: str | torch.device = "cpu",
    workers: int = 1,
) -> Confirmation:
    """Train the best recipes of one or several studies with several seeds, and pick by the mean.

    `tuned` has each network's study and what builds it, by its name. Of every study the `top`
    different recipes are taken, and the one it was given to begin with. They are trained on
    `data.train` with the same seeds and judged on `data.val`; a training that diverges counts as
    accuracy 0. The studies' own seed is left out (a departure from picking with it): it would
    flatter the recipes that were picked by it, and not the first one. The test set is not touched.

    `out` receives `confirm.json` after every training, so the same call goes on where one was
    interrupted, and a call with larger `top` or `seeds` trains only what is new. At the end each
    study's attribute `confirmed` names the trial of its best mean, which `final` then uses.
    With several `workers` every training is a process of its own.

    Raises ValueError for arguments out of range, a study without a complete trial or with other
    data, and a `confirm.json` of other studies; RuntimeError when another process works in `out`.
    """
    if top < 1 or seeds < 1 or workers < 1:
        raise ValueError(
            f"top, seeds and workers must be positive, got {top}, {seeds} and {workers}"
        )
    if not tuned or len({slug(name) for name in tuned}) < len(tuned):
        raise ValueError(f"tuned must have networks of different names, got {list(tuned)}")
    picked = [pick for name, (study, _) in tuned.items() for pick in _picked(name, study, top)]
    fingerprints = {name: _fingerprint(name, study, data) for name, (study, _) in tuned.items()}
    used = {int(value["seed"]) for value in fingerprints.values()}
    chosen = tuple(islice((seed for seed in count() if seed not in used), seeds))
    folder = Path(out)
    with locked(folder):
        record = _Record.open(folder / FILE, data, fingerprints)
        waiting = [
            Repeat(
                key=(pick.network, pick.trial, seed),
                build=tuned[pick.network][1],
                recipe=pick.recipe,
                seed=seed,
                checkpoint=_checkpoint(folder, pick, seed),
                augmentation=Augmentation(**fingerprints[pick.network]["augmentation"]),
            )
            for seed in chosen
            for pick in picked
            if not record.has((pick.network, pick.trial, seed), pick.recipe)
        ]
        for one, result in repeat(waiting, data, device=device, workers=workers):
            record.add(one, result)
            one.checkpoint.unlink(missing_ok=True)
        found = Confirmation(seeds=chosen, recipes=record.ordered(picked, chosen))
        record.finish(found)
    for name, (study, _) in tuned.items():
        best = found.best(name)
        study.set_user_attr(
            CONFIRMED, {"trial": best.trial, "mean": best.mean, "seeds": list(chosen)}
        )
    return found


@dataclass(frozen=True)
class _Pick:
    network: str
    trial: int
    recipe: Recipe
    tuned: float | None
    first: bool


def _picked(network: str, study: optuna.Study, top: int) -> list[_Pick]:
    """Return the best trials of different recipes, and the first enqueued one."""
    trials = study.get_trials(deepcopy=False, states=COUNTED)
    complete = [t for t in trials if t.state == TrialState.COMPLETE and _feasible(t)]
    if not complete:
        raise ValueError(f"study of {network} must have a complete trial, got none")
    enqueued = [t for t in trials if "fixed_params" in t.system_attrs and "recipe" in t.user_attrs]
    first = min(enqueued, key=lambda t: t.number, default=None)
    ranked = sorted(complete, key=lambda t: (-_accuracy(t), t.number))
    chosen: list[FrozenTrial] = []
    for trial in ranked:
        if trial.user_attrs["recipe"] not in [t.user_attrs["recipe"] for t in chosen]:
            chosen.append(trial)
    chosen = chosen[:top]
    known = [t.user_attrs["recipe"] for t in chosen]
    if first is not None and first.user_attrs["recipe"] not in known:
        chosen.append(first)
    begun = None if first is None else first.user_attrs["recipe"]
    return [
        _Pick(
            network,
            trial.number,
            Recipe.from_json(trial.user_attrs["recipe"]),
            _accuracy(trial) if trial.state == TrialState.COMPLETE else None,
            trial.user_attrs["recipe"] == begun,
        )
        for trial in chosen
    ]


def _feasible(trial: FrozenTrial) -> bool:
    return all(value <= 0 for value in trial.constraints.values())


def _accuracy(trial: FrozenTrial) -> float:
    return float(trial.user_attrs["result"]["accuracy"])


def _fingerprint(network: str, study: optuna.Study, data: ImageData) -> dict[str, Any]:
    found: dict[str, Any] = study.user_attrs.get("fingerprint", {})
    if found.get("data") != data.digest:
        raise ValueError(
            f"data must be those of the study of {network}, {found.get('data')}, got {data.digest}"
        )
    return found


def _checkpoint(folder: Path, pick: _Pick, seed: int) -> Path:
    return folder / "ckpt" / f"confirm-{slug(pick.network)}-trial{pick.trial}-seed{seed}.pt"


class _Record:
    """Keep what is done in `confirm.json`, written anew after each training."""

    def __init__(
        self, path: Path, header: dict[str, Any], runs: dict[Key, dict[str, Any]]
    ) -> None:
        self._path = path
        self._header = header
        self._runs = runs

    @classmethod
    def open(cls, path: Path, data: ImageData, studies: Mapping[str, dict[str, Any]]) -> _Record:
        """Begin one, or go on with one of the same data and studies."""
        header = {"format": FORMAT, "data": data.digest, "studies": dict(studies)}
        if not path.exists():
            return cls(path, header, {})
        values = check_format(read_json(path), FORMAT, path)
        with naming(path):
            known = {**values.get("studies", {})}
        changed = [name for name in studies if known.get(name, studies[name]) != studies[name]]
        if values.get("data") != data.digest or changed:
            raise ValueError(
                f"{path} must go on with the data and studies it was made with, they differ"
                f"{f' for {changed}' if changed else ''}: use another folder"
            )
        header["studies"] = {**known, **studies}
        try:
            runs = {
                _key(run): {**run, "accuracy": float(run["accuracy"])} for run in values["runs"]
            }
            for run in runs.values():
                Recipe.from_json(run["recipe"])
        except (KeyError, OverflowError, TypeError, ValueError) as error:
            raise ValueError(f"{path} must be a whole confirmation, got {error!r}") from error
        return cls(path, header, runs)

    def has(self, key: Key, recipe: Recipe) -> bool:
        """Say whether a training is done; ValueError when the trial had another recipe then."""
        if key not in self._runs:
            return False
        if self._runs[key]["recipe"] != recipe.to_json():
            raise ValueError(
                f"{self._path} must go on with the trials it was made with, trial {key[1]} of "
                f"{key[0]} has another recipe: use another folder"
            )
        return True

    def add(self, one: Repeat, result: Repeated) -> None:
        """Keep one result."""
        network, trial, seed = one.key
        self._runs[network, trial, seed] = {
            "network": network,
            "trial": trial,
            "recipe": one.recipe.to_json(),
            **result.to_json(),
        }
        self._write({})

    def ordered(self, picks: Sequence[_Pick], seeds: Sequence[int]) -> tuple[ConfirmedRecipe, ...]:
        """Return the picked recipes with their accuracies, the best mean first."""
        found = [
            ConfirmedRecipe(
                **vars(pick),
                accuracies=tuple(
                    float(self._runs[pick.network, pick.trial, seed]["accuracy"]) for seed in seeds
                ),
            )
            for pick in picks
        ]
        return tuple(sorted(found, key=lambda recipe: -recipe.mean))

    def finish(self, found: Confirmation) -> None:
        """Write the result beside the trainings behind it."""
        winner = {"network": found.winner.network, "trial": found.winner.trial}
        self._write({"seeds": list(found.seeds), "winner": winner, "recipes": found.table()})

    def _write(self, result: Mapping[str, Any]) -> None:
        ordered = sorted(self._runs.values(), key=_key)
        seeds = sorted({run["seed"] for run in ordered})
        made_by = manifest(seeds=seeds, data=self._header["data"])
        write_json(self._path, {**self._header, **result, "runs": ordered, "manifest": made_by})


def _key(run: Mapping[str, Any]) -> Key:
    return str(run["network"]), int(run["trial"]), int(run["seed"])

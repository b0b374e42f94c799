"""The command that trains one network with a given recipe: `fit`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from nas_ext.cli_retrain import Data, Device, Json, Run, Size, Workers, place, points
from nas_ext.setting_pairs import settings_from

if TYPE_CHECKING:
    from nas_ext.retrain import Recipe
    from nas_ext.retrain.candidates import Candidate
    from nas_ext.retrain.plain import Fitted

screen = Console()
errors = Console(stderr=True)


def register(app: typer.Typer, reported: Callable[[Any], Any]) -> None:
    """Add the command to the application; `reported` turns bad input into one line."""
    app.command()(reported(fit))


def fit(
    run: Run,
    name: Annotated[
        str | None, typer.Option(help="Architecture, as in the ranking; the best unless given.")
    ] = None,
    recipe: Annotated[
        str, typer.Option(help="JSON file, such as a final.json, or a published recipe's name.")
    ] = "resnet20-pooling",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="A setting of the recipe, NAME=VALUE.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="The file's, or 30, unless given.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings.")] = 3,
    test: Annotated[
        bool, typer.Option("--test", help="Train on train and val, and use the test set, once.")
    ] = False,
    baseline: Annotated[
        str | None, typer.Option(help="A model of timm instead: resnet18, NAME:KEY=VALUE,...")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder; RUN/fit/NAME unless given.")] = None,
    workers: Workers = 1,
    data: Data = None,
    image_size: Size = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the images' split, without a search.")] = 0,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Train one network from scratch with a given recipe, without a study.

    It is judged on the validation images with every seed, unless --test. A training that diverges
    counts as 0 and is named; where all do, that is an error. Example: nas-ext fit
    runs/x --name [7,1,2] --recipe recipe.json --set lr=0.05 --seeds 3
    """
    from nas_ext.retrain import train_and_test
    from nas_ext.retrain.plain import fit_seeds
    from nas_ext.retrain_inputs import baseline_of, candidate_of, data_source, images_of
    from nas_ext.taking_out import found_in

    result, images = images_of(run, source=data, image_size=image_size, seed=seed)
    if baseline is not None:
        if name is not None:
            raise ValueError(f"--name or --baseline must be given, got both, {name!r}")
        found = baseline_of(baseline, images)
    else:
        if result is None:
            raise ValueError(
                f"{run} must hold the search.json of a search, or --baseline be given"
            )
        found = candidate_of(found_in(run, name), images)
    chosen = _recipe(recipe, settings_from(set_ or []), epochs)
    folder = out or run / "fit" / found.folder
    made_with = {"data_source": data_source(result, source=data, image_size=image_size, seed=seed)}
    if test:
        attributes = {
            "architecture": dict(found.architecture),
            "macs": found.macs,
            "parameters": found.parameters,
            **made_with,
        }
        accuracies = train_and_test(
            found.build,
            chosen,
            images,
            out=folder,
            seeds=seeds,
            device=place(device),
            attributes=attributes,
            timm=found.timm,
            workers=workers,
        ).accuracies
    else:
        fitted = fit_seeds(
            found,
            chosen,
            images,
            out=folder,
            seeds=seeds,
            device=place(device),
            workers=workers,
            made_with=made_with,
        )
        _say_diverged(fitted)
        accuracies = fitted.accuracies
    judged = "test" if test else "validation"
    _say_accuracies(found, accuracies, judged, folder, chosen, as_json)


def _recipe(text: str, settings: dict[str, Any], epochs: int | None) -> Recipe:
    from nas_ext.files import read_json
    from nas_ext.retrain import Recipe

    if text.endswith(".json"):
        values = read_json(text)
        inner = values.get("recipe", values) if isinstance(values, dict) else values
        found = Recipe.from_json(inner)
    else:
        found = Recipe.published(text, epochs=30 if epochs is None else epochs)
    changed = {**settings, **({} if epochs is None else {"epochs": epochs})}
    return Recipe.from_json({**found.to_json(), **changed})


def _say_diverged(fitted: Fitted) -> None:
    """Say which trainings diverged, and count as 0; FloatingPointError where all did."""
    said = [f"seed {run.seed}: {run.error}" for run in fitted.runs if run.error is not None]
    if len(said) == len(fitted.runs):
        raise FloatingPointError(f"all {len(said)} trainings diverged, {said[0]}")
    for text in said:
        line = f"counted as accuracy 0, {text}"
        errors.print(line, style="red", markup=False, highlight=False, soft_wrap=True)


def _say_accuracies(
    found: Candidate,
    accuracies: tuple[float, ...],
    judged: str,
    folder: Path,
    recipe: Recipe,
    as_json: bool,
) -> None:
    from nas_ext.compare import mean_interval

    interval = mean_interval(accuracies) if len(accuracies) > 1 else None
    mean = sum(accuracies) / len(accuracies)
    if as_json:
        said = {
            "name": found.name,
            "judged_on": judged,
            "mean": mean,
            "interval": None if interval is None else [interval.low, interval.high],
            "accuracies": list(accuracies),
            "recipe": recipe.to_json(),
            "folder": str(folder),
        }
        typer.echo(json.dumps(said, indent=1))
        return
    ends = "n = 1 seed, so without an interval"
    if interval is not None:
        ends = f"95 % [{points(interval.low)}, {points(interval.high)}], n = {interval.n} seeds"
    said_text = f"{found.name}: {judged} accuracy {points(mean)} % ({ends}). {folder}"
    screen.print(said_text, markup=False, highlight=False, soft_wrap=True)

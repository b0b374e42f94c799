"""The command that retrains what was found: tune, confirm, test."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table as Grid

from nas_ext.setting_pairs import settings_from

if TYPE_CHECKING:
    from nas_ext.retrain.confirmation import Confirmation
    from nas_ext.retrain.stages import Retrained

screen = Console()
errors = Console(stderr=True)

SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}

Run = Annotated[Path, typer.Argument(help="Folder of a search; a new one with --data.")]
Data = Annotated[str | None, typer.Option(help="Where the images are now; see search --data.")]
Size = Annotated[
    int | None, typer.Option(min=1, help="Side to resize to, where no search says it.")
]
Baselines = Annotated[
    list[str] | None,
    typer.Option(help="A model of timm beside it: resnet18, NAME:KEY=VALUE,...; may be repeated."),
]
Sample = Annotated[
    Path | None,
    typer.Option(help="JSON file: NNI's sample or samples, or an exported architecture."),
]
SpaceName = Annotated[str | None, typer.Option(help="Of --sample; the run's unless given.")]
SpaceSet = Annotated[list[str] | None, typer.Option(help="An argument of --space, NAME=VALUE.")]
Workers = Annotated[int, typer.Option(min=1, help="Processes, of one thread each.")]
Seed = Annotated[int, typer.Option(min=0, help="Leads weights, data order and draws.")]
Device = Annotated[str, typer.Option(help="auto, cpu or gpu.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a machine, nothing else.")]


def register(app: typer.Typer, reported: Callable[[Any], Any]) -> None:
    """Add the command to the application; `reported` turns bad input into one line."""
    app.command()(reported(retrain))


def retrain(
    run: Run,
    top: Annotated[
        int | None,
        typer.Option(min=0, help="The best so many of the search; 1, or 0 by --sample."),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Optuna trials for each network.")] = 20,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of every training.")] = 30,
    batch_size: Annotated[int, typer.Option(min=1)] = 64,
    seeds: Annotated[int, typer.Option(min=2, help="Final trainings, tested once each.")] = 3,
    confirm_seeds: Annotated[
        int, typer.Option(min=0, help="Seeds that the best recipes are compared with; 0: none.")
    ] = 5,
    confirm_top: Annotated[
        int, typer.Option(min=1, help="Recipes of each network that are compared so.")
    ] = 3,
    timeout: Annotated[
        str | None, typer.Option(help="For each study: seconds, or such as 30m, 2h.")
    ] = None,
    storage: Annotated[
        str | None, typer.Option(help="Of all studies: Optuna's URL or a journal file.")
    ] = None,
    study_name: Annotated[
        str | None, typer.Option(help="Begins the studies' names there; RUN's if not given.")
    ] = None,
    suggest: Annotated[
        str | None, typer.Option(help="Search space: module:function, or a YAML or JSON file.")
    ] = None,
    published: Annotated[
        bool, typer.Option(help="Begin each study with the published recipe; --suggest must fit.")
    ] = True,
    warm_start: Annotated[
        bool, typer.Option(help="Then try the best recipe of the network before.")
    ] = True,
    pruner: Annotated[
        Literal["percentile", "median", "hyperband", "none"],
        typer.Option(help="Which trials end early."),
    ] = "percentile",
    baseline: Baselines = None,
    sample: Sample = None,
    space: SpaceName = None,
    space_set: SpaceSet = None,
    workers: Workers = 1,
    data: Data = None,
    image_size: Size = None,
    seed: Seed = 0,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Tune how networks are trained (Optuna), confirm the best recipes, test each network once.

    The same command again goes on where it ended; in another terminal it is one more worker. All
    is chosen by validation images. Studies are ordinary Optuna ones: RUN/retrain/NAME/study.log.
    Example: nas-ext retrain runs/x --top 3 --trials 50 --timeout 2h --baseline resnet18
    """
    from nas_ext.report import write_retrain_report, write_search_report
    from nas_ext.retrain import Recipe, Stages, find_suggest, run_stages
    from nas_ext.retrain.storage import FolderBusy
    from nas_ext.retrain_inputs import candidates_for, images_of

    result, images = images_of(run, source=data, image_size=image_size, seed=seed)
    found = candidates_for(
        result,
        images,
        top=top,
        sample=sample,
        space=space,
        arguments=settings_from(space_set or [], option="--space-set"),
        baselines=baseline or [],
    )
    stages = Stages(
        recipe=Recipe(epochs=epochs, batch_size=batch_size),
        trials=trials,
        seeds=seeds,
        confirm_top=confirm_top,
        confirm_seeds=confirm_seeds,
        seed=seed,
        suggest=None if suggest is None else find_suggest(suggest),
        published=published,
        warm_start=warm_start,
        pruner=None if pruner == "none" else pruner,
        timeout=None if timeout is None else seconds(timeout),
        storage=storage,
        study_name=study_name or ("retrain" if storage is None else run.resolve().name),
        workers=workers,
        device=place(device),
    )
    say = _silent if as_json else _say
    try:
        tested = run_stages(found, images, out=run / "retrain", stages=stages, say=say)
    except FolderBusy as error:  # it was one more worker of the studies, and they are done
        say(f"{error}, and finishes what is left")
        return
    report = write_retrain_report(run) if result is None else write_search_report(run)
    if as_json:
        typer.echo(json.dumps([_retrained(line) for line in tested], indent=1))
        return
    if tested[0].confirmation is not None:
        _print_confirmation(tested[0].confirmation)
    for line in tested:
        screen.print(
            f"{line.name}: test accuracy {100 * line.final.mean:.2f} % "
            f"+- {100 * (line.final.half_width or 0):.2f} (n = {len(line.final.seeds)} seeds, "
            f"95 %), recipe of trial {line.final.trial}. {line.folder / 'model'}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    screen.print(f"Report: {report}", markup=False, highlight=False, soft_wrap=True)


def seconds(text: str) -> float:
    """Return a duration such as "90", "45s", "30m", "1.5h" or "1h30m" in seconds.

    Raises ValueError for anything else, and for none at all.
    """
    parts = re.findall(r"(\d+(?:\.\d*)?)([smhd]?)", text)
    if not parts or "".join(n + unit for n, unit in parts) != text:
        raise ValueError(f"timeout must be seconds, or such as 30m, 2h or 1h30m, got {text!r}")
    if len(parts) > 1 and any(not unit for _, unit in parts):
        raise ValueError(f"timeout must have a unit in each of its parts, got {text!r}")
    total = sum(float(number) * SECONDS[unit] for number, unit in parts)
    if total <= 0:
        raise ValueError(f"timeout must be positive, got {text!r}")
    return total


def place(device: str) -> str:
    """Return torch's name of a device; auto is a GPU where there is one."""
    import torch

    if device not in ("auto", "cpu", "gpu"):
        raise ValueError(f"device must be auto, cpu or gpu, got {device!r}")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return "cuda" if device == "gpu" else device


def _silent(text: str) -> None:
    """Print nothing."""


def _say(text: str) -> None:
    errors.print(text, style="bold", markup=False, highlight=False)


def _retrained(line: Retrained) -> dict[str, Any]:
    """Return what one network came to, as JSON values."""
    tested, confirmed = line.final, line.confirmation
    best = None if confirmed is None else confirmed.best(line.name)
    return {
        "name": line.name,
        "test_accuracy": tested.mean,
        "half_width": tested.half_width,
        "accuracies": list(tested.accuracies),
        "trial": tested.trial,
        "recipe": tested.recipe.to_json(),
        "confirmed": None
        if best is None or confirmed is None
        else {"mean": best.mean, "seeds": list(confirmed.seeds), "trial": best.trial},
        "chosen": confirmed is not None and confirmed.winner.network == line.name,
        "folder": str(line.folder),
    }


def _print_confirmation(found: Confirmation) -> None:
    grid = Grid(
        title=f"Recipes on validation images, {len(found.seeds)} seeds, best first",
        title_justify="left",
        caption="differences are paired by seed",
        caption_justify="left",
    )
    for heading in ("network", "trial", "mean [95 % interval], %", "minus the first recipe"):
        grid.add_column(heading, justify="left" if heading == "network" else "right")
    for recipe in found.recipes:
        interval, first = recipe.interval, found.first(recipe.network)
        ends = "" if interval is None else f" \\[{points(interval.low)}, {points(interval.high)}]"
        gain = ""
        if first is not None and not recipe.first and (gap := found.minus(recipe, first)):
            gain = f"{100 * gap.mean:+.2f} \\[{points(gap.low)}, {points(gap.high)}]"
        number = f"{recipe.trial} (first)" if recipe.first else str(recipe.trial)
        network = recipe.network.replace("[", "\\[")
        grid.add_row(network, number, f"{points(recipe.mean)}{ends}", gain)
    screen.print(grid)


def points(share: float) -> str:
    """Return a share in percent with two decimals, without the sign."""
    return f"{100 * share:.2f}"

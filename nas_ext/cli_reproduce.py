"""The command that runs again what made a folder, and compares: `reproduce`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

screen = Console()
errors = Console(stderr=True)


def register(app: typer.Typer, reported: Callable[[Any], Any]) -> None:
    """Add the command to the application; `reported` turns bad input into one line."""
    app.command()(reported(reproduce))


def reproduce(
    run: Annotated[
        Path,
        typer.Argument(
            help="Folder of a search, fit, final training, comparison or ground truth; or the "
            "file that bench --json printed."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="New folder; RUN-again beside RUN unless given.")
    ] = None,
    within: Annotated[
        float, typer.Option(min=0, help="By how much numbers may differ; 0: not in the last bit.")
    ] = 0.0,
    data: Annotated[str | None, typer.Option(help="Where the images are now.")] = None,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes, for a comparison and a ground truth.")
    ] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, nothing else.")] = False,
) -> None:
    """Run again what made a folder, and compare draws, rewards, rankings and accuracies.

    Says first which versions and which kind of processor are others now; then the last bits may
    differ. One line for each thing that is compared; exit code 0 only if all agree, 1 otherwise.
    Example: nas-ext reproduce runs/x --out runs/x-again
    """
    from nas_ext.reproduce import reproduce as again

    made = again(
        run, out=out, source=data, within=within, workers=workers, say=_quiet if as_json else _say
    )
    if as_json:
        typer.echo(json.dumps(made.to_json(), indent=1))
    else:
        for check in made.checks:
            _print(check.text)
        verdict = "reproduced" if made.same else "NOT reproduced"
        _print(f"{verdict}: {run} by {made.out}")
    if not made.same:
        raise typer.Exit(1)


def _print(text: str) -> None:
    screen.print(text, markup=False, highlight=False, soft_wrap=True)


def _say(text: str) -> None:
    errors.print(text, markup=False, highlight=False, soft_wrap=True)


def _quiet(text: str) -> None:
    """Say nothing."""

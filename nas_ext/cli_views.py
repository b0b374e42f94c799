"""The commands that look again at a finished run: `select` and `tree`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table as Grid

screen = Console()

Run = Annotated[Path, typer.Argument(help="Folder of a search.")]


def register(app: typer.Typer, reported: Callable[[Any], Any]) -> None:
    """Add the commands to the application; `reported` turns bad input into one line."""
    app.command()(reported(select))
    app.command()(reported(tree))


def select(
    run: Run,
    method: Annotated[
        str, typer.Option(help="exhaustive, random, boltzmann, evolution or shifting.")
    ],
    budget: Annotated[
        int | None,
        typer.Option(help="Architectures to evaluate; single batches for boltzmann."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Leads every draw.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Training batch of shifting.")] = 150,
    data: Annotated[str | None, typer.Option(help="Where the images are now.")] = None,
    device: Annotated[str, typer.Option(help="cpu or gpu.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, nothing else.")] = False,
) -> None:
    """Search the trained supernet of a run once more, and rank what was found.

    Nothing is trained, save by shifting, which moves a copy of the weights. Leaves
    RUN/select-METHOD.json. Example: nas-ext select runs/photos --method evolution --budget 500
    """
    from nas_ext.second_stage import select as search_again

    if device not in ("cpu", "gpu"):
        raise ValueError(f"device must be cpu or gpu, got {device!r}")
    found = search_again(
        run,
        method,
        budget=budget,
        seed=seed,
        source=data,
        batch_size=batch_size,
        device="cuda" if device == "gpu" else device,
    )
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=1))
        return
    title = f"{method} on the supernet of {found.run['strategy']}"
    grid = Grid(title=title, title_justify="left")
    for heading in ("rank", "architecture", "validation accuracy", "macs"):
        grid.add_column(heading, justify="right")
    for rank, line in enumerate(found.ranking[:10], 1):
        macs = "" if line.macs is None else f"{line.macs / 1e6:.1f} M"
        name = line.name.replace("[", "\\[")
        grid.add_row(str(rank), name, f"{100 * line.accuracy:.2f} %", macs)
    screen.print(grid)
    spent = ", ".join(f"{count} {purpose}" for purpose, count in found.passes.items())
    written = run / f"select-{method}.json"
    screen.print(f"Passes: {spent}. {written}", markup=False, highlight=False, soft_wrap=True)


def tree(
    run: Run,
    format_: Annotated[
        Literal["text", "json", "dot"],
        typer.Option("--format", help="For people, for programs, or for Graphviz."),
    ] = "text",
    why: Annotated[
        str | None, typer.Option(help="Explain one architecture, by its name in the ranking.")
    ] = None,
    depth: Annotated[
        int | None, typer.Option(min=0, help="Levels of text and dot; all unless given.")
    ] = None,
) -> None:
    """Print the tree that a run searched, or why it led to an architecture.

    Values are averages of rewards, without the optimistic initial value. What --format json
    prints is a tree that another search takes: nas-ext search --set tree=FILE.
    """
    from nas_ext.run_trees import RunTree
    from nas_ext.tree_view import to_dot, to_json, to_text

    seen = RunTree.load(run)
    if why is not None:
        if format_ == "dot":
            raise ValueError("--why must come with --format text or json, got dot")
        answer = seen.why(why)
        typer.echo(json.dumps(answer.to_json(), indent=1) if format_ == "json" else answer.text())
    elif format_ == "json":
        typer.echo(json.dumps(to_json(seen.tree, seen.space, value=seen.value), indent=1))
    else:
        written = to_dot if format_ == "dot" else to_text
        typer.echo(written(seen.tree, seen.space, depth=depth, value=seen.value), nl=False)

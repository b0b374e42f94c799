"""The commands that look again at a finished run: `select` and `tree`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table as Grid

if TYPE_CHECKING:
    from nas_ext.latency import LatencyTable
    from nas_ext.results import RankedArchitecture, SearchResult

screen = Console()

Run = Annotated[Path, typer.Argument(help="Folder of a search.")]


def register(app: typer.Typer, reported: Callable[[Any], Any]) -> None:
    """Add the commands to the application; `reported` turns bad input into one line."""
    app.command()(reported(select))
    app.command()(reported(tree))


def select(
    run: Run,
    method: Annotated[
        str | None, typer.Option(help="exhaustive, random, boltzmann, evolution or shifting.")
    ] = None,
    budget: Annotated[
        int | None,
        typer.Option(help="Architectures to evaluate; single batches for boltzmann."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Leads every draw.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Training batch of shifting.")] = 150,
    data: Annotated[str | None, typer.Option(help="Where the images are now.")] = None,
    device: Annotated[str, typer.Option(help="cpu or gpu.")] = "cpu",
    workers: Annotated[int, typer.Option(min=1, help="Processes, for exhaustive and random.")] = 1,
    front: Annotated[
        bool, typer.Option("--front", help="Only what none beats in both accuracy and cost.")
    ] = False,
    cost: Annotated[
        Literal["macs", "parameters", "latency"],
        typer.Option(help="Of --front; latency is measured now, one image at a time."),
    ] = "macs",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, nothing else.")] = False,
) -> None:
    """Search the trained supernet of a run once more, and rank what was found.

    Nothing is trained, save by shifting, which moves a copy of the weights. Leaves
    RUN/select-METHOD.json. Example: nas-ext select runs/photos --method evolution --budget 500
    With --front alone, nothing is evaluated: the choice is among the run's own ranking.
    """
    if device not in ("cpu", "gpu"):
        raise ValueError(f"device must be cpu or gpu, got {device!r}")
    if method is None:
        if not front:
            raise ValueError("--method or --front must be given, got neither")
        _front(run, None, cost, device=device, as_json=as_json)
        return
    from nas_ext.second_stage import select as search_again

    found = search_again(
        run,
        method,
        budget=budget,
        seed=seed,
        source=data,
        batch_size=batch_size,
        device="cuda" if device == "gpu" else device,
        workers=workers,
    )
    if front:
        _front(run, found.ranking, cost, device=device, as_json=as_json)
        return
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=1))
        return
    title = f"{method} on the supernet of {found.run['strategy']}"
    costs = ["" if line.macs is None else f"{line.macs / 1e6:.1f} M" for line in found.ranking]
    _print_lines(title, found.ranking[:10], "macs", costs[:10])
    spent = ", ".join(f"{count} {purpose}" for purpose, count in found.passes.items())
    written = run / f"select-{method}.json"
    screen.print(f"Passes: {spent}. {written}", markup=False, highlight=False, soft_wrap=True)


def _front(
    run: Path,
    ranking: Sequence[RankedArchitecture] | None,
    cost: Literal["macs", "parameters", "latency"],
    *,
    device: str,
    as_json: bool,
) -> None:
    """Print the front of a ranking, that of the run's own search for None."""
    from nas_ext.pareto import front
    from nas_ext.results import SearchResult

    result = SearchResult.load(run)
    lines = result.ranking if ranking is None else ranking
    measured = _measured(run, result, lines, device) if cost == "latency" else None
    kept = front(lines, cost=cost if measured is None else measured)
    costs = [
        float(getattr(line, cost)) if measured is None else measured(line.architecture)
        for line in kept
    ]
    if as_json:
        rows = [
            {**asdict(line), "architecture": list(line.architecture), "cost": value}
            for line, value in zip(kept, costs, strict=True)
        ]
        how = None if measured is None else dict(measured.conditions)
        said = {"cost": cost, "conditions": how, "of": len(lines), "front": rows}
        typer.echo(json.dumps(said, indent=1))
        return
    title = f"Not beaten in accuracy and {cost}: {len(kept)} of {len(lines)}"
    scale, unit = {"macs": (1e-6, "M"), "parameters": (1e-3, "k"), "latency": (1e3, "ms")}[cost]
    scaled = [scale * value for value in costs]
    shown = [f"{x:,.2f} {unit}" if x >= 1 else f"{x:.3g} {unit}" for x in scaled]
    _print_lines(title, kept, cost, shown)
    if measured is not None:
        known = measured.conditions
        where = f"{known['name']}, {known['threads']} threads, batches of {known['batch_size']}"
        written = run / "latency.json"
        screen.print(f"{where}. {written}", markup=False, highlight=False, soft_wrap=True)


def _measured(
    run: Path, result: SearchResult, lines: Sequence[RankedArchitecture], device: str
) -> LatencyTable:
    """Measure what is ranked, and leave the numbers beside the search."""
    from nas_ext.latency import Measurement, latencies

    how = Measurement(device="cuda" if device == "gpu" else device)
    table = latencies(result, [line.architecture for line in lines], how=how)
    table.save(run / "latency.json")
    return table


def _print_lines(
    title: str, lines: Sequence[RankedArchitecture], cost: str, costs: Sequence[str]
) -> None:
    grid = Grid(title=title, title_justify="left")
    for heading in ("rank", "architecture", "validation accuracy", cost):
        grid.add_column(heading, justify="right")
    for rank, (line, value) in enumerate(zip(lines, costs, strict=True), 1):
        name = line.name.replace("[", "\\[")
        grid.add_row(str(rank), name, f"{100 * line.accuracy:.2f} %", value)
    screen.print(grid)


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

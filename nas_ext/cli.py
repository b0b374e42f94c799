"""The command line: search, retrain, benchmark and report from the shell."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import typer
from rich.console import Console
from rich.table import Table as Grid

from nas_ext import (
    cli_compare,
    cli_export,
    cli_fit,
    cli_latency,
    cli_reproduce,
    cli_retrain,
    cli_search,
    cli_spaces,
)
from nas_ext.cli_views import register
from nas_ext.setting_pairs import settings_from

app = typer.Typer(
    name="nas-ext",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Search neural architectures by one-shot methods, retrain what was found, and say how "
    "sure that is. Begin with [bold]nas-ext demo[/]; then [bold]nas-ext search --data FOLDER "
    "--out runs/mine[/] and [bold]nas-ext retrain runs/mine[/].",
)
screen = Console()
errors = Console(stderr=True)

Command = TypeVar("Command", bound=Callable[..., None])

Json = Annotated[bool, typer.Option("--json", help="Print JSON for a machine, nothing else.")]
Seed = Annotated[int, typer.Option(min=0, help="Leads weights, data order and draws.")]
Device = Annotated[str, typer.Option(help="auto, cpu or gpu.")]


def reported(command: Command) -> Command:
    """Turn bad input into one line and exit code 2; NAS_EXT_DEBUG=1 shows where it arose."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except KeyboardInterrupt as stop:
            reason = str(stop) or "stopped; what is finished is kept, the same command goes on"
            errors.print(f"\n{reason}", style="bold", markup=False, soft_wrap=True)
            raise typer.Exit(getattr(stop, "exit_code", 130)) from stop
        except (ValueError, TypeError, OSError, ArithmeticError, MemoryError) as error:
            if os.environ.get("NAS_EXT_DEBUG"):
                raise
            reason = " ".join(str(error).split()) or type(error).__name__
            errors.print(f"Error: {reason}", style="red", markup=False, soft_wrap=True)
            raise typer.Exit(2) from error

    return cast(Command, run)


def emit(values: Any) -> None:
    """Print JSON to standard output."""
    sys.stdout.write(json.dumps(values, indent=1) + "\n")


@app.command()
@reported
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the report and everything behind it.")],
    steps: Annotated[int, typer.Option(min=3, help="Training passes of each search.")] = 800,
    trials: Annotated[int, typer.Option(min=1, help="Optuna trials of each study.")] = 6,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of every training alone.")] = 15,
    seeds: Annotated[int, typer.Option(min=2, help="Trainings behind a test accuracy.")] = 5,
    seed: Seed = 0,
    force: Annotated[bool, typer.Option(help="Replace an earlier demonstration.")] = False,
    as_json: Json = False,
) -> None:
    """Search scikit-learn's digits three ways, retrain with Optuna, write report.html.

    A few minutes on two cores, without network. LearnedTree and Uniform run inside an NNI
    experiment beside NNI's own RandomOneShot, with the same number of training passes; the report
    says whether any difference exceeds the noise of seeds.
    """
    from nas_ext.demo import Settings, run_demo
    from nas_ext.demo_report import write_demo_report

    settings = Settings(steps=steps, trials=trials, epochs=epochs, seeds=seeds, seed=seed)
    if force:
        _remove_demo(out)
    say = (lambda text: None) if as_json else (lambda text: errors.print(text, style="bold"))
    found = run_demo(out, settings, say=say)
    report = write_demo_report(out, found)
    if as_json:
        emit(json.loads((out / "result.json").read_text(encoding="utf-8")))
        return
    for sentence in found.sentences:
        screen.print(f"- {sentence}", markup=False, highlight=False)
    screen.print(f"{found.seconds:.0f} s. Report: {report}", markup=False, highlight=False)


def _remove_demo(out: Path) -> None:
    """Remove an earlier demonstration; ValueError for a folder that is none."""
    import shutil

    if not out.exists():
        return
    known = {"learned-tree", "uniform", "nni-random-oneshot", "retrain", "result.json"}
    strangers = sorted(p.name for p in out.iterdir() if p.name not in {*known, "report.html"})
    if strangers:
        raise ValueError(f"--force removes a demonstration only, {out} also holds {strangers}")
    shutil.rmtree(out)


cli_search.register(app, reported)


@app.command()
@reported
def bench(
    table: Annotated[
        str,
        typer.Argument(
            help="pooling, mini-pooling, narrow-pooling or mini-macro; "
            "nasbench-macro or nasbench201-cifar10 with "
            "its file."
        ),
    ],
    strategy: Annotated[
        str, typer.Option(help="See `nas-ext strategies`; all runs every one.")
    ] = "learned-tree",
    seeds: Annotated[int, typer.Option(min=2, help="Independent searches.")] = 10,
    steps: Annotated[int, typer.Option(min=1, help="Single-batch evaluations each.")] = 2000,
    batch_size: Annotated[int, typer.Option(min=1, help="Images behind a reward.")] = 256,
    candidates: Annotated[
        int | None, typer.Option(min=1, help="Compared at the end; the table's own number if not.")
    ] = None,
    baselines: Annotated[
        bool, typer.Option(help="Random search, regularised evolution and Optuna's TPE as well.")
    ] = True,
    data: Annotated[
        str | None, typer.Option(help="The table's file or folder; else NAS_EXT_DATA.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="A setting of the strategy, NAME=VALUE.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run a strategy against a table, beside random search, evolution, TPE and counting macs.

    Rewards are the ground truth seen through a batch of images (an oracle): this compares how
    samplers spend their draws, not how supernets rank. All spend the same evaluations.
    """
    from nas_ext.bench import ALL, noise_ceiling, references
    from nas_ext.bench_record import NOTE, bench_record
    from nas_ext.strategies.registry import create

    settings = settings_from(set_ or [])
    if strategy != ALL:
        create(strategy, **settings)
    truth, made, values = bench_record(
        table,
        strategy=strategy,
        seeds=seeds,
        steps=steps,
        batch_size=batch_size,
        candidates=candidates,
        baselines=baselines,
        data=data,
        settings=settings,
    )
    if as_json:
        emit(values)
        return
    known, ceiling = references(truth), noise_ceiling(truth)
    title = f"{table}: {steps} evaluations, {seeds} seeds, mean [95 % interval]"
    _print_scores(title, made, known, NOTE)
    if ceiling is not None:
        how = "simulated from the published deviations" if ceiling.simulated else "published"
        said = f"Kendall's tau between two trainings of every network: {ceiling.tau:.2f} ({how})"
        screen.print(said, markup=False, highlight=False)


def _print_scores(title: str, made: Any, known: Any, note: str) -> None:
    grid = Grid(title=title, title_justify="left", caption=note, caption_justify="left")
    grid.add_column("method")
    columns = {
        "regret": ("regret, points", 100, 2),
        "rank": ("rank", 1, 1),
        "found_in_top5": ("P(top 5), %", 100, 0),
        "draws_in_top10": ("draws on top 10, %", 100, 1),
    }
    for heading, _, _ in columns.values():
        grid.add_column(heading, justify="right")
    for scores in (made.scores, made.baselines):
        for score in scores:
            cells = [
                f"{f * i.mean:.{d}f}\n\\[{f * i.low:.{d}f}, {f * i.high:.{d}f}]"
                for i, (_, f, d) in ((score.means[name], columns[name]) for name in columns)
            ]
            grid.add_row(score.strategy.replace("-", " "), *cells)
        grid.add_section()
    for label, line in known.items():
        values = [(line.get(name), f, d) for name, (_, f, d) in columns.items()]
        grid.add_row(label, *("" if v is None else f"{f * v:.{d}f}" for v, f, d in values))
    screen.print(grid)
    for score in (*made.scores, *made.baselines):
        found = ", ".join(f"{r.name} ({r.rank})" for r in score.runs)
        screen.print(f"{score.strategy} found: {found}", markup=False, highlight=False)
    for name, reason in made.skipped.items():
        screen.print(f"left out: {name}: {reason}", markup=False, highlight=False)


@app.command()
@reported
def report(run: Annotated[Path, typer.Argument(help="Folder of a search.")]) -> None:
    """Write report.html for a search and the retrainings beside it."""
    from nas_ext.report import write_search_report

    screen.print(str(write_search_report(run)), markup=False, highlight=False)


@app.command()
@reported
def strategies(as_json: Json = False) -> None:
    """List the strategies with their phases, their cost and their settings."""
    from nas_ext.strategies.registry import describe

    listed = describe()
    if as_json:
        emit(listed)
        return
    grid = Grid(title="Strategies", title_justify="left", show_lines=True)
    for heading in ("name", "what it does", "phases", "cost of a step", "spaces", "source"):
        grid.add_column(heading)
    for line in listed:
        phases = ", ".join(line["phases"])
        grid.add_row(
            line["name"], line["summary"], phases, line["cost"], line["spaces"], line["source"]
        )
    screen.print(grid)


register(app, reported)
cli_spaces.register(app, reported)
cli_latency.register(app, reported)
cli_export.register(app, reported)
cli_retrain.register(app, reported)
cli_fit.register(app, reported)
cli_compare.register(app, reported)
cli_reproduce.register(app, reported)


def main() -> None:
    """Run the command line."""
    app()

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

from nas_ext import cli_compare, cli_export, cli_fit, cli_latency, cli_retrain, cli_spaces
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
        except (ValueError, TypeError, OSError) as error:
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


@app.command()
@reported
def search(
    data: Annotated[str, typer.Option(help="'digits', or a folder in ImageFolder layout.")],
    out: Annotated[Path, typer.Option(help="New folder for the run.")],
    space: Annotated[str, typer.Option(help="See `nas-ext spaces`.")] = "pooling-resnet20",
    strategy: Annotated[str, typer.Option(help="See `nas-ext strategies`.")] = "learned-tree",
    steps: Annotated[int, typer.Option(min=1, help="Training passes, the budget.")] = 2000,
    batch_size: Annotated[int, typer.Option(min=1)] = 64,
    validation_batch_size: Annotated[
        int, typer.Option(min=1, help="Images behind one reward; 64 or more where possible.")
    ] = 128,
    learning_rate: Annotated[float, typer.Option(help="Peak of the cosine.")] = 0.1,
    weight_decay: Annotated[float, typer.Option()] = 1e-3,
    image_size: Annotated[
        int | None, typer.Option(min=1, help="Side to resize to; the images' own if small.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="A strategy's setting, NAME=VALUE; may be repeated."),
    ] = None,
    space_set: Annotated[
        list[str] | None, typer.Option(help="An argument of the space, such as width=8.")
    ] = None,
    macs: Annotated[
        str | None, typer.Option(help="Keep to architectures of LOW:HIGH macs, as 277.2M:280M.")
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Search a space on your images; leave search.json and report.html in a new folder.

    Example: nas-ext search --data photos --space pooling-resnet20 --strategy learned-tree --steps
    5000 --out runs/photos
    """
    from nas_ext.cli_spaces import window
    from nas_ext.data import load
    from nas_ext.report import write_search_report
    from nas_ext.runs import Training, search_images
    from nas_ext.strategies.registry import create

    method = create(strategy, **{"seed": seed, **settings_from(set_ or [])})
    images = load(data, image_size=image_size, seed=seed)
    training = Training(
        steps=steps,
        batch_size=batch_size,
        validation_batch_size=validation_batch_size,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        device=device,
        progress=not as_json,
    )
    source = str(Path(data).resolve()) if os.path.isdir(data) else data
    limit = {} if macs is None else {"macs": window(macs), "image_size": images.image_size}
    result = search_images(
        method,
        space,
        images,
        out=out,
        training=training,
        data_source={"source": source, "seed": seed, "image_size": image_size},
        arguments={**settings_from(space_set or []), **limit},
    )
    report = write_search_report(out)
    if as_json:
        emit({k: v for k, v in result.to_json().items() if k not in ("draws", "tree")})
        return
    _print_ranking(result)
    screen.print(f"Report: {report}\nNext: nas-ext retrain {out}", markup=False, highlight=False)


def _print_ranking(result: Any) -> None:
    grid = Grid(title=f"{result.strategy} on {result.space['name']}", title_justify="left")
    for heading in ("rank", "architecture", "validation accuracy", "macs"):
        grid.add_column(heading, justify="right")
    for rank, line in enumerate(result.ranking[:10], 1):
        macs = "" if line.macs is None else f"{line.macs / 1e6:.1f} M"
        name = line.name.replace("[", "\\[")
        grid.add_row(str(rank), name, f"{100 * line.accuracy:.2f} %", macs)
    screen.print(grid)


@app.command()
@reported
def bench(
    table: Annotated[
        str,
        typer.Argument(
            help="pooling or mini-pooling; nasbench-macro or nasbench201-cifar10 with its file."
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
    from nas_ext.bench import ALL, BESIDE, noise_ceiling, references
    from nas_ext.bench import bench as run_bench
    from nas_ext.bench import table as load_table
    from nas_ext.benchmarks import BASELINES
    from nas_ext.strategies.registry import create

    settings = settings_from(set_ or [])
    if strategy != ALL:
        create(strategy, **settings)
    truth = load_table(table, data)
    made = run_bench(
        truth,
        [strategy] if strategy == ALL else [strategy, *BESIDE],
        seeds=seeds,
        evaluations=steps,
        batch_size=batch_size,
        candidates=candidates,
        settings=settings,
        baselines=tuple(BASELINES) if baselines else (),
    )
    known, ceiling = references(truth), noise_ceiling(truth)
    note = "rewards are the ground truth with binomial noise (oracle); distances of encodings"
    if as_json:
        emit(
            {
                "table": table,
                "steps": steps,
                "candidates": truth.candidates if candidates is None else candidates,
                "note": note,
                "scores": [score.to_json() for score in made.scores],
                "baselines": [score.to_json() for score in made.baselines],
                "references": known,
                "ceiling": None if ceiling is None else vars(ceiling),
                "skipped": dict(made.skipped),
            }
        )
        return
    title = f"{table}: {steps} evaluations, {seeds} seeds, mean [95 % interval]"
    _print_scores(title, made, known, note)
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


def main() -> None:
    """Run the command line."""
    app()

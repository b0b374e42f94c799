"""The commands behind numbers: `compare` strategies, measure a `ground-truth`, the `evidence`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table as Grid

from nas_ext.setting_pairs import settings_from

if TYPE_CHECKING:
    from nas_ext.comparison import Judged

screen = Console()
progress = Console(stderr=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON, nothing else.")]
Out = Annotated[Path, typer.Option(help="Folder; the same command again goes on in it.")]
Workers = Annotated[int, typer.Option(min=1, help="Processes, one thread each.")]
ImageSize = Annotated[int, typer.Option(min=0, help="Side of the images; 0 leaves their own.")]


def register(app: typer.Typer, reported: Callable[[Any], Any]) -> None:
    """Add the commands to the application; `reported` turns bad input into one line."""
    app.command()(reported(compare))
    app.command("ground-truth")(reported(ground_truth))
    app.command()(reported(evidence))


def compare(
    out: Out,
    strategies: Annotated[
        str,
        typer.Option(
            help='"all", or names with settings: "uniform mcts:exploration=0 nni-darts". '
            '"equal=steps" and "times=M" say what is equal but passes.'
        ),
    ] = "uniform learned-tree",
    reference: Annotated[str, typer.Option(help="Differences are to this one.")] = "uniform",
    table: Annotated[
        str,
        typer.Option(
            help="Ground truth: mini-pooling, narrow-pooling, mini-macro, or a CSV of "
            "`ground-truth`."
        ),
    ] = "mini-pooling",
    space: Annotated[
        str | None, typer.Option(help="The table's own unless given; see `nas-ext spaces`.")
    ] = None,
    space_set: Annotated[
        list[str] | None, typer.Option(help="An argument of the space, such as width=4.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="As for `search`; the table's own unless given.")
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(min=0, help="The table's own unless given; 0: the images'.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=2, help="Searches of each competitor.")] = 12,
    first_seed: Annotated[
        int, typer.Option(min=0, help="Choose settings on some seeds, report others.")
    ] = 0,
    budget: Annotated[int, typer.Option(min=1, help="Training passes of each search.")] = 800,
    batch_size: Annotated[int, typer.Option(min=1)] = 64,
    validation_batch_size: Annotated[int, typer.Option(min=1)] = 256,
    learning_rate: Annotated[float, typer.Option()] = 0.1,
    weight_decay: Annotated[float, typer.Option()] = 5e-4,
    workers: Workers = 1,
    as_json: Json = False,
) -> None:
    """Compare strategies on supernets at equal passes, paired by seed, against a ground truth.

    Leaves OUT/report.html, OUT/runs.csv and OUT/result.json. Example: nas-ext compare --strategies
    all --seeds 12 --budget 800 --out runs/compared
    """
    from nas_ext.comparison import Comparison, competitors
    from nas_ext.comparison import compare as run
    from nas_ext.comparison.outcome import outcome, write_runs
    from nas_ext.comparison.tables import truth as truth_of
    from nas_ext.files import read_json, write_json
    from nas_ext.manifest import manifest
    from nas_ext.report.comparison import write_comparison_report
    from nas_ext.runs import Training

    arguments = settings_from(space_set or [], option="--space-set")
    if space is None and arguments:
        raise ValueError(f"space must be given with --space-set, got {sorted(arguments)} alone")
    given = None if space is None else {"name": space, **arguments}
    truth = truth_of(table, space=given, data=data, image_size=image_size)
    made = Comparison(
        space=truth.space,
        data=truth.data,
        image_size=truth.image_size,
        competitors=competitors(strategies.split(), space=truth.space, table=truth.table),
        seeds=tuple(range(first_seed, first_seed + seeds)),
        training=Training(
            steps=budget,
            batch_size=batch_size,
            validation_batch_size=validation_batch_size,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            device="cpu",
            progress=False,
            augment=False,
        ),
    )
    known = [one.label for one in made.competitors]
    if reference not in known:
        raise ValueError(f"reference must be one of the competitors {known}, got {reference!r}")
    judged = run(made, truth.table, out=out, workers=workers, say=_quiet if as_json else _say)
    values = outcome(truth.table, judged, reference=reference)
    made_by = read_json(out / "comparison.json").get("manifest")
    digest = made_by.get("data") if isinstance(made_by, dict) else None  # older ones have none
    made_with = {"table": table, "reference": reference}
    values["manifest"] = manifest(seeds=made.seeds, data=digest, threads=1, made_with=made_with)
    write_json(out / "result.json", values)
    write_runs(out / "runs.csv", judged)
    write_comparison_report(out / "report.html", made, truth.table, judged, reference=reference)
    if as_json:
        typer.echo(json.dumps(values, indent=1))
        return
    _print(judged, values, reference)
    screen.print(f"Report: {out / 'report.html'}", markup=False, highlight=False)


def _print(judged: Sequence[Judged], values: Any, reference: str) -> None:
    count = len({one.seed for one in judged})
    grid = Grid(title=f"{count} seeds, mean [95 % interval]", title_justify="left")
    for heading in ("competitor", "tau", "regret, points", f"tau to {reference}", "p (Holm)"):
        grid.add_column(heading, justify="left" if heading == "competitor" else "right")
    differences = {line["competitor"]: line for line in values["contrasts"].get("tau", [])}
    for name, means in values["means"].items():
        tau, to = means.get("tau"), differences.get(name)
        regret = {end: 100 * value for end, value in means["regret"].items()}
        grid.add_row(
            name,
            "" if tau is None else f"{tau['mean']:.2f} \\[{tau['low']:.2f}, {tau['high']:.2f}]",
            f"{regret['mean']:.2f} \\[{regret['low']:.2f}, {regret['high']:.2f}]",
            "" if to is None else f"{to['mean']:+.2f} \\[{to['low']:+.2f}, {to['high']:+.2f}]",
            "" if to is None else f"{to['adjusted']:.3f}",
        )
    screen.print(grid)


def ground_truth(
    space: Annotated[str, typer.Argument(help="See `nas-ext spaces`; small enough to train.")],
    out: Out,
    space_set: Annotated[
        list[str] | None, typer.Option(help="An argument of the space, such as width=4.")
    ] = None,
    data: Annotated[str, typer.Option(help="As for `search`.")] = "fashion-mnist",
    image_size: ImageSize = 8,
    seeds: Annotated[int, typer.Option(min=2, help="Trainings of each architecture.")] = 6,
    epochs: Annotated[int, typer.Option(min=1)] = 3,
    batch_size: Annotated[int, typer.Option(min=1)] = 128,
    learning_rate: Annotated[float, typer.Option()] = 0.1,
    weight_decay: Annotated[float, typer.Option()] = 5e-4,
    augment: Annotated[bool, typer.Option(help="Move and mirror training images.")] = False,
    workers: Workers = 1,
    as_json: Json = False,
) -> None:
    """Train every architecture of a small space alone, with several seeds: a table to compare by.

    Nesterov's SGD along a cosine. Leaves OUT/ground-truth.csv and its manifest. The shipped table
    of mini-pooling is `nas-ext ground-truth mini-pooling --seeds 6 --out FOLDER`.
    """
    from nas_ext.ground_truth import MANIFEST, GroundTruth, measure
    from nas_ext.retrain import Recipe

    truth = GroundTruth(
        space={"name": space, **settings_from(space_set or [], option="--space-set")},
        data=data,
        image_size=image_size or None,
        seeds=seeds,
        recipe=Recipe(
            epochs=epochs,
            batch_size=batch_size,
            opt="sgd",
            lr=learning_rate,
            weight_decay=weight_decay,
        ),
        augment=augment,
    )
    file = measure(truth, out=out, workers=workers, say=_quiet if as_json else _say)
    if as_json:
        typer.echo(json.dumps({"table": str(file), "settings": asdict(truth)}, indent=1))
        return
    screen.print(f"Table: {file}\nManifest: {out / MANIFEST}", markup=False, highlight=False)


def evidence(
    out: Out,
    workers: Workers = 1,
    shipped_tables: Annotated[
        bool, typer.Option("--shipped-tables", help="Do not measure the ground truths again.")
    ] = False,
    only: Annotated[
        list[str] | None, typer.Option(help="Run this experiment alone; may be repeated.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="The images, where they are not found by themselves.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="Folder of earlier results to compare with.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run the study of the mini benchmarks again: ground truths, experiments, figures, tables.

    Leaves OUT/result.json, OUT/tables.md, and a folder for each experiment. Ends with code 1 when
    a ground truth does not agree with the shipped one.
    """
    from nas_ext.comparison.experiments import EXPERIMENTS
    from nas_ext.comparison.study import run_study

    known = {one.name: one for one in EXPERIMENTS}
    for name in only or []:
        if name not in known:
            raise ValueError(f"only must be one of {list(known)}, got {name!r}")
    study = run_study(
        [one for one in EXPERIMENTS if not only or one.name in only],
        out=out,
        workers=workers,
        shipped_tables=shipped_tables,
        data=data,
        against=against,
        say=_quiet if as_json else _say,
    )
    if as_json:
        typer.echo(json.dumps(dict(study.values), indent=1))
    else:
        inside = sum(one.inside for one in study.again)
        for name, found in study.agreements.items():
            said = "agrees" if found.agrees else f"does not agree: {found}"
            _print_line(f"Ground truth of {name}: {said}")
        if study.again:
            _print_line(f"{inside} of {len(study.again)} means inside the shipped intervals")
        _print_line(f"Tables: {out / 'tables.md'}")
    if not study.agrees:
        raise typer.Exit(1)


def _print_line(text: str) -> None:
    screen.print(text, markup=False, highlight=False)


def _say(text: str) -> None:
    progress.print(text, markup=False, highlight=False)


def _quiet(text: str) -> None:
    """Say nothing."""

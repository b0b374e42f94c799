"""The command that searches: `search`, and how it goes on where it was stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table as Grid

from nas_ext.cli_retrain import Json
from nas_ext.setting_pairs import settings_from

screen = Console()
errors = Console(stderr=True)

_SOURCE = (
    ("source", (str,), "a text"),
    ("seed", (int,), "a whole number"),
    ("image_size", (int, list, type(None)), "a side, height and width, or null"),
    ("digest", (str,), "a text"),
)
_TRAINING = ("steps", "batch_size", "validation_batch_size", "learning_rate", "weight_decay")


def register(app: typer.Typer, reported: Callable[[Any], Any]) -> None:
    """Add the command to the application; `reported` turns bad input into one line."""
    app.command()(reported(search))


def search(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="New folder for the run; with --resume, its folder.")],
    data: Annotated[
        str | None, typer.Option(help="'digits', or a folder in ImageFolder layout.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the search in OUT; needs nothing else.")
    ] = False,
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
    seed: Annotated[int, typer.Option(min=0, help="Leads weights, data order and draws.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or gpu.")] = "auto",
    checkpoint_minutes: Annotated[
        float, typer.Option(help="How often the search is saved; also when a phase ends.")
    ] = 5.0,
    checkpoint_steps: Annotated[
        int | None, typer.Option(min=1, help="Saved every so many steps as well.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Search a space on your images; leave search.json and report.html in a new folder.

    Example: nas-ext search --data photos --space pooling-resnet20 --strategy learned-tree --steps
    5000 --out runs/photos. Ctrl-C finishes the step and saves; nas-ext search --resume --out
    runs/photos goes on exactly there, also after a crash.
    """
    from nas_ext.cli_spaces import window
    from nas_ext.data import load
    from nas_ext.files import naming
    from nas_ext.report import write_search_report
    from nas_ext.run_settings import RUN
    from nas_ext.runs import Training, search_images
    from nas_ext.strategies.registry import create

    arguments = settings_from(space_set or [])
    settings = {"seed": seed, **settings_from(set_ or [])}
    training = {name: context.params[name] for name in (*_TRAINING, "device")}
    if resume:
        begun = _begun(context, out, settings_from(set_ or []), arguments)
        space, strategy, settings = begun["space"], begun["name"], begun["settings"]
        arguments, training, source = begun["arguments"], begun["training"], begun["data"]
        seed, image_size = source["seed"], _plural(source["image_size"])
        data = str(source["source"]) if data is None else data
    elif data is None:
        raise ValueError("--data must be given for a new search: 'digits', or a folder of images")
    method = create(strategy, **settings)
    with naming(out / RUN) if resume else nullcontext():
        images = load(data, image_size=image_size, seed=seed)
    if resume:
        _check_space(out, space, arguments, images)
    if macs is not None and not resume:
        arguments |= {"macs": window(macs), "image_size": images.image_size}
    place = str(Path(data).resolve()) if os.path.isdir(data) else data
    result = search_images(
        method,
        space,
        images,
        out=out,
        training=Training(**{**training, "progress": not as_json}),
        data_source={"source": place, "seed": seed, "image_size": image_size},
        arguments=arguments,
        resume=resume,
        checkpoint_minutes=checkpoint_minutes,
        checkpoint_steps=checkpoint_steps,
        say=_say,
    )
    report = write_search_report(out)
    if as_json:
        values = {k: v for k, v in result.to_json().items() if k not in ("draws", "tree")}
        typer.echo(json.dumps(values, indent=1))
        return
    _print_ranking(result)
    screen.print(f"Report: {report}\nNext: nas-ext retrain {out}", markup=False, highlight=False)


def _begun(
    context: typer.Context, out: Path, set_: Mapping[str, Any], space_set: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what the search in a folder was begun with, by the names that `create` takes.

    Raises ValueError for options that say something else, and for a search that only Python can
    go on with.
    """
    from nas_ext.cli_spaces import window
    from nas_ext.files import naming
    from nas_ext.run_settings import RUN, read_run
    from nas_ext.runs import Training
    from nas_ext.strategies.registry import STRATEGIES, create

    begun = read_run(out)
    _check_source(begun["data"], out / RUN)
    names = {entry.strategy.__name__: name for name, entry in STRATEGIES.items()}
    name = names.get(begun["strategy"])
    known = {} if name is None else STRATEGIES[name].strategy().settings
    own = {k: v for k, v in begun["settings"].items() if _plain(known.get(k, ...)) != v}
    if name is None or "reward" in own:
        raise ValueError(
            f"the search in {out} has a strategy or a reward of its own, says {RUN}: go on with "
            "search_images(..., resume=True)"
        )
    settings = {k: _plural(v) for k, v in own.items()}
    with naming(out / RUN):
        create(name, **settings)
        Training(**begun["training"])
    given = [p for p in context.params if _typed(context, p)]
    said = {p: context.params[p] for p in given if p not in ("set_", "space_set", "macs")}
    recorded = {**begun["training"], "space": begun["space"], "strategy": name}
    recorded |= {"seed": begun["data"]["seed"], "image_size": begun["data"]["image_size"]}
    both = [p for p in said if p in recorded]
    pairs = [(f"--{p.replace('_', '-')}", recorded[p], said[p]) for p in both]
    pairs += [(f"--set {k}", begun["settings"].get(k), v) for k, v in set_.items()]
    pairs += [(f"--space-set {k}", begun["arguments"].get(k), v) for k, v in space_set.items()]
    if "macs" in given:
        pairs.append(("--macs", begun["arguments"].get("macs"), window(context.params["macs"])))
    for option, old, new in pairs:
        if old != _plain(new):
            raise ValueError(f"{option} must be {old!r} to go on with {out}, got {new!r}")
    arguments = {k: _plural(v) for k, v in begun["arguments"].items()}
    return {**begun, "name": name, "settings": settings, "arguments": arguments}


def _check_source(source: Mapping[str, Any], file: Path) -> None:
    """Raise ValueError, with the file's name, unless it says how the images are loaded."""
    from nas_ext.field_types import clause

    for name, kinds, said in _SOURCE:
        if name not in source or type(source[name]) not in kinds:
            raise ValueError(f"{name} of {file} must be {said}, got {clause(source.get(name))}")


def _check_space(out: Path, space: str, arguments: Mapping[str, Any], images: Any) -> None:
    """Raise ValueError, with the file's name, for a space that `run.json` does not say rightly."""
    import torch

    from nas_ext.files import naming
    from nas_ext.run_settings import RUN
    from nas_ext.spaces import create

    given = {"num_classes": images.num_classes, "in_chs": images.in_chs, **arguments}
    with naming(out / RUN), torch.random.fork_rng(devices=[]), torch.device("meta"):
        create(space, **given).check_image_size(images.image_size)


def _typed(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name not in ("DEFAULT", "DEFAULT_MAP")


def _plain(value: Any) -> Any:
    """Return a value as JSON keeps it."""
    return list(value) if isinstance(value, tuple) else value


def _plural(value: Any) -> Any:
    """Return a value of JSON as the settings have it: a tuple for a list."""
    return tuple(value) if isinstance(value, list) else value


def _say(text: str) -> None:
    errors.print(text, style="bold", markup=False, highlight=False, soft_wrap=True)


def _print_ranking(result: Any) -> None:
    grid = Grid(title=f"{result.strategy} on {result.space['name']}", title_justify="left")
    for heading in ("rank", "architecture", "validation accuracy", "macs"):
        grid.add_column(heading, justify="right")
    for rank, line in enumerate(result.ranking[:10], 1):
        macs = "" if line.macs is None else f"{line.macs / 1e6:.1f} M"
        name = line.name.replace("[", "\\[")
        grid.add_row(str(rank), name, f"{100 * line.accuracy:.2f} %", macs)
    screen.print(grid)

"""The command that measures how long networks take: `latency`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table as Grid

from nas_ext.cli_spaces import Arguments, Json, sides
from nas_ext.setting_pairs import settings_from

if TYPE_CHECKING:
    from nas_ext.latency import LatencyTable, Measurement

screen = Console()


def register(app: typer.Typer, reported: Callable[[Any], Any]) -> None:
    """Add the command to the application; `reported` turns bad input into one line."""
    app.command()(reported(latency))


def latency(
    target: Annotated[str, typer.Argument(help="Folder of a search, or a space by name.")],
    device: Annotated[str, typer.Option(help="cpu or gpu.")] = "cpu",
    batch_size: Annotated[int, typer.Option(min=1, help="Images in a forward pass.")] = 1,
    repeats: Annotated[int, typer.Option(min=1, help="Timed passes of each network.")] = 50,
    warm_up: Annotated[int, typer.Option(min=0, help="Passes before those.")] = 10,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of torch on a CPU; as they are if not given.")
    ] = None,
    samples: Annotated[
        int, typer.Option(min=1, help="Of a space: architectures, all where it has no more.")
    ] = 10,
    image_size: Annotated[
        str | None, typer.Option(help="Of a space: side or HxW; its usual one if not.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Leads what is drawn of a space.")] = 0,
    set_: Arguments = None,
    out: Annotated[
        Path | None, typer.Option(help="JSON file; RUN/latency.json or latency-NAME.json if not.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure how long networks take on this device, and store it as a latency table.

    Of a run, the networks of its ranking; of a space, the usual architecture and uniform draws.
    The table is a cost for searches and fronts: nas_ext.latency.LatencyTable.load(FILE).
    """
    from nas_ext.latency import Measurement

    if device not in ("cpu", "gpu"):
        raise ValueError(f"device must be cpu or gpu, got {device!r}")
    how = Measurement(
        batch_size=batch_size,
        warm_up=warm_up,
        repeats=repeats,
        device="cuda" if device == "gpu" else device,
        threads=threads,
    )
    arguments = settings_from(set_ or [])
    if (Path(target) / "search.json").is_file():
        if image_size is not None or arguments:
            raise ValueError("--image-size and --set must be left out for a run, it has its own")
        table, names = _of_run(Path(target), how)
        written = out or Path(target) / "latency.json"
    else:
        size = None if image_size is None else sides(image_size)
        table, names = _of_space(target, size, how, samples=samples, seed=seed, given=arguments)
        written = out or Path(f"latency-{target}.json")
    table.save(written)
    if as_json:
        typer.echo(json.dumps({**table.to_json(), "file": str(written)}, indent=1))
        return
    _print_table(target, table, names)
    screen.print(str(written), markup=False, highlight=False, soft_wrap=True)


def _of_run(run: Path, how: Measurement) -> tuple[LatencyTable, list[str]]:
    """Measure what a run ranked, and return the names too."""
    from nas_ext.latency import latencies
    from nas_ext.results import SearchResult

    result = SearchResult.load(run)
    return latencies(result, how=how), [line.name for line in result.ranking]


def _of_space(
    name: str,
    size: tuple[int, int] | None,
    how: Measurement,
    *,
    samples: int,
    seed: int,
    given: dict[str, Any],
) -> tuple[LatencyTable, list[str]]:
    """Measure some networks of a space, and return their names too."""
    import numpy as np
    import torch

    from nas_ext.latency import latency_table
    from nas_ext.spaces import SPACES, create

    if name not in SPACES:
        raise ValueError(f"{name} must be the folder of a search, or one of {sorted(SPACES)}")
    entry = SPACES[name]
    with torch.device("meta"):  # of the space itself only the networks are built
        model = create(name, num_classes=entry.num_classes, in_chs=entry.in_chs, **given)
    space, rng = model.search_space, np.random.default_rng(seed)
    if space.size <= samples:
        chosen = list(space)
    else:
        usual = model.default_architecture
        chosen = [] if usual is None else [usual]
        while len(chosen) < samples:
            drawn = space.draw(rng)
            if drawn not in chosen:
                chosen.append(drawn)
    height, width = entry.image_size if size is None else size
    model.check_image_size((height, width))
    table = latency_table(model, chosen, (entry.in_chs, height, width), how=how)
    return table, [space.describe(architecture) for architecture in chosen]


def _print_table(target: str, table: LatencyTable, names: list[str]) -> None:
    known = table.conditions
    title = (
        f"{target}: {known['name']}, {known['threads']} threads, batches of {known['batch_size']}"
    )
    grid = Grid(title=title.replace("[", "\\["), title_justify="left")
    for heading in ("architecture", "median", "quarters"):
        grid.add_column(heading, justify="right")
    for name, timing in zip(names, table.timings.values(), strict=True):
        quarters = f"{1e3 * timing.low:.3g} to {1e3 * timing.high:.3g} ms"
        grid.add_row(name.replace("[", "\\["), f"{1e3 * timing.median:.3g} ms", quarters)
    screen.print(grid)

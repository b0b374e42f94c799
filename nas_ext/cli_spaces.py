"""The commands about model spaces: `spaces` and `space`."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table as Grid

from nas_ext.setting_pairs import settings_from

if TYPE_CHECKING:
    from nas_ext.space_check import CostRange, SpaceCheck

screen = Console()

Json = Annotated[bool, typer.Option("--json", help="Print JSON for a machine, nothing else.")]
Arguments = Annotated[
    list[str] | None, typer.Option("--set", help="An argument of the space, such as width=8.")
]

UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}


def register(app: typer.Typer, reported: Callable[[Any], Any]) -> None:
    """Add the commands to the application; `reported` turns bad input into one line."""
    for command in (spaces, space):
        app.command()(reported(command))


def window(text: str) -> tuple[int, int]:
    """Return (low, high) of a text such as "277.2M:280M"; ValueError for any other text."""
    low, colon, high = text.partition(":")
    if not colon:
        raise ValueError(f"macs must be LOW:HIGH, such as 277.2M:280M, got {text!r}")
    return _number(low), _number(high)


def _number(text: str) -> int:
    unit = text[-1:] if text[-1:] in UNITS else ""
    try:
        value = Decimal(text.removesuffix(unit)) * UNITS[unit]
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite() or value != value.to_integral_value():
        raise ValueError(f"macs must be whole numbers, with k, M or G behind them, got {text!r}")
    return int(value)


def sides(text: str) -> tuple[int, int]:
    """Return (H, W) of a text such as "224" or "512x1024"; ValueError for any other text."""
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ValueError(f"image size must be a side or HxW, got {text!r}")
    return int(parts[0]), int(parts[-1])


def spaces(as_json: Json = False) -> None:
    """List the model spaces with their sizes and arguments."""
    from nas_ext.spaces.registry import describe

    listed = describe()
    if as_json:
        typer.echo(json.dumps(listed, indent=1))
        return
    grid = Grid(title="Spaces", title_justify="left", show_lines=True)
    grid.add_column("name", no_wrap=True)
    grid.add_column("architectures", justify="right")
    grid.add_column("what it is")
    for line in listed:
        example = ", ".join(f"{name}={value}" for name, value in line["example"].items())
        said = [line["summary"], f"{line['source']} ({line['status']})"]
        said += [f"arguments: {', '.join(line['arguments'])}"] if line["arguments"] else []
        said += [f"counted with {example}"] if example else []
        grid.add_row(line["name"], f"{line['size']:,}", "\n".join(said).replace("[", "\\["))
    screen.print(grid)


def space(
    name: Annotated[str, typer.Argument(help="See `nas-ext spaces`.")],
    macs: Annotated[
        str | None, typer.Option(help="LOW:HIGH, such as 277.2M:280M: the share inside.")
    ] = None,
    image_size: Annotated[
        str | None, typer.Option(help="Side or HxW of the images; the space's usual one if not.")
    ] = None,
    num_classes: Annotated[int | None, typer.Option(min=1)] = None,
    in_chs: Annotated[int | None, typer.Option(min=1, help="Channels of the images.")] = None,
    samples: Annotated[
        int, typer.Option(min=1, help="Draws behind a median of what is not listed.")
    ] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Leads those draws.")] = 0,
    set_: Arguments = None,
    as_json: Json = False,
) -> None:
    """Say what is to know about a space before training: sizes, costs, memory, strategies.

    Example: nas-ext space pooling-resnet20 --macs 30M:60M --image-size 32
    """
    from nas_ext.space_check import check_space

    found = check_space(
        name,
        image_size=None if image_size is None else sides(image_size),
        in_chs=in_chs,
        num_classes=num_classes,
        macs=None if macs is None else window(macs),
        samples=samples,
        seed=seed,
        arguments=settings_from(set_ or []),
    )
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=1))
        return
    _print_check(found)


def _print_check(found: SpaceCheck) -> None:
    grid = Grid(title=found.name, title_justify="left", show_header=False)
    grid.add_column(style="bold")
    grid.add_column()
    for label, value in _lines(found):
        grid.add_row(label, value.replace("[", "\\["))
    screen.print(grid)


def _lines(found: SpaceCheck) -> list[tuple[str, str]]:
    """Return what people read of a check, one fact a line."""
    height, width = found.image_size
    distinct = "not counted" if found.distinct is None else f"{found.distinct:,}"
    lines = [
        ("task", f"{found.task}, images of {height} x {width}"),
        ("choices", f"{len(found.choices)}, of {_span(found.choices)} options"),
        ("architectures", f"{found.size:,}"),
        ("distinct networks", distinct),
        ("macs", _cost_line(found.macs)),
        ("parameters", _cost_line(found.parameters)),
    ]
    inside = found.inside
    if inside is not None:
        how = f"of {inside.sampled:,} draws" if inside.sampled else f"{inside.architectures:,}"
        share = f"{100 * inside.share:.3g} % ({how})"
        lines.append((f"within {inside.low:,} to {inside.high:,} macs", share))
    memory = found.memory
    lines += [
        ("supernet", f"{memory.parameters:,} parameters, {_bytes(memory.weights)}"),
        ("with gradients and momenta", f"{_bytes(memory.training)}, activations not counted"),
        ("layer tree", f"up to {_bytes(memory.layer_tree)} for each architecture visited"),
    ]
    if memory.learned_tree is not None and memory.distances is not None:
        whole = f"{_bytes(memory.learned_tree)}, and {_bytes(memory.distances)} of distances"
        lines.append(("tree of all architectures", f"about {whole}"))
    lines.append(("strategies that fit", ", ".join(found.fits) or "none"))
    return lines + [(f"not {name}", reason) for name, reason in found.misfits.items()]


def _span(numbers: tuple[int, ...]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low}" if low == high else f"{low} to {high}"


def _cost_line(cost: CostRange | None) -> str:
    if cost is None:
        return "no closed form"
    numbers = f"{cost.least:,} to {cost.largest:,}, median {cost.median:,.0f}"
    if cost.sampled is None:
        return numbers
    return numbers + (
        f" (median of {cost.sampled:,} draws)"
        if cost.exact_bounds
        else f" (all of {cost.sampled:,} draws)"
    )


def _bytes(count: int) -> str:
    """Return a number of bytes for people, in powers of ten."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:,.3g} TB"

"""What all figures share: size, colours, titles, names, and how they become files."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Mapping, Sequence, Sized
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nas_ext.architecture import Architecture, SearchSpace
from nas_ext.files import write_bytes
from nas_ext.results import SearchResult

# Okabe and Ito's colours, which people of all kinds of colour vision tell apart.
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, GREY, PALE = "#CC79A7", "#56B4E9", "#767676", "#E4E4E4"
WIDTH, SMALL, NORMAL, LARGE = 6.4, 7.5, 8.5, 10.5


def to_png(figure: Figure, *, dpi: int = 110) -> bytes:
    """Return the figure as a PNG image on white."""
    return _rendered(figure, "png", dpi)


def save(figure: Figure, path: str | Path, *, dpi: int = 110) -> None:
    """Write the figure as PNG, SVG or PDF, by the ending of `path`, whole or not at all.

    Raises ValueError for another ending.
    """
    kind = Path(path).suffix[1:].lower()
    if kind not in ("png", "svg", "pdf"):
        raise ValueError(f"path must end in .png, .svg or .pdf, got {path}")
    write_bytes(path, _rendered(figure, kind, dpi))


def _rendered(figure: Figure, kind: str, dpi: int) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=dpi, facecolor="white")
    return buffer.getvalue()


def one_axes(height: float) -> tuple[Figure, Axes]:
    """Return a figure of this height in inches, and its axes."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def set_title(figure: Figure, text: str) -> None:
    """Write a title from the figure's left edge, in lines that fit its width."""
    lines = textwrap.wrap(plain(text), 80)
    figure.suptitle("\n".join(lines), size=LARGE, x=0.01, ha="left")


def set_labels(axes: Axes, x: str, y: str) -> None:
    """Name both axes, and leave out the lines above and on the right."""
    axes.set_xlabel(plain(x), size=NORMAL)
    axes.set_ylabel(plain(y), size=NORMAL)
    axes.tick_params(labelsize=SMALL)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def add_legend(figure: Figure, handles: Mapping[str, Any], *, columns: int) -> None:
    """Explain the marks under the figure."""
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside lower center",
        ncols=columns,
        fontsize=SMALL,
        frameon=False,
    )


def draw_ring(axes: Axes, x: float, y: float, colour: str, *, label: str | None = None) -> None:
    """Draw a ring around a dot, also where the dot lies on the edge of the axes."""
    ring = axes.scatter([x], [y], s=120, facecolors="none", edgecolors=colour, label=label)
    ring.set(linewidths=2, clip_on=False, zorder=4)


def name_rows(
    axes: Axes, names: Sequence[str], *, place: float = 0.0, marked: Sequence[bool] = ()
) -> None:
    """Write a name beside each row, bold where marked."""
    axes.set_yticks(np.arange(len(names)) + place, [plain(name) for name in names], size=SMALL)
    axes.tick_params(axis="y", length=0)
    for label, bold in zip(axes.get_yticklabels(), marked, strict=False):
        if bold:
            label.set_fontweight("bold")


def plain(text: str) -> str:
    """Return text that matplotlib does not take for mathematics."""
    return text.replace("$", r"\$")


def shorten(name: str, length: int = 26) -> str:
    """Return a name with its middle left out where it is too long for a figure."""
    half = (length - 1) // 2
    return name if len(name) <= length else f"{name[:half]}…{name[-half:]}"


def millions(count: float) -> str:
    """Return a number in millions: one decimal, below one million two significant digits."""
    value = count / 1e6
    if value >= 1:
        return f"{value:,.1f} M"
    return f"{Decimal(f'{value:#.2g}'):f} M"  # by way of Decimal: never with an exponent


def check_some(name: str, values: Mapping[str, Any]) -> None:
    """Raise ValueError when there is nothing to draw, or nothing under one of the keys."""
    if not values:
        raise ValueError(f"{name} must not be empty, got {{}}")
    for key, entries in values.items():
        if isinstance(entries, Sized) and not len(entries):
            raise ValueError(f"{name} of {key!r} must not be empty, got {entries!r}")


def namer(result: SearchResult, space: SearchSpace | None) -> Callable[[Architecture], str]:
    """Return the function from architecture to a short name."""
    ranked = {line.architecture: line.name for line in result.ranking}

    def name(architecture: Architecture) -> str:
        if architecture in ranked:
            return shorten(ranked[architecture])
        indices = "-".join(map(str, architecture))
        return shorten(indices if space is None else space.describe(architecture))

    return name


def found_in(result: SearchResult) -> set[Architecture]:
    """Return the first of the ranking, if there is one."""
    return {line.architecture for line in result.ranking[:1]}

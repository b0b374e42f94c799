"""Figures of comparisons: means with intervals beside references, and average ranks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nas_ext.compare import Interval
from nas_ext.plots.drawing import (
    BLUE,
    GREEN,
    GREY,
    NORMAL,
    ORANGE,
    PURPLE,
    SMALL,
    WIDTH,
    add_legend,
    check_some,
    name_rows,
    one_axes,
    plain,
    set_labels,
    set_title,
    shorten,
)

__all__ = ["critical_difference", "intervals", "scatters"]

_LINES = (ORANGE, GREEN, PURPLE, GREY)


def intervals(
    means: Mapping[str, Interval],
    points: Mapping[str, Sequence[float]],
    *,
    title: str,
    label: str,
    references: Mapping[str, float] | None = None,
) -> Figure:
    """Show a mean with its interval for each name, every seed as a dot, references as lines.

    Rows stand in the order of `means`. Raises ValueError when there is none, and for points of
    other names.
    """
    check_some("means", means)
    if set(points) != set(means):
        raise ValueError(f"points must be of {sorted(means)}, got {sorted(points)}")
    figure, axes = one_axes(1.7 + 0.26 * len(means))
    handles = {}
    for row, (name, mean) in enumerate(means.items()):
        dots = axes.scatter(points[name], [row] * len(points[name]), s=9, color=GREY, alpha=0.45)
        bar = axes.errorbar(
            [mean.mean],
            [row],
            xerr=[[mean.mean - mean.low], [mean.high - mean.mean]],
            fmt="o",
            color=BLUE,
            markersize=4.5,
            capsize=2.5,
            zorder=3,
        )
        handles = {"a seed": dots, "mean, 95 % interval": bar}
    for (name, value), colour in zip((references or {}).items(), _LINES, strict=False):
        handles[name] = axes.axvline(value, color=colour, linewidth=1.2, linestyle="--", zorder=1)
    name_rows(axes, [shorten(name, 40) for name in means])
    axes.set_ylim(len(means) - 0.5, -0.5)
    set_title(figure, title)
    set_labels(axes, label, "")
    add_legend(figure, handles, columns=min(len(handles), 3))
    return figure


def critical_difference(
    ranks: Mapping[str, float], distance: float, *, title: str, n: int
) -> Figure:
    """Show average ranks on a line, best on the left, and join what differs by less than needed.

    A bar joins the names between the best and worst of which the ranks differ by at most
    `distance`. Demsar 2006, figure 1. Raises ValueError for fewer than two names.
    """
    if len(ranks) < 2:
        raise ValueError(f"ranks must be of at least 2 names, got {list(ranks)}")
    ordered = sorted(ranks.items(), key=lambda item: item[1])
    half = (len(ordered) + 1) // 2
    groups = _groups([rank for _, rank in ordered], distance)
    depth = 0.22 * len(groups) + 0.35
    figure, axes = one_axes(1.5 + 0.3 * (half + len(groups) * 0.7))
    axes.set_xlim(0.5, len(ordered) + 0.5)
    axes.set_ylim(-depth - 0.42 * half - 0.2, 1.1)
    axes.hlines(0, 1, len(ordered), color="black", linewidth=1)
    for tick in range(1, len(ordered) + 1):
        axes.vlines(tick, 0, 0.09, color="black", linewidth=0.8)
        axes.text(tick, 0.15, str(tick), ha="center", va="bottom", size=SMALL)
    for place, (name, rank) in enumerate(ordered):
        _branch(axes, place, half, len(ordered), name, rank, depth)
    for level, (first, last) in enumerate(groups):
        y = -0.18 - 0.22 * level
        left, right = ordered[first][1] - 0.05, ordered[last][1] + 0.05
        axes.hlines(y, left, right, color=BLUE, linewidth=3)
    axes.hlines(0.75, 1, min(1 + distance, len(ordered)), color=ORANGE, linewidth=2)
    axes.text(
        1, 0.82, f"critical difference {distance:.2f} (n = {n} seeds)", va="bottom", size=SMALL
    )
    axes.axis("off")
    set_title(figure, title)
    return figure


def scatters(
    truth: Sequence[float],
    values: Mapping[str, Sequence[Sequence[float]]],
    *,
    title: str,
    truth_label: str,
    label: str,
) -> Figure:
    """Show numbers of architectures against their truth, a panel for each name.

    `truth` has one number an architecture, `values` rows of as many, one a seed: a dot is their
    mean, a line its standard deviation over the seeds. Panels have their own vertical axes.
    Raises ValueError when there is no name, a name has no row, and for rows of another length.
    """
    check_some("values", values)
    for name, rows in values.items():
        if any(len(row) != len(truth) for row in rows):
            raise ValueError(f"values of {name!r} must be rows of {len(truth)}, one a truth")
    columns = min(3, len(values))
    lines = math.ceil(len(values) / columns)
    figure = Figure(figsize=(WIDTH, 0.8 + 1.9 * lines), layout="constrained")
    panels = np.atleast_1d(figure.subplots(lines, columns, sharex=True, squeeze=False)).ravel()
    for axes, (name, rows) in zip(panels, values.items(), strict=False):
        seeds = np.asarray(rows, dtype=np.float64)
        axes.errorbar(
            truth,
            seeds.mean(axis=0),
            yerr=seeds.std(axis=0, ddof=1) if len(seeds) > 1 else None,
            fmt="o",
            color=BLUE,
            ecolor=GREY,
            elinewidth=0.7,
            markersize=3,
        )
        set_labels(axes, "", "")
        axes.set_title(plain(shorten(name, 30)), size=SMALL)
    for axes in panels[len(values) :]:
        axes.axis("off")
    set_title(figure, title)
    figure.supxlabel(plain(truth_label), size=NORMAL)
    figure.supylabel(plain(label), size=NORMAL)
    return figure


def _branch(
    axes: Axes, place: int, half: int, count: int, name: str, rank: float, depth: float
) -> None:
    """Draw the line from a rank on the axis to its name at the side."""
    left = place < half
    row = place if left else count - 1 - place
    y = -depth - 0.42 * row
    edge = 0.9 if left else count + 0.1
    axes.plot([rank, rank, edge], [0, y, y], color=GREY, linewidth=0.9)
    label = f"{shorten(plain(name), 34)} ({rank:.1f})"
    text = axes.text(edge, y + 0.06, label, ha="left" if left else "right", va="bottom")
    text.set(size=NORMAL - 1, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6})


def _groups(ranks: Sequence[float], distance: float) -> list[tuple[int, int]]:
    """Return first and last of the widest runs of ranks that differ by at most `distance`."""
    found: list[tuple[int, int]] = []
    for first, rank in enumerate(ranks):
        last = max(i for i, other in enumerate(ranks) if other - rank <= distance)
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return found

"""Figures of a search's course and outcome: draws, rewards, ranking."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from nas_ext.architecture import Architecture, SearchSpace
from nas_ext.compare import percent
from nas_ext.estimation import FloatArray
from nas_ext.pareto import front
from nas_ext.plots.drawing import (
    BLUE,
    GREY,
    NORMAL,
    PALE,
    RED,
    SMALL,
    found_in,
    millions,
    name_rows,
    namer,
    one_axes,
    plain,
    set_labels,
    set_title,
    shorten,
)
from nas_ext.results import RankedArchitecture, SearchResult


def sampling_shares(
    result: SearchResult, *, space: SearchSpace | None = None, windows: int = 40
) -> Figure:
    """Show which architectures were drawn when: architecture x time, as shares of a window.

    Architectures stand in the space's order; of more than 40, the 40 drawn most. Each of the
    `windows` is an equal part of the steps. `space` names the architectures; without it those
    that were not ranked go by their option indices. Raises ValueError for a search without draws
    and fewer than one window.
    """
    if windows < 1:
        raise ValueError(f"windows must be at least 1, got {windows}")
    if not result.draws:
        raise ValueError("draws of the result must not be empty, got []")
    counts = Counter(draw.architecture for draw in result.draws)
    most = sorted(counts, key=lambda a: (-counts[a], a))[:40]
    rows = {architecture: row for row, architecture in enumerate(sorted(most))}
    edges, shares = _shares(result, rows, windows)
    figure, axes = one_axes(1.6 + 0.165 * len(rows))
    norm = PowerNorm(0.5, vmin=0, vmax=float(np.nanmax(shares)))
    mesh = axes.pcolormesh(
        edges, np.arange(len(rows) + 1), shares, cmap="YlGnBu", norm=norm, rasterized=True
    )
    bar = figure.colorbar(mesh, ax=axes, pad=0.02, aspect=40, format=PercentFormatter(1, 0))
    bar.set_label("share of the draws in a window (square-root scale)", size=SMALL)
    bar.ax.tick_params(labelsize=SMALL)
    names = namer(result, space)
    name_rows(
        axes, [names(a) for a in rows], place=0.5, marked=[a in found_in(result) for a in rows]
    )
    axes.set_ylim(len(rows), 0)
    most_of = "" if len(rows) == len(counts) else f"the {len(rows)} most drawn of "
    _mark_phases(axes, result)
    set_title(figure, f"Draws over time of {most_of}{len(counts):,} architectures (bold: found)")
    set_labels(axes, "step", "architecture")
    return figure


def reward_curve(result: SearchResult, *, window: int | None = None) -> Figure:
    """Show every reward, and the moving average over `window` of them, within each phase.

    The average is centred, and shorter at both ends of a phase; by default it takes a twentieth
    of all rewards. Raises ValueError when no reward was asked.
    """
    told = [(d.phase, d.step, d.reward) for d in result.draws if d.reward is not None]
    if not told:
        raise ValueError("draws of the result must have a reward to show, none has")
    width = max(1, len(told) // 20) if window is None else window
    if width < 1:
        raise ValueError(f"window must be at least 1, got {window}")
    figure, axes = one_axes(3.6)
    for phase, (start, end) in enumerate(_borders(result)):
        steps = [step for number, step, _ in told if number == phase]
        rewards = np.array([reward for number, _, reward in told if number == phase])
        if not steps:
            axes.axvspan(start, end, color=PALE, zorder=0)
            middle = (start + end) / 2, 0.5
            place = axes.get_xaxis_transform()
            upright = 90 if (end - start) < 0.3 * _borders(result)[-1][1] else 0
            style: dict[str, Any] = {"rotation": upright, "size": NORMAL, "color": GREY}
            note = "no rewards asked"
            axes.text(*middle, note, transform=place, ha="center", va="center", **style)
            continue
        axes.scatter(steps, rewards, s=3, color=BLUE, alpha=0.25, linewidths=0, rasterized=True)
        axes.plot(steps, _moving_average(rewards, width), color=RED, linewidth=1.8)
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    _mark_phases(axes, result)
    set_title(figure, f"Rewards (dots) and their moving average over {width:,}")
    set_labels(axes, "step", "reward: one validation batch (%)")
    axes.set_xlim(0, _borders(result)[-1][1])
    return figure


def ranking(result: SearchResult, *, top: int = 20) -> Figure:
    """Show the best `top` of the ranking by their accuracy on the whole validation set.

    Macs of one image stand beside the bars where they are known. The axis does not start at 0
    and says so. Raises ValueError for an empty ranking and a `top` below 1.
    """
    if top < 1:
        raise ValueError(f"top must be at least 1, got {top}")
    if not result.ranking:
        raise ValueError("ranking of the result must not be empty, got []")
    shown = result.ranking[:top]
    accuracies = np.array([line.accuracy for line in shown])
    spread = float(np.ptp(accuracies)) or 0.01
    start = max(0.0, math.floor(100 * (accuracies.min() - 0.25 * spread)) / 100)
    figure, axes = one_axes(1.2 + 0.22 * len(shown))
    colours = [RED if line is result.best else BLUE for line in shown]
    axes.barh(range(len(shown)), accuracies - start, left=start, color=colours, height=0.7)
    for row, line in enumerate(shown):
        text = f"{percent(line.accuracy)} %"
        if line.macs is not None:
            text += f"  ({millions(line.macs)} macs)"
        axes.annotate(
            text, (line.accuracy, row), (4, 0), textcoords="offset points", va="center", size=SMALL
        )
    name_rows(axes, [shorten(line.name) for line in shown])
    axes.set_ylim(len(shown) - 0.4, -0.6)
    costs = any(line.macs is not None for line in shown)
    length = float(accuracies.max() - start) or 0.01
    axes.set_xlim(start, start + length * (1.5 if costs else 1.2))
    axes.xaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    axes.set_xticks([tick for tick in axes.get_xticks() if start <= tick <= accuracies.max()])
    count = f"best {len(shown)} of {len(result.ranking):,}"
    set_title(figure, f"Ranking with shared weights, whole validation set: {count}")
    note = f"; axis from {percent(start)}" if start else ""
    set_labels(axes, f"validation accuracy (%){note}", "")
    return figure


def pareto_front(result: SearchResult) -> Figure:
    """Show the ranking's accuracies over the macs of one image, and the front of the two.

    Red dots are those that no other beats in both, see `nas_ext.pareto`. A name that would cover
    another is left out. The accuracy axis does not start at 0 and says so. Raises ValueError for
    an empty ranking and for one that does not know the macs of every architecture.
    """
    kept = front(result)
    chosen = {line.architecture for line in kept}
    others = [line for line in result.ranking if line.architecture not in chosen]
    figure, axes = one_axes(4.2)
    for lines, colour, order in ((others, BLUE, 2), (kept, RED, 3)):
        macs, accuracies = _places(lines)
        axes.scatter(macs, accuracies, s=26, color=colour, linewidths=0, alpha=0.85, zorder=order)
    axes.step(*_places(kept), where="post", color=RED, linewidth=1.2, zorder=1)
    axes.margins(x=0.16, y=0.1)
    _name_corners(axes, kept)
    axes.grid(color=PALE)
    axes.set_axisbelow(True)
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    count = f"{len(kept)} of {len(result.ranking):,}"
    set_title(figure, f"Accuracy with shared weights against cost (red: {count}, not dominated)")
    low = axes.get_ylim()[0]
    note = f"; axis from {percent(low)}" if low > 0 else ""
    set_labels(axes, "macs of one image (M)", f"validation accuracy (%){note}")
    return figure


def _places(lines: Sequence[RankedArchitecture]) -> tuple[list[float], list[float]]:
    """Return macs in millions, and accuracies."""
    return [(line.macs or 0) / 1e6 for line in lines], [line.accuracy for line in lines]


def _name_corners(axes: Axes, kept: Sequence[RankedArchitecture]) -> None:
    """Write names left of their dots: the most accurate, the cheapest, then what has room.

    Sizes of texts are estimated: the axes are some 400 x 240 points.
    """
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    taken: list[tuple[float, float, float]] = []
    for line in (kept[-1], *kept[:-1]):
        (macs,), (accuracy,) = _places([line])
        name = shorten(line.name)
        end, height = 400 * (macs - left) / (right - left), 240 * (accuracy - low) / (high - low)
        start = end - 0.62 * SMALL * len(name)
        if any(start < e and s < end and abs(height - h) < 1.3 * SMALL for s, e, h in taken):
            continue
        taken.append((start, end, height))
        place: dict[str, Any] = {"textcoords": "offset points", "size": SMALL, "va": "bottom"}
        axes.annotate(plain(name), (macs, accuracy), (-3, 3), ha="right", **place)


def _shares(
    result: SearchResult, rows: Mapping[Architecture, int], windows: int
) -> tuple[FloatArray, FloatArray]:
    """Return the edges of the windows, and the `[rows, windows]` shares of their draws.

    A window without draws has no shares: NaN.
    """
    steps = sum(n for _, n in result.phases)
    edges = np.linspace(0, steps, min(windows, steps) + 1)
    inside = np.searchsorted(edges, [draw.step for draw in result.draws], side="right") - 1
    drawn = np.zeros((len(rows), len(edges) - 1))
    for draw, window in zip(result.draws, inside, strict=True):
        if draw.architecture in rows:
            drawn[rows[draw.architecture], window] += 1
    totals = np.bincount(inside, minlength=drawn.shape[1]).astype(np.float64)
    shares = np.divide(drawn, totals, out=np.full_like(drawn, np.nan), where=totals > 0)
    return edges, shares


def _moving_average(values: FloatArray, width: int) -> FloatArray:
    """Return the centred average over `width` values, over fewer at both ends."""
    sums: FloatArray = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    low = np.maximum(places - (width - 1) // 2, 0)
    high = np.minimum(places + width // 2 + 1, len(values))
    averages: FloatArray = (sums[high] - sums[low]) / (high - low)
    return averages


def _borders(result: SearchResult) -> list[tuple[int, int]]:
    """Return first step and end of each phase."""
    ends = list(itertools.accumulate(steps for _, steps in result.phases))
    return list(zip([0, *ends], ends, strict=False))


def _mark_phases(axes: Axes, result: SearchResult) -> None:
    """Draw the borders of the phases, and their names above the axes.

    Names lie when all fit into their phases, and stand otherwise; a name that would cover the
    one before is left out.
    """
    borders = _borders(result)
    total = borders[-1][1]
    for start, _ in borders[1:]:
        axes.axvline(start, color="black", linewidth=0.9, linestyle="--")
    names = [shorten(name) for name, _ in result.phases]
    spans = [(end - start) / total for start, end in borders]
    fits = all(len(name) <= 62 * span for name, span in zip(names, spans, strict=True))
    ticks: dict[float, str] = {}
    for name, (start, end) in zip(names, borders, strict=True):
        middle = (start + end) / 2
        if fits or not ticks or middle - max(ticks) >= 0.033 * total:
            ticks[middle] = plain(name)
    top = axes.secondary_xaxis("top")
    top.set_xticks(list(ticks), list(ticks.values()), size=SMALL)
    top.tick_params(length=0, labelrotation=0 if fits else 90)
    top.spines["top"].set_visible(False)

"""Figures of searches and retrainings, from what they leave behind.

Every function returns a `matplotlib.figure.Figure` that belongs to no window and no global
state. Figures are 6.4 inches wide: at the 110 dots per inch of `to_png`, 704 pixels.
"""

from __future__ import annotations

import heapq
import io
import itertools
import math
import textwrap
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Sized
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from nas_ext.architecture import Architecture, SearchSpace
from nas_ext.compare import mean_interval, percent
from nas_ext.estimation import FloatArray
from nas_ext.files import write_bytes
from nas_ext.results import SearchResult
from nas_ext.tree import BinaryTree, Node

if TYPE_CHECKING:
    import optuna

__all__ = [
    "accuracy_against_macs",
    "dendrogram",
    "ranking",
    "reward_curve",
    "sampling_shares",
    "save",
    "seeds",
    "study_history",
    "to_png",
]

Trial: TypeAlias = "tuple[int, float | None, str]"
"""Number, accuracy (a share; None where there is none) and Optuna's name of the state."""

# Okabe and Ito's colours, which people of all kinds of colour vision tell apart.
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, GREY, PALE = "#CC79A7", "#56B4E9", "#767676", "#E4E4E4"
SEQUENTIAL = "viridis"
WIDTH, SMALL, NORMAL, LARGE = 6.4, 7.5, 8.5, 10.5


# Searches.


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
    figure, axes = _figure(1.6 + 0.165 * len(rows))
    norm = PowerNorm(0.5, vmin=0, vmax=float(np.nanmax(shares)))
    mesh = axes.pcolormesh(
        edges, np.arange(len(rows) + 1), shares, cmap="YlGnBu", norm=norm, rasterized=True
    )
    bar = figure.colorbar(mesh, ax=axes, pad=0.02, aspect=40, format=PercentFormatter(1, 0))
    bar.set_label("share of the draws in a window (square-root scale)", size=SMALL)
    bar.ax.tick_params(labelsize=SMALL)
    names = _names(result, space)
    _rows(axes, [names(a) for a in rows], place=0.5, marked=[a in _found(result) for a in rows])
    axes.set_ylim(len(rows), 0)
    most_of = "" if len(rows) == len(counts) else f"the {len(rows)} most drawn of "
    _mark_phases(axes, result)
    _title(figure, f"Draws over time of {most_of}{len(counts):,} architectures (bold: found)")
    _label(axes, "step", "architecture")
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
    figure, axes = _figure(3.6)
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
    _title(figure, f"Rewards (dots) and their moving average over {width:,}")
    _label(axes, "step", "reward: one validation batch (%)")
    axes.set_xlim(0, _borders(result)[-1][1])
    return figure


def dendrogram(
    result: SearchResult, *, space: SearchSpace | None = None, leaves: int = 60
) -> Figure:
    """Draw the binary tree of a search, root on the left, with the found architecture marked.

    Leaves are coloured by their accuracy on the whole validation set when all were ranked, else
    by the mean of the rewards asked for them; grey is unknown. Of a larger tree the highest
    `leaves` - 1 forks are drawn, and what lies below is folded. `space` names the architectures,
    as in `sampling_shares`. Raises ValueError for a result without a binary tree, and for
    `leaves` outside [2, 300].
    """
    kind = None if result.tree is None else result.tree.get("kind")
    if result.tree is None or kind != "binary":
        raise ValueError(f"tree of the result must be of kind 'binary', got {kind!r}")
    if not 2 <= leaves <= 300:
        raise ValueError(f"leaves must lie in [2, 300], got {leaves}")
    tree = BinaryTree.from_state(result.tree)
    segments, shown = _branches(tree.root, leaves)
    below = [_architectures(node) for node in shown]
    figure, axes = _figure(1.9 + 0.165 * len(shown))
    axes.add_collection(LineCollection(segments, colors="#555555", linewidths=1))
    folded = [(node, y) for y, node in enumerate(shown) if node.architecture is None]
    rest = [[(0.0, float(y)), (node.height, float(y))] for node, y in folded]
    axes.add_collection(LineCollection(rest, colors="#555555", linewidths=1, linestyles=":"))
    _coloured_leaves(figure, axes, *_scores(result, below))
    marked = [bool(_found(result) & set(group)) for group in below]
    for y, found in enumerate(marked):
        if found:
            _ring(axes, 0, y, RED)
    names = _names(result, space)
    labels = []
    for group, found in zip(below, marked, strict=True):
        many = f"{len(group):,} with the found one" if found else f"{len(group):,} folded"
        labels.append(names(group[0]) if len(group) == 1 else many)
    axes.yaxis.tick_right()
    _rows(axes, labels, marked=marked)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xlim(tree.root.height * 1.02 or 1.0, -0.02 * tree.root.height)
    axes.spines["left"].set_visible(False)
    title = f"The tree over {len(tree.architectures):,} architectures (ring: found)"
    _title(figure, title + (f", folded to its {len(shown)} highest branches" if folded else ""))
    _label(axes, _height_label(result), "")
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
    figure, axes = _figure(1.2 + 0.22 * len(shown))
    colours = [RED if line is result.best else BLUE for line in shown]
    axes.barh(range(len(shown)), accuracies - start, left=start, color=colours, height=0.7)
    for row, line in enumerate(shown):
        text = f"{percent(line.accuracy)} %"
        if line.macs is not None:
            text += f"  ({line.macs / 1e6:,.1f} M macs)"
        axes.annotate(
            text, (line.accuracy, row), (4, 0), textcoords="offset points", va="center", size=SMALL
        )
    _rows(axes, [_short(line.name) for line in shown])
    axes.set_ylim(len(shown) - 0.4, -0.6)
    costs = any(line.macs is not None for line in shown)
    length = float(accuracies.max() - start) or 0.01
    axes.set_xlim(start, start + length * (1.5 if costs else 1.2))
    axes.xaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    axes.set_xticks([tick for tick in axes.get_xticks() if start <= tick <= accuracies.max()])
    count = f"best {len(shown)} of {len(result.ranking):,}"
    _title(figure, f"Ranking with shared weights, whole validation set: {count}")
    note = f"; axis from {percent(start)}" if start else ""
    _label(axes, f"validation accuracy (%){note}", "")
    return figure


# Retrainings.


def seeds(accuracies: Mapping[str, Sequence[float]]) -> Figure:
    """Show the test accuracy of every seed, a row for each network, with the mean.

    Two or more seeds have the mean's 95 % interval by Student's t. Accuracies are shares. Raises
    ValueError without a network, and for a network without a seed.
    """
    _check_some("accuracies", accuracies)
    labels = [
        "\n".join([*textwrap.wrap(_short(name, 84), 28), _interval(values)])
        for name, values in accuracies.items()
    ]
    height = 0.25 + 0.13 * max(label.count("\n") + 1 for label in labels)
    figure, axes = _figure(1.3 + height * len(accuracies))
    for row, values in enumerate(accuracies.values()):
        spread = 0.11 * (np.arange(len(values)) % 3 - 1)
        axes.scatter(values, row + spread, s=22, color=BLUE, alpha=0.75, linewidths=0, zorder=3)
        if len(values) > 1:
            found = mean_interval(values)
            style: dict[str, Any] = {"fmt": "|", "markersize": 16, "markeredgewidth": 2}
            style |= {"color": RED, "capsize": 4, "linewidth": 1.5, "zorder": 4}
            axes.errorbar(found.mean, row, xerr=found.high - found.mean, **style)
    _rows(axes, labels)
    axes.set_ylim(len(accuracies) - 0.5, -0.5)
    axes.margins(x=0.08)
    axes.grid(axis="x", color=PALE)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    _title(figure, "Test accuracy after retraining: seeds (dots), mean, 95 % interval")
    _label(axes, "accuracy on the test set (%)", "")
    return figure


def study_history(
    studies: Mapping[str, optuna.Study | Sequence[Trial]], *, first: str = "published recipe"
) -> Figure:
    """Show the validation accuracy of each trial and the best so far, a panel for each study.

    A study is Optuna's, or (number, accuracy, name of the state) for each trial. `first` says
    what trial 0 is. A pruned trial has the accuracy of its last epoch; one far below the complete
    ones, or without an accuracy, stands at the lower edge. Raises ValueError without a study, and
    for a study without any complete or pruned trial.
    """
    _check_some("studies", studies)
    figure = Figure(figsize=(WIDTH, 0.9 + 2.3 * len(studies)), layout="constrained")
    panels = figure.subplots(len(studies), 1, squeeze=False, sharex=True)[:, 0]
    for axes, (name, study) in zip(panels, studies.items(), strict=True):
        _trials(axes, _read_trials(name, study), first)
        axes.set_title(_plain(f"Recipe search: {_short(name, 50)}"), size=LARGE, loc="left")
        _label(axes, "", "validation accuracy (%)")
    panels[-1].set_xlabel("trial", size=NORMAL)
    handles = {
        label: handle
        for axes in panels
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    _legend(figure, handles, columns=3)
    return figure


def accuracy_against_macs(networks: Mapping[str, tuple[float, Sequence[float]]]) -> Figure:
    """Show the mean test accuracy of networks over the macs of one image, with 95 % intervals.

    A network is its macs and the accuracies of its seeds, as shares. Raises ValueError without
    a network, and for a network without a seed.
    """
    _check_some("networks", {name: values for name, (_, values) in networks.items()})
    figure, axes = _figure(3.6 + 0.09 * len(networks))
    handles: dict[str, Any] = {}
    looks = itertools.cycle(zip("osD^vP", (BLUE, ORANGE, GREEN, RED, PURPLE, SKY), strict=True))
    for name, (marker, colour) in zip(networks, looks, strict=False):
        macs, values = networks[name]
        mean = float(np.mean(values))
        half = mean_interval(values).high - mean if len(values) > 1 else None
        style: dict[str, Any] = {"fmt": marker, "color": colour, "capsize": 3, "markersize": 7}
        handles[_plain(f"{_short(name)}, n = {len(values)}")] = axes.errorbar(
            macs / 1e6, mean, yerr=half, markeredgecolor="black", markeredgewidth=0.5, **style
        )
    axes.margins(x=0.12, y=0.12)
    axes.grid(color=PALE)
    axes.set_axisbelow(True)
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    _legend(figure, handles, columns=2)
    _title(figure, "Test accuracy against cost: mean over n seeds, 95 % interval")
    _label(axes, "macs of one image (M)", "accuracy on the test set (%)")
    return figure


# Files.


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


# What figures share.


def _figure(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def _title(figure: Figure, text: str) -> None:
    """Write a title from the figure's left edge, in lines that fit its width."""
    lines = textwrap.wrap(_plain(text), 80)
    figure.suptitle("\n".join(lines), size=LARGE, x=0.01, ha="left")


def _label(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(_plain(x), size=NORMAL)
    axes.set_ylabel(_plain(y), size=NORMAL)
    axes.tick_params(labelsize=SMALL)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _legend(figure: Figure, handles: Mapping[str, Any], *, columns: int) -> None:
    """Explain the marks under the figure."""
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside lower center",
        ncols=columns,
        fontsize=SMALL,
        frameon=False,
    )


def _ring(axes: Axes, x: float, y: float, colour: str, *, label: str | None = None) -> None:
    """Draw a ring around a dot, also where the dot lies on the edge of the axes."""
    ring = axes.scatter([x], [y], s=120, facecolors="none", edgecolors=colour, label=label)
    ring.set(linewidths=2, clip_on=False, zorder=4)


def _rows(
    axes: Axes, names: Sequence[str], *, place: float = 0.0, marked: Sequence[bool] = ()
) -> None:
    """Write a name beside each row, bold where marked."""
    axes.set_yticks(np.arange(len(names)) + place, [_plain(name) for name in names], size=SMALL)
    axes.tick_params(axis="y", length=0)
    for label, bold in zip(axes.get_yticklabels(), marked, strict=False):
        if bold:
            label.set_fontweight("bold")


def _plain(text: str) -> str:
    """Return text that matplotlib does not take for mathematics."""
    return text.replace("$", r"\$")


def _short(name: str, length: int = 26) -> str:
    """Return a name with its middle left out where it is too long for a figure."""
    half = (length - 1) // 2
    return name if len(name) <= length else f"{name[:half]}…{name[-half:]}"


def _check_some(name: str, values: Mapping[str, Any]) -> None:
    if not values:
        raise ValueError(f"{name} must not be empty, got {{}}")
    for key, entries in values.items():
        if isinstance(entries, Sized) and not len(entries):
            raise ValueError(f"{name} of {key!r} must not be empty, got {entries!r}")


def _names(result: SearchResult, space: SearchSpace | None) -> Callable[[Architecture], str]:
    """Return the function from architecture to a short name."""
    ranked = {line.architecture: line.name for line in result.ranking}

    def name(architecture: Architecture) -> str:
        if architecture in ranked:
            return _short(ranked[architecture])
        indices = "-".join(map(str, architecture))
        return _short(indices if space is None else space.describe(architecture))

    return name


def _found(result: SearchResult) -> set[Architecture]:
    return {line.architecture for line in result.ranking[:1]}


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
    names = [_short(name) for name, _ in result.phases]
    spans = [(end - start) / total for start, end in borders]
    fits = all(len(name) <= 62 * span for name, span in zip(names, spans, strict=True))
    ticks: dict[float, str] = {}
    for name, (start, end) in zip(names, borders, strict=True):
        middle = (start + end) / 2
        if fits or not ticks or middle - max(ticks) >= 0.033 * total:
            ticks[middle] = _plain(name)
    top = axes.secondary_xaxis("top")
    top.set_xticks(list(ticks), list(ticks.values()), size=SMALL)
    top.tick_params(length=0, labelrotation=0 if fits else 90)
    top.spines["top"].set_visible(False)


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


# The tree.

_Segment: TypeAlias = "list[tuple[float, float]]"


def _branches(root: Node, leaves: int) -> tuple[list[_Segment], list[Node]]:
    """Return the lines (height, row) of the highest forks, and the node of each row.

    With so many leaves or fewer that is the whole tree.
    """
    opened: set[int] = set()
    waiting = [(-root.height, 0, root)] if root.children else []
    order = itertools.count(1)
    while waiting and len(opened) + 1 < leaves:
        node = heapq.heappop(waiting)[2]
        opened.add(id(node))
        for child in node.children:
            if child.children:
                heapq.heappush(waiting, (-child.height, next(order), child))
    segments: list[_Segment] = []
    shown: list[Node] = []

    def place(node: Node) -> float:
        if id(node) not in opened:
            shown.append(node)
            return float(len(shown) - 1)
        rows = [place(child) for child in node.children]
        for child, row in zip(node.children, rows, strict=True):
            segments.append([(child.height, row), (node.height, row)])
        segments.append([(node.height, rows[0]), (node.height, rows[-1])])
        return sum(rows) / len(rows)

    place(root)
    return segments, shown


def _architectures(node: Node) -> list[Architecture]:
    """Return the architectures at or below a node."""
    found, stack = [], [node]
    while stack:
        below = stack.pop()
        if below.architecture is not None:
            found.append(below.architecture)
        stack.extend(below.children)
    return found


def _scores(
    result: SearchResult, groups: Sequence[Sequence[Architecture]]
) -> tuple[str, list[float | None]]:
    """Return what colours the leaves, and its mean in each group of architectures."""
    ranked = {line.architecture: [line.accuracy] for line in result.ranking}
    rewards: dict[Architecture, list[float]] = {}
    for draw in result.draws:
        if draw.reward is not None:
            rewards.setdefault(draw.architecture, []).append(draw.reward)
    whole = not rewards or all(a in ranked for group in groups for a in group)
    values = ranked if whole else rewards
    measure = "accuracy on the whole validation set (%)" if whole else "mean reward (%)"
    if not whole:
        measure += ", each of one validation batch; grey: none asked"
    means: list[float | None] = []
    for group in groups:
        known = [value for a in group for value in values.get(a, ())]
        means.append(float(np.mean(known)) if known else None)
    return measure, means


def _coloured_leaves(
    figure: Figure, axes: Axes, measure: str, scores: Sequence[float | None]
) -> None:
    """Draw a dot a row, coloured by its score, grey without one, and the scale."""
    _dots(axes, [y for y, score in enumerate(scores) if score is None], GREY)
    known = [(y, score) for y, score in enumerate(scores) if score is not None]
    if known:
        dots = _dots(axes, [y for y, _ in known], [score for _, score in known])
        gap = 0.25 / figure.get_figheight()
        bar = figure.colorbar(dots, ax=axes, location="bottom", shrink=0.7, aspect=45, pad=gap)
        bar.ax.xaxis.set_major_formatter(PercentFormatter(1, symbol=""))
        bar.set_label(measure, size=SMALL)
        bar.ax.tick_params(labelsize=SMALL)


def _dots(axes: Axes, rows: Sequence[int], colours: str | Sequence[float]) -> PathCollection:
    """Draw the leaves of these rows, in one colour or by their values."""
    colour_map = None if isinstance(colours, str) else SEQUENTIAL
    dots = axes.scatter([0] * len(rows), rows, s=36, c=colours, cmap=colour_map)
    dots.set(edgecolors="#555555", linewidths=0.5, clip_on=False, zorder=3)
    return dots


def _height_label(result: SearchResult) -> str:
    linkage, distance = result.settings.get("linkage"), result.settings.get("distance")
    if linkage is None or distance is None:
        return "height at which branches join"
    unit = " (nats)" if distance in ("kl", "cross-entropy") else ""
    return f"{distance} distance at which branches join, {linkage} linkage{unit}"


# Accuracies.


def _interval(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{percent(values[0])} %, n = 1"
    found = mean_interval(values)
    ends = f"[{percent(found.low)}, {percent(found.high)}]"
    return f"{percent(found.mean)} % {ends}, n = {found.n}"


def _read_trials(name: str, study: optuna.Study | Sequence[Trial]) -> list[Trial]:
    if isinstance(study, Sequence):
        trials = list(study)
    else:
        trials = [(t.number, t.value, t.state.name) for t in study.get_trials(deepcopy=False)]
    if not any(state in ("COMPLETE", "PRUNED") for _, _, state in trials):
        raise ValueError(f"study {name!r} must have a complete or pruned trial, got none")
    return trials


def _trials(axes: Axes, trials: Sequence[Trial], first: str) -> None:
    complete = [(n, v) for n, v, state in trials if state == "COMPLETE" and v is not None]
    pruned = [(n, -1.0 if v is None else v) for n, v, state in trials if state == "PRUNED"]
    values = [v for _, v in complete] or [v for _, v in pruned if v >= 0] or [0.0]
    spread = max(max(values) - min(values), 0.02)
    inside = [(n, v) for n, v in pruned if v >= min(values) - spread]
    values += [v for _, v in inside]
    low, high = min(values) - 0.15 * spread, max(values) + 0.15 * spread
    if complete:
        numbers, accuracies = zip(*complete, strict=True)
        best = np.maximum.accumulate(accuracies)
        axes.step(numbers, best, where="post", color=GREEN, label="best so far")
        axes.scatter(numbers, accuracies, s=26, color=BLUE, zorder=3, label="complete")
    if inside:
        numbers, accuracies = zip(*inside, strict=True)
        axes.scatter(numbers, accuracies, s=30, marker="x", color=GREY, label="pruned")
    off = [n for n, v in pruned if (n, v) not in inside]
    _at_the_edge(axes, off, low, "v", GREY, "pruned, not on the axis")
    failed = [n for n, _, state in trials if state == "FAIL"]
    _at_the_edge(axes, failed, low, "|", RED, "failed or interrupted")
    axes.set_ylim(low, high)
    for number, value in complete + pruned:
        if number == 0:
            _ring(axes, 0, max(value, low), ORANGE, label=f"trial 0: {first}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    axes.grid(axis="y", color=PALE)
    axes.set_axisbelow(True)


def _at_the_edge(
    axes: Axes, numbers: Sequence[int], low: float, marker: str, colour: str, label: str
) -> None:
    """Mark the trials that have no place on the axis."""
    if numbers:
        dots = axes.scatter(numbers, [low] * len(numbers), s=32, marker=marker, color=colour)
        dots.set(clip_on=False, zorder=3, label=label)

"""The figure of a search's binary tree."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from nas_ext.architecture import Architecture, SearchSpace
from nas_ext.plots.drawing import (
    GREY,
    RED,
    SMALL,
    draw_ring,
    found_in,
    name_rows,
    namer,
    one_axes,
    set_labels,
    set_title,
)
from nas_ext.results import SearchResult
from nas_ext.tree import BinaryTree, Node

_Segment: TypeAlias = "list[tuple[float, float]]"


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
    figure, axes = one_axes(1.9 + 0.165 * len(shown))
    axes.add_collection(LineCollection(segments, colors="#555555", linewidths=1))
    folded = [(node, y) for y, node in enumerate(shown) if node.architecture is None]
    rest = [[(0.0, float(y)), (node.height, float(y))] for node, y in folded]
    axes.add_collection(LineCollection(rest, colors="#555555", linewidths=1, linestyles=":"))
    _coloured_leaves(figure, axes, *_scores(result, below))
    marked = [bool(found_in(result) & set(group)) for group in below]
    for y, found in enumerate(marked):
        if found:
            draw_ring(axes, 0, y, RED)
    axes.yaxis.tick_right()
    name_rows(axes, _row_names(namer(result, space), below, marked), marked=marked)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xlim(tree.root.height * 1.02 or 1.0, -0.02 * tree.root.height)
    axes.spines["left"].set_visible(False)
    title = f"The tree over {len(tree.architectures):,} architectures (ring: found)"
    set_title(figure, title + (f", folded to its {len(shown)} highest branches" if folded else ""))
    set_labels(axes, _height_label(result), "")
    return figure


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


def _row_names(
    names: Callable[[Architecture], str],
    groups: Sequence[Sequence[Architecture]],
    marked: Sequence[bool],
) -> list[str]:
    """Return the name of a lone architecture, and how many a folded branch has."""
    labels = []
    for group, found in zip(groups, marked, strict=True):
        many = f"{len(group):,} with the found one" if found else f"{len(group):,} folded"
        labels.append(names(group[0]) if len(group) == 1 else many)
    return labels


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
    colour_map = None if isinstance(colours, str) else "viridis"
    dots = axes.scatter([0] * len(rows), rows, s=36, c=colours, cmap=colour_map)
    dots.set(edgecolors="#555555", linewidths=0.5, clip_on=False, zorder=3)
    return dots


def _height_label(result: SearchResult) -> str:
    linkage, distance = result.settings.get("linkage"), result.settings.get("distance")
    if linkage is None or distance is None:
        return "height at which branches join"
    unit = " (nats)" if distance in ("kl", "cross-entropy") else ""
    return f"{distance} distance at which branches join, {linkage} linkage{unit}"

"""Figures of retrained networks: their seeds, their cost, and the search for their recipes."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from nas_ext.compare import mean_interval, percent
from nas_ext.plots.drawing import (
    BLUE,
    GREEN,
    GREY,
    LARGE,
    NORMAL,
    ORANGE,
    PALE,
    PURPLE,
    RED,
    SKY,
    WIDTH,
    add_legend,
    check_some,
    draw_ring,
    name_rows,
    one_axes,
    plain,
    set_labels,
    set_title,
    shorten,
)

if TYPE_CHECKING:
    import optuna

Trial: TypeAlias = "tuple[int, float | None, str]"
"""Number, accuracy (a share; None where there is none) and Optuna's name of the state."""


def seeds(
    accuracies: Mapping[str, Sequence[float]],
    *,
    title: str = "Test accuracy after retraining",
    judged: str = "test",
) -> Figure:
    """Show the accuracy of every seed, a row for each network, with the mean.

    `judged` names the set of images that it is of. Two or more seeds have the mean's 95 %
    interval by Student's t. Accuracies are shares. Raises ValueError without a network, and for a
    network without a seed.
    """
    check_some("accuracies", accuracies)
    labels = [
        "\n".join([*textwrap.wrap(shorten(name, 84), 28), _interval(values)])
        for name, values in accuracies.items()
    ]
    height = 0.25 + 0.13 * max(label.count("\n") + 1 for label in labels)
    figure, axes = one_axes(1.3 + height * len(accuracies))
    for row, values in enumerate(accuracies.values()):
        spread = 0.11 * (np.arange(len(values)) % 3 - 1)
        axes.scatter(values, row + spread, s=22, color=BLUE, alpha=0.75, linewidths=0, zorder=3)
        if len(values) > 1:
            found = mean_interval(values)
            style: dict[str, Any] = {"fmt": "|", "markersize": 16, "markeredgewidth": 2}
            style |= {"color": RED, "capsize": 4, "linewidth": 1.5, "zorder": 4}
            axes.errorbar(found.mean, row, xerr=found.high - found.mean, **style)
    name_rows(axes, labels)
    axes.set_ylim(len(accuracies) - 0.5, -0.5)
    axes.margins(x=0.08)
    axes.grid(axis="x", color=PALE)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    set_title(figure, f"{title}: seeds (dots), mean, 95 % interval")
    set_labels(axes, f"accuracy on the {judged} set (%)", "")
    return figure


def accuracy_against_macs(
    networks: Mapping[str, tuple[float, Sequence[float]]], *, judged: str = "test"
) -> Figure:
    """Show the mean accuracy of networks over the macs of one image, with 95 % intervals.

    A network is its macs and the accuracies of its seeds, as shares; `judged` names the set of
    images. The line is the front: what no other network beats in both means. Raises ValueError
    without a network, and for a network without a seed.
    """
    check_some("networks", {name: values for name, (_, values) in networks.items()})
    figure, axes = one_axes(3.6 + 0.09 * len(networks))
    handles: dict[str, Any] = {}
    looks = itertools.cycle(zip("osD^vP", (BLUE, ORANGE, GREEN, RED, PURPLE, SKY), strict=True))
    for name, (marker, colour) in zip(networks, looks, strict=False):
        macs, values = networks[name]
        mean = float(np.mean(values))
        half = mean_interval(values).high - mean if len(values) > 1 else None
        style: dict[str, Any] = {"fmt": marker, "color": colour, "capsize": 3, "markersize": 7}
        handles[plain(f"{shorten(name)}, n = {len(values)}")] = axes.errorbar(
            macs / 1e6, mean, yerr=half, markeredgecolor="black", markeredgewidth=0.5, **style
        )
    kept = _front([(macs, float(np.mean(values))) for macs, values in networks.values()])
    if len(networks) > 1:
        places = [(macs / 1e6, mean) for macs, mean in kept]
        (line,) = axes.step(*zip(*places, strict=True), where="post", color=GREY, zorder=1)
        handles["front: beaten by none in both"] = line
    axes.margins(x=0.12, y=0.12)
    axes.grid(color=PALE)
    axes.set_axisbelow(True)
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    add_legend(figure, handles, columns=2)
    title = f"{judged.capitalize()} accuracy against cost"
    set_title(figure, f"{title}: mean over n seeds, 95 % interval")
    set_labels(axes, "macs of one image (M)", f"accuracy on the {judged} set (%)")
    return figure


def _front(places: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the (cost, accuracy) that no other beats in both, by ascending cost."""
    kept: list[tuple[float, float]] = []
    for cost, accuracy in sorted(places, key=lambda place: (place[0], -place[1])):
        if not kept or accuracy > kept[-1][1]:
            kept.append((cost, accuracy))
    return kept


def study_history(
    studies: Mapping[str, optuna.Study | Sequence[Trial]], *, first: str = "published recipe"
) -> Figure:
    """Show the validation accuracy of each trial and the best so far, a panel for each study.

    A study is Optuna's, or (number, accuracy, name of the state) for each trial. `first` says
    what trial 0 is. A pruned trial has the accuracy of its last epoch; one far below the complete
    ones, or without an accuracy, stands at the lower edge. Raises ValueError without a study, and
    for a study without any complete or pruned trial.
    """
    check_some("studies", studies)
    figure = Figure(figsize=(WIDTH, 0.9 + 2.3 * len(studies)), layout="constrained")
    panels = figure.subplots(len(studies), 1, squeeze=False, sharex=True)[:, 0]
    for axes, (name, study) in zip(panels, studies.items(), strict=True):
        _trials(axes, _read_trials(name, study), first)
        axes.set_title(plain(f"Recipe search: {shorten(name, 50)}"), size=LARGE, loc="left")
        set_labels(axes, "", "validation accuracy (%)")
    panels[-1].set_xlabel("trial", size=NORMAL)
    handles = {
        label: handle
        for axes in panels
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    add_legend(figure, handles, columns=3)
    return figure


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
            draw_ring(axes, 0, max(value, low), ORANGE, label=f"trial 0: {first}")
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

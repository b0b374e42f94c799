"""Figures of one recipe search: what its parameters are worth, and how trials combined them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from nas_ext.compare import percent
from nas_ext.plots.drawing import (
    BLUE,
    GREY,
    PALE,
    RED,
    SMALL,
    name_rows,
    one_axes,
    plain,
    set_labels,
    set_title,
)

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

LEAST_TRIALS = 8
"""Complete trials below which importances say nothing."""

ABSENT = -0.14
"""Height of the parameters that a trial does not have."""


def importances(study: optuna.Study) -> dict[str, float]:
    """Return how much each parameter explains of reaching the better trials, sum 1, by PED-ANOVA.

    The most important comes first; parameters of one branch only are judged within it. Complete
    trials count; the accuracy is the study's first objective. Raises ValueError for fewer than
    `LEAST_TRIALS` of them, or with the same accuracy everywhere.
    """
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    complete = _complete(study)
    values = {trial.values[0] for trial in complete}
    if len(complete) < LEAST_TRIALS or len(values) < 2:
        raise ValueError(
            f"study must have {LEAST_TRIALS} complete trials of different accuracy, "
            f"got {len(complete)} trials of {len(values)} values"
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*low `target` values", UserWarning)
        found = get_param_importances(
            study,
            evaluator=PedAnovaImportanceEvaluator(),
            target=lambda trial: -trial.values[0],  # with a target Optuna takes low for good
        )
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


def parameter_importances(study: optuna.Study, *, top: int = 12) -> Figure:
    """Show the importances of the parameters of a study as bars, the largest on top.

    Raises ValueError as `importances` does.
    """
    found = list(importances(study).items())[:top]
    figure, axes = one_axes(1.1 + 0.24 * len(found))
    shares = [share for _, share in found]
    axes.barh(range(len(found)), shares, color=BLUE, height=0.62)
    for row, share in enumerate(shares):
        axes.annotate(
            f"{share:.2f}",
            (share, row),
            (3, 0),
            textcoords="offset points",
            va="center",
            size=SMALL,
            color=GREY,
        )
    name_rows(axes, [name for name, _ in found])
    axes.set_ylim(len(found) - 0.4, -0.6)
    axes.margins(x=0.1)
    axes.set_xlim(left=0)
    axes.grid(axis="x", color=PALE)
    axes.set_axisbelow(True)
    count = f"{len(_complete(study))} complete trials"
    set_title(figure, f"Importance of the recipe's parameters (PED-ANOVA, {count})")
    set_labels(axes, "share of the importance", "")
    return figure


def parallel_coordinates(study: optuna.Study, *, top: int = 6) -> Figure:
    """Show each complete trial as a line over its accuracy and its most important parameters.

    Bright lines are accurate ones, the red one is the best. A parameter that a trial does not
    have, such as another optimizer's rate, is at the lower edge. Where there are too few trials
    for importances, parameters come by name. Raises ValueError without two complete trials.
    """
    complete = sorted(_complete(study), key=lambda trial: (trial.values[0], -trial.number))
    if len(complete) < 2:
        raise ValueError(f"study must have two complete trials, got {len(complete)}")
    scales = _scales(study, complete, top)
    figure, axes = one_axes(3.6)
    accuracies = np.array([trial.values[0] for trial in complete])
    low, high = float(accuracies.min()), float(accuracies.max())
    colours = colormaps["viridis"]
    norm = Normalize(low, high if high > low else low + 1e-9)
    for place, trial in enumerate(complete):
        best = place == len(complete) - 1
        heights = [float(norm(trial.values[0])), *(scale.height(trial) for scale in scales)]
        look: dict[str, Any] = {"color": colours(float(norm(trial.values[0]))), "alpha": 0.8}
        if best:
            look = {"color": RED, "linewidth": 2.2, "zorder": 4}
        axes.plot(range(len(heights)), heights, **{"linewidth": 1.1, **look})
    ends = [(percent(low), percent(high)), *((scale.low, scale.high) for scale in scales)]
    _draw_axes(axes, ["accuracy (%)", *(scale.name for scale in scales)], ends, scales)
    bar = figure.colorbar(
        ScalarMappable(norm, "viridis"),
        ax=axes,
        pad=0.02,
        fraction=0.04,
        format=PercentFormatter(1, symbol=""),
    )
    bar.ax.tick_params(labelsize=SMALL)
    set_title(
        figure, f"Recipes of {len(complete)} complete trials on validation images (red: the best)"
    )
    return figure


@dataclass(frozen=True)
class _Scale:
    """Place the values of one parameter between 0 and 1."""

    name: str
    distribution: BaseDistribution

    def height(self, trial: FrozenTrial) -> float:
        if self.name not in trial.params:
            return ABSENT
        inside = self.distribution.to_internal_repr(trial.params[self.name])
        if self.choices:
            return inside / max(1, len(self.choices) - 1)
        low, high = self._range()
        value = math.log(inside) if self._log else inside
        return (value - low) / (high - low) if high > low else 0.5

    @property
    def choices(self) -> tuple[Any, ...]:
        return tuple(getattr(self.distribution, "choices", ()))

    @property
    def _log(self) -> bool:
        return bool(getattr(self.distribution, "log", False))

    def _range(self) -> tuple[float, float]:
        ends: Any = self.distribution
        both = float(ends.low), float(ends.high)
        return (math.log(both[0]), math.log(both[1])) if self._log else both

    @property
    def low(self) -> str:
        return self._end("low", 0)

    @property
    def high(self) -> str:
        return self._end("high", -1)

    def _end(self, name: str, place: int) -> str:
        if self.choices:
            return str(self.choices[place])
        return f"{getattr(self.distribution, name):.3g}"


def _scales(study: optuna.Study, complete: Sequence[FrozenTrial], top: int) -> list[_Scale]:
    known: dict[str, BaseDistribution] = {}
    for trial in complete:
        known |= trial.distributions
    values = {trial.values[0] for trial in complete}
    names = sorted(known)
    if len(complete) >= LEAST_TRIALS and len(values) > 1:
        names = [name for name in importances(study) if name in known]
    return [_Scale(name, known[name]) for name in names[:top]]


def _draw_axes(
    axes: Axes, names: Sequence[str], ends: Sequence[tuple[str, str]], scales: Sequence[_Scale]
) -> None:
    behind = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"}
    place: dict[str, Any] = {"size": SMALL, "color": GREY, "zorder": 5, "bbox": behind}
    place["textcoords"] = "offset points"
    for x, (low, high) in enumerate(ends):
        axes.axvline(x, color=GREY, linewidth=0.8, zorder=0)
        axes.annotate(plain(high), (x, 1.0), (0, 5), ha="center", **place)
        axes.annotate(plain(low), (x, 0.0), (0, -5), ha="center", va="top", **place)
    for x, scale in enumerate(scales, 1):
        for number, choice in enumerate(scale.choices[1:-1], 1):
            at = (x, number / (len(scale.choices) - 1))
            axes.annotate(plain(str(choice)), at, (4, 0), va="center", **place)
    axes.set_xticks(range(len(names)), [plain(name) for name in names], size=SMALL)
    axes.set_xlim(-0.3, len(names) - 0.7)
    axes.set_ylim(ABSENT - 0.06, 1.1)
    axes.set_yticks([ABSENT], ["absent"], size=SMALL)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)


def _complete(study: optuna.Study) -> list[FrozenTrial]:
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))

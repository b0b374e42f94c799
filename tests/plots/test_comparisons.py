"""Figures of comparisons."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from nas_ext.compare import mean_interval
from nas_ext.plots import to_png
from nas_ext.plots.comparisons import critical_difference, intervals, scatters


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_every_competitor_has_a_row_its_seeds_and_its_interval() -> None:
    points = {"uniform": [0.1, 0.2, 0.3], "mcts": [0.2, 0.4, 0.3]}
    means = {name: mean_interval(values) for name, values in points.items()}
    figure = intervals(means, points, title="t", label="tau", references={"random choice": 0.0})
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["uniform", "mcts"]
    drawn = [np.asarray(c.get_offsets())[:, 0].tolist() for c in axes.collections[:3:2]]
    assert drawn == list(points.values())
    assert to_png(figure).startswith(b"\x89PNG")


def test_bars_join_what_the_critical_difference_does_not_tell_apart() -> None:
    ranks = {"a": 1.0, "b": 1.8, "c": 3.2, "d": 4.0}
    figure = critical_difference(ranks, 1.0, title="t", n=12)
    named = [text for text in texts(figure) if "(" in text]
    assert named == [
        "a (1.0)",
        "b (1.8)",
        "c (3.2)",
        "d (4.0)",
        "critical difference 1.00 (n = 12 seeds)",
    ]
    lines = [c for c in figure.axes[0].collections if isinstance(c, LineCollection)]
    bars = [
        s for line in lines if np.allclose(line.get_linewidth(), 3) for s in line.get_segments()
    ]
    spans = [(s[0][0] + 0.05, s[1][0] - 0.05) for s in bars]
    assert spans == [pytest.approx((1.0, 1.8)), pytest.approx((3.2, 4.0))]


def test_a_panel_for_each_name_shows_means_over_seeds_against_the_truth() -> None:
    truth = [80.0, 81.0, 82.0]
    values = {"uniform": [[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]], "mcts": [[5.0, 6.0, 7.0]]}
    figure = scatters(truth, values, title="t", truth_label="truth", label="score")
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["uniform", "mcts"]
    dots = figure.axes[0].get_lines()[0]
    assert np.asarray(dots.get_xdata()).tolist() == truth
    assert np.asarray(dots.get_ydata()).tolist() == [2, 2, 2]
    assert to_png(figure).startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="values of 'x' must be rows of 3"):
        scatters(truth, {"x": [[1.0, 2.0]]}, title="t", truth_label="t", label="s")
    with pytest.raises(ValueError, match="values must not be empty"):
        scatters(truth, {}, title="t", truth_label="t", label="s")


def test_nothing_to_draw_is_refused() -> None:
    with pytest.raises(ValueError, match="means must not be empty"):
        intervals({}, {}, title="t", label="x")
    mean = {"a": mean_interval([1, 2])}
    with pytest.raises(ValueError, match=r"points must be of \['a'\], got \['b'\]"):
        intervals(mean, {"b": [1.0]}, title="t", label="x")
    with pytest.raises(ValueError, match="at least 2 names"):
        critical_difference({"a": 1.0}, 1.0, title="t", n=2)

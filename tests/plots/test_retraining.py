"""Seeds, studies and costs: what is drawn, where, by which name."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.container import ErrorbarContainer
from matplotlib.lines import Line2D

from nas_ext import plots
from nas_ext.compare import mean_interval


def names(axes: Axes) -> list[str]:
    return [label.get_text() for label in axes.get_yticklabels()]


def dots(axes: Axes, label: str | None = None) -> list[tuple[float, float]]:
    """Return the places of the scattered dots, all or those of one label."""
    clouds = [c for c in axes.collections if isinstance(c, PathCollection)]
    chosen = [c for c in clouds if label is None or c.get_label() == label]
    return [(float(x), float(y)) for c in chosen for x, y in np.asarray(c.get_offsets())]


def bands(axes: Axes) -> list[ErrorbarContainer]:
    return [c for c in axes.containers if isinstance(c, ErrorbarContainer)]


def test_every_seed_is_a_dot_and_several_seeds_have_mean_and_interval() -> None:
    accuracies = {"[5,3,2]": [0.97, 0.98, 0.99], "[4,2,2]": [0.94, 0.95], "once": [0.9]}
    figure = plots.seeds(accuracies)
    axes = figure.axes[0]
    placed = [(x, round(y)) for x, y in dots(axes)]
    rows = enumerate(accuracies.values())
    assert placed == [(value, row) for row, values in rows for value in values]
    means = [float(np.asarray(band.lines[0].get_xdata())[0]) for band in bands(axes)]
    assert means == pytest.approx([0.98, 0.945])
    found = mean_interval(accuracies["[5,3,2]"])
    segment = bands(axes)[0].lines[2][0].get_segments()[0]
    np.testing.assert_allclose(segment[:, 0], [found.low, found.high])
    # t(0.975, 2) = 4.302653 and a deviation of 1 point: 98 -+ 2.484.
    assert names(axes)[0] == "[5,3,2]\n98.0 % [95.5, 100.5], n = 3"
    assert names(axes)[2] == "once\n90.0 %, n = 1"
    assert axes.get_xlabel() == "accuracy on the test set (%)"


TRIALS = (
    (0, 0.90, "COMPLETE"),
    (1, 0.88, "COMPLETE"),
    (2, 0.92, "COMPLETE"),
    (3, 0.895, "PRUNED"),
    (4, 0.0, "PRUNED"),
    (5, None, "FAIL"),
    (6, 0.91, "COMPLETE"),
    (7, None, "RUNNING"),
)


def best_so_far(axes: Axes) -> Line2D:
    (line,) = [line for line in axes.lines if line.get_label() == "best so far"]
    return line


def test_the_history_has_every_trial_by_its_state_and_the_best_so_far() -> None:
    axes = plots.study_history({"[5,3,2]": TRIALS}).axes[0]
    assert dots(axes, "complete") == [(0, 0.90), (1, 0.88), (2, 0.92), (6, 0.91)]
    assert dots(axes, "pruned") == [(3, 0.895)]
    low = axes.get_ylim()[0]
    assert 0.8 < low < 0.88  # the diverged trial does not stretch the axis
    assert dots(axes, "pruned, not on the axis") == [(4, low)]
    assert dots(axes, "failed or interrupted") == [(5, low)]
    assert dots(axes, "trial 0: published recipe") == [(0, 0.90)]
    assert np.asarray(best_so_far(axes).get_ydata()).tolist() == [0.90, 0.90, 0.92, 0.92]
    assert axes.get_title(loc="left") == "Recipe search: [5,3,2]"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("trial", "validation accuracy (%)")


def test_an_optuna_study_is_drawn_as_its_trials() -> None:
    epochs = ([0.8, 0.9], [0.9, 0.95], [0.86], [0.9, 0.93])

    def objective(trial: optuna.Trial) -> float:
        for epoch, accuracy in enumerate(epochs[trial.number]):
            trial.report(accuracy, epoch)
        if len(epochs[trial.number]) == 1:
            raise optuna.TrialPruned
        return epochs[trial.number][-1]

    study = optuna.create_study(direction="maximize")
    study.optimize(objective, n_trials=4)
    figure = plots.study_history({"a": study, "b": TRIALS}, first="first recipe")
    one, two = figure.axes
    assert dots(one, "complete") == [(0, 0.9), (1, 0.95), (3, 0.93)]
    assert dots(one, "pruned") == [(2, 0.86)]
    assert dots(one, "trial 0: first recipe") == [(0, 0.9)]
    assert (one.get_xlabel(), two.get_xlabel()) == ("", "trial")
    (legend,) = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert len(labels) == len(set(labels)) == 6


def test_accuracy_against_macs_has_a_point_and_an_interval_for_each_network() -> None:
    networks = {"large": (62.8e6, [0.97, 0.98, 0.99]), "small": (26.7e6, [0.9])}
    figure = plots.accuracy_against_macs(networks)
    axes = figure.axes[0]
    points = [np.asarray(band.lines[0].get_xydata())[0].tolist() for band in bands(axes)]
    np.testing.assert_allclose(points, [[62.8, 0.98], [26.7, 0.9]])
    found = mean_interval(networks["large"][1])
    segment = bands(axes)[0].lines[2][0].get_segments()[0]
    np.testing.assert_allclose(segment[:, 1], [found.low, found.high])
    assert not bands(axes)[1].has_yerr
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["large, n = 3", "small, n = 1", "front: beaten by none in both"]
    assert axes.get_xlabel() == "macs of one image (M)"

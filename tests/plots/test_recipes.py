"""Importances and parallel coordinates: the numbers behind the bars and lines."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from nas_ext import plots

LR = FloatDistribution(1e-3, 1e-1, log=True)
SMOOTHING = FloatDistribution(0.0, 0.2, step=0.05)
OPT = CategoricalDistribution(["momentum", "adamw", "lamb"])


def made(count: int, *, branch: bool = False) -> optuna.Study:
    """Trials whose accuracy falls with the rate's distance from 0.01, and with nothing else."""
    study = optuna.create_study(direction="maximize")
    rng = np.random.default_rng(0)
    for number in range(count):
        rate = float(10 ** rng.uniform(-3, -1))
        params = {"opt": ("momentum", "adamw", "lamb")[number % 3], "lr": rate}
        known: dict[str, BaseDistribution] = {"opt": OPT, "lr": LR}
        if not branch or number % 2:
            params["smoothing"] = 0.05 * (number % 5)
            known["smoothing"] = SMOOTHING
        value = 0.9 - 0.1 * abs(np.log10(rate) + 2)
        study.add_trial(optuna.create_trial(value=value, params=params, distributions=known))
    return study


def drawn(axes: Axes) -> list[Line2D]:
    """Return the lines of trials, which have more than the two ends of an axis."""
    return [line for line in axes.lines if len(np.asarray(line.get_xdata())) > 2]


def test_importances_are_optunas_default_and_the_largest_comes_first() -> None:
    study = made(40)
    found = plots.importances(study)
    expected = optuna.importance.get_param_importances(study)  # PED-ANOVA, by the direction
    assert found == pytest.approx(dict(expected))
    assert next(iter(found)) == "lr"
    assert sum(found.values()) == pytest.approx(1)
    bars = [p for p in plots.parameter_importances(study).axes[0].patches]
    widths = [bar.get_width() for bar in bars if isinstance(bar, Rectangle)]
    assert widths == pytest.approx(list(found.values()))


def test_several_objectives_are_judged_by_the_first() -> None:
    single, double = made(30), optuna.create_study(directions=["maximize", "minimize"])
    for trial in single.trials:
        double.add_trial(
            optuna.create_trial(
                values=[trial.values[0], 1.0],
                params=trial.params,
                distributions=trial.distributions,
            )
        )
    assert plots.importances(double) == pytest.approx(plots.importances(single))


def test_too_few_or_equal_trials_have_no_importances() -> None:
    with pytest.raises(ValueError, match="must have 8 complete trials of different accuracy"):
        plots.importances(made(7))
    study = optuna.create_study(direction="maximize")
    for _ in range(9):
        study.add_trial(
            optuna.create_trial(value=0.5, params={"lr": 0.01}, distributions={"lr": LR})
        )
    with pytest.raises(ValueError, match="got 9 trials of 1 values"):
        plots.importances(study)


def test_each_trial_is_a_line_over_its_accuracy_and_parameters() -> None:
    study = made(4, branch=True)
    axes = plots.parallel_coordinates(study).axes[0]
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ["accuracy (%)", "lr", "opt", "smoothing"]  # few trials: by name
    lines = {tuple(np.asarray(line.get_ydata())) for line in drawn(axes)}
    values = [trial.values[0] for trial in study.trials]
    low, high = min(values), max(values)
    for trial in study.trials:
        # where the smoothing does not exist, the line ends below the axes
        share = (np.log10(trial.params["lr"]) + 3) / 2  # of the range of exponents, -3 to -1
        smoothing = trial.params.get("smoothing", -0.14 * 0.2) / 0.2
        place = ("momentum", "adamw", "lamb").index(trial.params["opt"]) / 2
        expected = ((trial.values[0] - low) / (high - low), share, place, smoothing)
        assert any(np.allclose(expected, line) for line in lines)
    red = max(drawn(axes), key=lambda line: line.get_linewidth())
    assert np.asarray(red.get_ydata())[0] == 1  # the best


def test_enough_trials_bring_the_most_important_parameters_first() -> None:
    axes = plots.parallel_coordinates(made(40), top=1).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["accuracy (%)", "lr"]


def test_one_trial_is_no_figure() -> None:
    with pytest.raises(ValueError, match="must have two complete trials, got 1"):
        plots.parallel_coordinates(made(1))

"""GAEA: settings, exponentiated gradients on the simplex, and a short search on digits."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nas_ext.architecture import Choice, SearchSpace
from nas_ext.data import digits, loader
from nas_ext.nni import Lightning, Trainer
from nas_ext.oneshot import SearchExperiment, SupernetTraining, quiet
from nas_ext.results import SearchResult
from nas_ext.spaces.resolution_resnet import ResolutionResNet
from nas_ext.strategies.gaea import GAEA, SimplexWeights

SPACE = SearchSpace("two", [Choice("a", (0, 1)), Choice("b", ("x", "y", "z"))])


def weights(learning_rate: float = 0.1, floor: float = 1e-12) -> SimplexWeights:
    return SimplexWeights(SPACE, learning_rate=learning_rate, floor=floor)


def test_the_defaults_are_those_of_the_specification() -> None:
    # eta is not published: .1; theta never falls below 1e-12
    assert (GAEA().learning_rate, GAEA().floor) == (0.1, 1e-12)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"candidates": 0}, "candidates must be at least 1, got 0"),
        ({"penalty": -1.0}, "penalty must not be negative, got -1.0"),
        ({"learning_rate": 0.0}, "learning_rate must be positive, got 0.0"),
        ({"learning_rate": math.inf}, "learning_rate must be positive, got inf"),
        ({"floor": 0.0}, r"floor must lie in \(0, 0.5\), got 0.0"),
        ({"floor": 0.5}, r"floor must lie in \(0, 0.5\), got 0.5"),
        ({"floor": math.nan}, r"floor must lie in \(0, 0.5\), got nan"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        GAEA(**settings)


def test_a_floor_above_the_middle_of_the_simplex_is_refused() -> None:
    with pytest.raises(ValueError, match=r"floor must be below 1/3 for 3 options, got 0\.4"):
        GAEA(floor=0.4).relax(SPACE)


def test_settings_survive_json() -> None:
    made = GAEA(learning_rate=0.2, floor=1e-6)
    settings = json.loads(json.dumps(made.settings))
    assert set(settings) == {field.name for field in fields(made)} - {"out"}
    assert settings.pop("reward") == "accuracy"
    assert GAEA(**settings).settings == made.settings


# The weights.


def test_theta_starts_in_the_middle_of_the_simplex_and_is_the_weight_itself() -> None:
    made = GAEA().relax(ResolutionResNet.resnet20(width=1).search_space)
    assert sum(value.numel() for value in made.values) == 27
    for value, row in zip(made.values, made.weights(), strict=True):
        assert value.tolist() == row.tolist() == pytest.approx([1 / 3] * 3)


def test_a_step_is_the_exponentiated_gradient() -> None:
    made = weights(learning_rate=0.5)
    made.values[1].data = torch.tensor([0.5, 0.3, 0.2])
    gradients = [torch.tensor([1.0, -2.0]), torch.tensor([0.0, 3.0, -0.5])]
    expected = []
    for value, gradient in zip(made.values, gradients, strict=True):
        # theta exp(-eta g) / Z, as printed
        product = value.double().numpy() * np.exp(-0.5 * gradient.double().numpy())
        expected.append(product / product.sum())
    made.update(gradients)
    for value, row in zip(made.values, expected, strict=True):
        np.testing.assert_allclose(value.numpy(), row, rtol=1e-6)


def test_theta_stays_on_the_simplex_whatever_the_gradients() -> None:
    made = weights(learning_rate=1.0)
    generator = torch.Generator().manual_seed(0)
    for step in range(200):
        scale = 10.0 ** (step % 8)  # up to 1e7, where exp overflows
        made.update([scale * torch.randn(n, generator=generator) for n in (2, 3)])
        for value in made.values:
            assert float(value.double().sum()) == pytest.approx(1.0, abs=1e-6)
            assert bool((value > 0).all())
            assert bool((value <= 1).all())


def test_the_floor_is_set_before_the_sum_is_made_1_again() -> None:
    made = weights(learning_rate=1.0, floor=0.25)
    made.update([torch.tensor([0.0, 1e4]), torch.zeros(3)])
    # (1, .25) / 1.25
    assert made.values[0].tolist() == pytest.approx([0.8, 0.2])


def test_an_option_at_the_floor_can_come_back() -> None:
    made = weights(learning_rate=1.0, floor=1e-12)
    made.update([torch.tensor([0.0, 1e4]), torch.zeros(3)])
    assert made.values[0].tolist() == pytest.approx([1.0, 1e-12], rel=1e-6)
    made.update([torch.tensor([30.0, 0.0]), torch.zeros(3)])
    # 1e-12 exp(30) = 10.69 against 1
    ratio = 1e-12 * math.exp(30.0)
    assert made.values[0].tolist() == pytest.approx([1 / (1 + ratio), ratio / (1 + ratio)])


def test_a_gradient_that_is_the_same_for_all_options_changes_nothing() -> None:
    made = weights()
    made.values[1].data = torch.tensor([0.5, 0.3, 0.2])
    made.update([torch.full((2,), 5.0), torch.full((3,), -40.0)])
    assert made.values[0].tolist() == [0.5, 0.5]
    assert made.values[1].tolist() == pytest.approx([0.5, 0.3, 0.2], rel=1e-6)


# A search.


def test_a_short_search_on_digits_exports_and_saves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    data = digits(seed=0)
    torch.manual_seed(0)
    space = ResolutionResNet(widths=(4, 4), weights="equal", num_classes=10, in_chs=1)
    strategy = GAEA(candidates=3, out=tmp_path / "run")
    evaluator = Lightning(
        SupernetTraining(),
        Trainer(
            max_steps=25,
            max_epochs=-1,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
            limit_val_batches=0,
        ),
        train_dataloaders=loader(data.train, data, batch_size=32, train=True, seed=0),
        val_dataloaders=loader(data.val, data, batch_size=64, train=False, seed=0, drop_last=True),
    )
    with quiet():
        experiment = SearchExperiment(space, evaluator, strategy, out=tmp_path / "run")
        experiment.run()
        samples = experiment.export_top_models(3, formatter="dict")
        experiment.stop()
    assert samples == [line.sample for line in strategy.result.ranking]
    assert strategy.result.best.accuracy > 0.2  # guessing gets 0.1 right
    assert SearchResult.load(tmp_path / "run") == strategy.result
    for row in strategy.probabilities.values():
        assert sum(row.values()) == pytest.approx(1.0)
        assert max(row.values()) > 1 / 3 + 1e-4  # they moved

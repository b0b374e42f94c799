"""ResolutionDARTS: settings, the softmax weights, and a short search on digits."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

from nas_ext.architecture import Choice, SearchSpace
from nas_ext.data import digits, loader
from nas_ext.nni import Lightning, OneShotStrategy, Trainer
from nas_ext.oneshot import SampledStrategy, SearchExperiment, SupernetTraining, quiet
from nas_ext.results import SearchResult
from nas_ext.spaces.resolution_resnet import ResolutionNetwork, ResolutionResNet
from nas_ext.strategies.resolution_darts import ResolutionDARTS, SoftmaxWeights

SPACE = SearchSpace("two", [Choice("a", (0, 1)), Choice("b", ("x", "y", "z"))])


def weights(learning_rate: float = 1e-2, weight_decay: float = 1e-3) -> SoftmaxWeights:
    return SoftmaxWeights(SPACE, learning_rate=learning_rate, weight_decay=weight_decay)


def test_the_defaults_are_the_published_ones() -> None:
    made = ResolutionDARTS()
    # The published example's: Adam with 1e-2 and 1e-3; no penalty
    assert (made.learning_rate, made.weight_decay, made.penalty) == (1e-2, 1e-3, 0.0)


def test_it_is_a_strategy_of_nni_that_has_no_sampler() -> None:
    assert isinstance(ResolutionDARTS(), OneShotStrategy)
    assert not isinstance(ResolutionDARTS(), SampledStrategy)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed": -1}, "seed must not be negative, got -1"),
        ({"candidates": 0}, "candidates must be at least 1, got 0"),
        ({"penalty": -0.1}, "penalty must not be negative, got -0.1"),
        ({"penalty": math.inf}, "penalty must not be negative, got inf"),
        ({"penalty": math.nan}, "penalty must not be negative, got nan"),
        ({"reward": ""}, "reward must be a function or a metric's name, got ''"),
        ({"learning_rate": 0.0}, "learning_rate must be positive, got 0.0"),
        ({"learning_rate": math.nan}, "learning_rate must be positive, got nan"),
        ({"weight_decay": -1.0}, "weight_decay must not be negative, got -1.0"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        ResolutionDARTS(**settings)


def test_settings_are_keyword_only_and_survive_json() -> None:
    make: Any = ResolutionDARTS
    with pytest.raises(TypeError, match="positional"):
        make(0)
    made = ResolutionDARTS(seed=3, penalty=0.5)
    settings = json.loads(json.dumps(made.settings))
    assert set(settings) == {field.name for field in fields(made)} - {"out"}
    assert settings.pop("reward") == "accuracy"
    assert ResolutionDARTS(**settings).settings == made.settings


# The weights.


def test_the_published_space_has_27_alphas_that_start_at_one() -> None:
    made = ResolutionDARTS().relax(ResolutionResNet.resnet20(width=1).search_space)
    # Golden number 13: 27 alphas, 9 layers of 3 resolutions
    assert sum(value.numel() for value in made.values) == 27
    assert all(torch.equal(value, torch.ones(3)) for value in made.values)
    assert made.probabilities() == [pytest.approx([1 / 3] * 3, abs=1e-7)] * 9


def test_a_step_is_adams() -> None:
    made = weights(learning_rate=0.1, weight_decay=0.5)
    gradients = [torch.tensor([1.0, -2.0]), torch.tensor([0.0, 3.0, -0.5])]
    made.update(gradients)
    # Adam's first step, bias corrected, is lr g / (|g| + eps), with g + weight decay x value
    for value, gradient in zip(made.values, gradients, strict=True):
        g = gradient + 0.5
        expected = 1.0 - 0.1 * g / (g.abs() + 1e-8)
        torch.testing.assert_close(value.data, expected)
        assert value.grad is None


def test_weights_are_the_softmax_of_alpha() -> None:
    made = weights()
    made.values[0].data = torch.tensor([0.0, math.log(3.0)])
    assert made.probabilities()[0] == pytest.approx([0.25, 0.75])


def test_a_restored_state_takes_the_same_next_step() -> None:
    gradients = [torch.tensor([1.0, -2.0]), torch.tensor([0.3, 3.0, -0.5])]
    first, second = weights(), weights()
    for _ in range(3):
        first.update(gradients)
    second.update([torch.ones(2), torch.ones(3)])
    second.load_state_dict(first.state_dict())
    for made in (first, second):
        made.update([-gradient for gradient in gradients])
    assert all(map(torch.equal, first.values, second.values))
    untouched = weights()
    second.load_state_dict(untouched.state_dict())
    for made in (untouched, second):
        made.update(gradients)
    assert all(map(torch.equal, untouched.values, second.values))


# A search.


def test_a_short_search_on_digits_exports_and_saves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    data = digits(seed=0)
    torch.manual_seed(0)
    space = ResolutionResNet(widths=(4, 4, 4), num_classes=10, in_chs=1)
    strategy = ResolutionDARTS(candidates=4, penalty=0.1, out=tmp_path / "run")
    evaluator = Lightning(
        SupernetTraining(),
        Trainer(
            max_steps=25,
            max_epochs=-1,
            gradient_clip_val=5.0,
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
        samples = experiment.export_top_models(4, formatter="dict")
        network = experiment.export_top_models(1, formatter="instance")[0]
        experiment.stop()
    result = strategy.result
    assert samples == [line.sample for line in result.ranking]
    assert len(samples) == 4
    argmax = {
        label: max(row, key=row.__getitem__) for label, row in strategy.probabilities.items()
    }
    assert samples[0] == argmax
    assert result.best.accuracy > 0.2  # guessing gets 0.1 right
    assert SearchResult.load(tmp_path / "run") == result
    saved = json.loads((tmp_path / "run" / "probabilities.json").read_text())
    for label, row in strategy.probabilities.items():
        assert saved[label] == {str(option): share for option, share in row.items()}
        assert len(set(row.values())) == 3  # they moved
    assert result.space["arguments"] == space.arguments
    fresh = space.network(result.best.architecture)
    assert isinstance(fresh, ResolutionNetwork)
    assert fresh.state_dict().keys() >= network.state_dict().keys()
    assert result.best.parameters == sum(p.numel() for p in fresh.parameters())
    assert result.best.macs == space.macs(result.best.architecture, image_size=(8, 8))

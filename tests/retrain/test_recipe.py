"""Training settings."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from nas_ext.retrain import Recipe


def test_the_published_resnet20_recipe_has_the_thesis_values() -> None:
    recipe = Recipe.published("resnet20-pooling", epochs=7)
    # thesis, ResNet-20 benchmark: SGD with momentum .9, lr .1 along a cosine, weight decay 1e-3,
    # batch size 256; the published training uses no Nesterov and decays all parameters
    assert (recipe.opt, recipe.momentum, recipe.lr, recipe.sched) == (
        "momentum",
        0.9,
        0.1,
        "cosine",
    )
    assert (recipe.weight_decay, recipe.filter_bias_and_bn) == (1e-3, False)
    assert (recipe.batch_size, recipe.epochs, recipe.min_lr) == (256, 7, 0.0)
    plain = (recipe.warmup_epochs, recipe.smoothing, recipe.reprob, recipe.model_ema_decay)
    assert plain == (0, 0.0, 0.0, None)


def test_the_published_food101_recipe_ends_at_its_least_rate() -> None:
    assert Recipe.published("resnet50-food101", epochs=90).min_lr == 1e-5


def test_an_unknown_published_name_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="name must be one of resnet20-pooling, resnet50-food101"):
        Recipe.published("resnet", epochs=1)


def test_a_recipe_survives_json() -> None:
    recipe = Recipe(epochs=3, opt="adamw", lr=1e-3, clip_grad=2.0, model_ema_decay=0.98)
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


def test_settings_left_out_of_json_keep_their_defaults() -> None:
    assert Recipe.from_json({"lr": 0.5}) == Recipe(lr=0.5)


def test_unknown_settings_in_json_are_named() -> None:
    with pytest.raises(ValueError, match=r"must only have the settings .*, got \['Lr', 'wd'\]"):
        Recipe.from_json({"wd": 1, "Lr": 2})
    with pytest.raises(ValueError, match="recipe must be a dictionary of settings, got 3"):
        Recipe.from_json(3)  # type: ignore[arg-type]  # what a file may hold


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("epochs", 0, "a whole number of at least 1"),
        ("epochs", 2.0, "a whole number"),
        ("epochs", True, "a whole number"),
        ("batch_size", -1, "a whole number"),
        ("warmup_epochs", -1, "a whole number of at least 0"),
        ("warmup_epochs", 100, "fewer than epochs 100"),
        ("opt", "sdg", "one of momentum, sgd, adamw"),
        ("sched", None, "one of cosine, constant"),
        ("filter_bias_and_bn", 1, "True or False"),
        ("lr", 0.0, "above 0"),
        ("lr", float("inf"), "a number"),
        ("lr", "0.1", "a number"),
        ("lr", True, "a number"),
        ("momentum", 1.0, "below 1"),
        ("weight_decay", -1e-9, "at least 0"),
        ("weight_decay", float("nan"), "a number"),
        ("min_lr", 0.2, "at most lr 0.1"),
        ("smoothing", 1, "below 1"),
        ("clip_grad", 0, "above 0"),
        ("drop_path", 1.0, "below 1"),
        ("reprob", 1.01, "at most 1"),
        ("model_ema_decay", 0.0, "above 0"),
        ("model_ema_decay", 1.0, "below 1"),
    ],
)
def test_a_setting_out_of_range_is_named_with_its_rule_and_value(
    name: str, value: Any, rule: str
) -> None:
    with pytest.raises(ValueError, match=rf"^{name} must be .*{rule}.*, got ") as caught:
        Recipe(**{name: value})
    assert str(caught.value).endswith(f"got {value!r}")


def test_values_at_the_ends_of_their_ranges_are_taken() -> None:
    Recipe(epochs=1, lr=1, min_lr=1, momentum=0, weight_decay=0, reprob=1, clip_grad=1e-9)
    Recipe(epochs=2, warmup_epochs=1)


def test_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Recipe().lr = 1.0  # type: ignore[misc]  # the point of the test

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


def test_the_published_code_of_the_resnet20_has_its_own_recipe() -> None:
    recipe = Recipe.published("resnet20-pooling-code", epochs=200)
    # the published retraining script: MultiStepLR at 80, 120, 160, 180 of a rate of 0.1, no weight
    # decay, batches of 128
    assert recipe.decay_milestones == (80, 120, 160, 180)
    assert (recipe.sched, recipe.decay_rate, recipe.lr) == ("multistep", 0.1, 0.1)
    assert (recipe.weight_decay, recipe.batch_size) == (0.0, 128)
    shrunk = Recipe.published("resnet20-pooling-code", epochs=1)
    assert shrunk.decay_milestones == pytest.approx((0.4, 0.6, 0.8, 0.9))


@pytest.mark.parametrize(
    ("name", "epochs", "milestones", "rate", "decay", "batch"),
    [
        # thesis, section 2.4, and the published retraining scripts
        ("resnet18-cifar10", 400, (200, 300), 0.1, 5e-3, 512),
        ("resnet50-cifar100", 250, (60, 120, 160), 0.2, 5e-4, 256),
        ("resnet18-imagenet", 100, (), 0.1, 1e-3, 256),
    ],
)
def test_each_data_set_of_the_thesis_has_its_recipe(
    name: str, epochs: int, milestones: tuple[int, ...], rate: float, decay: float, batch: int
) -> None:
    recipe = Recipe.published(name, epochs=epochs)
    assert recipe.decay_milestones == milestones
    assert recipe.sched == ("multistep" if milestones else "cosine")
    assert (recipe.decay_rate, recipe.weight_decay, recipe.batch_size) == (rate, decay, batch)
    assert (recipe.opt, recipe.momentum, recipe.lr) == ("momentum", 0.9, 0.1)


def test_an_unknown_published_name_lists_the_known_ones() -> None:
    with pytest.raises(
        ValueError, match="name must be one of resnet20-pooling, resnet20-pooling-code"
    ):
        Recipe.published("resnet", epochs=1)


def test_a_recipe_survives_json() -> None:
    recipe = Recipe(
        epochs=3, opt="adamw", lr=1e-3, clip_grad=2.0, model_ema_decay=0.98, sched="multistep",
        decay_milestones=(1, 2.5), mixup=0.2, cutmix=1.0, auto_augment="rand-m7-mstd0.5-inc1",
    )  # fmt: skip
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
        ("opt", "adahessian", "first derivatives"),
        ("opt", "fusedadam", "no other library"),
        ("sched", None, "one of cosine, multistep, step, constant"),
        ("decay_milestones", [5], "a tuple of epochs"),
        ("decay_milestones", (5, 5), "ascend"),
        ("decay_milestones", (5, 100), "below epochs 100"),
        ("decay_epochs", 0, "above 0"),
        ("decay_rate", 1.5, "at most 1"),
        ("mixup", -0.1, "at least 0"),
        ("cutmix", True, "a number"),
        ("auto_augment", "rand-m9-mstd0.5-inc1", "below 10"),
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
    with pytest.raises(ValueError, match=rf"^{name} must .*{rule}.*, got ") as caught:
        Recipe(**{name: value})
    assert str(caught.value).endswith(f"got {value!r}")


def test_milestones_are_above_zero_and_not_left_out() -> None:
    with pytest.raises(ValueError, match="decay_milestones must be a number, above 0, got 0"):
        Recipe(decay_milestones=(0, 5))
    with pytest.raises(ValueError, match=r"decay_milestones must be .* one at least with sched"):
        Recipe(sched="multistep")


def test_mixed_batches_are_even() -> None:
    Recipe(batch_size=33)
    with pytest.raises(ValueError, match="batch_size must be even with mixup or cutmix, got 33"):
        Recipe(batch_size=33, cutmix=1.0)


def test_values_at_the_ends_of_their_ranges_are_taken() -> None:
    Recipe(epochs=1, lr=1, min_lr=1, momentum=0, weight_decay=0, reprob=1, clip_grad=1e-9)
    Recipe(epochs=2, warmup_epochs=1)


def test_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Recipe().lr = 1.0  # type: ignore[misc]  # the point of the test

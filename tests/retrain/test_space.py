"""Proposed recipes, and the way back from a recipe to its parameters."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import optuna
import pytest
import torch

from nas_ext.data import ImageData, Images
from nas_ext.retrain import DefaultSpace, Recipe, default_suggest
from nas_ext.retrain.space import Suggest, parameters

PUBLISHED = Recipe.published("resnet20-pooling", epochs=20)


def test_the_published_recipe_lies_in_the_default_space() -> None:
    found = parameters(PUBLISHED, default_suggest, PUBLISHED, exact=True)
    assert found == {
        "opt": "momentum", "lr_sgd": 0.1, "wd_sgd": 1e-3, "sched": "cosine", "warmup_share": 0.0,
        "smoothing": 0.0, "reprob": 0.0, "drop_path": 0.0, "mixup": 0.0, "cutmix": 0.0,
        "ema": "off",
    }  # fmt: skip


@pytest.mark.parametrize(
    "space", [default_suggest, DefaultSpace(auto_augment=True, batch_sizes=(128, 256))]
)
def test_the_parameters_of_every_proposed_recipe_propose_it_again(space: Suggest) -> None:
    base = replace(PUBLISHED, clip_grad=3.0, min_lr=1e-3)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen, kinds = set(), set()
    for _ in range(200):
        recipe = space(study.ask(), base)
        params = parameters(recipe, space, base, exact=True)
        assert space(optuna.trial.FixedTrial(params), base) == recipe  # type: ignore[arg-type]  # Optuna's stand-in
        assert (recipe.epochs, recipe.clip_grad) == (20, 3.0)
        seen.add((recipe.opt, recipe.model_ema_decay, recipe.warmup_epochs))
        kinds.add((recipe.auto_augment, recipe.batch_size))
    assert len(seen) == 2 * 3 * 3  # optimizers, averages and none, 0 to 2 epochs of warm-up
    # RandAugment and the batch size are proposed by those who ask for them
    assert len(kinds) == (1 if space is default_suggest else 3 * 2)


def test_the_default_space_follows_the_base_recipe() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    default_suggest(plain := study.ask(), PUBLISHED)
    assert not {"rand_augment", "batch_size"} & set(plain.params)
    default_suggest(trial := study.ask(), replace(PUBLISHED, auto_augment="rand-m7"))
    assert "rand_augment" in trial.params
    default_suggest(odd := study.ask(), replace(PUBLISHED, batch_size=33))
    assert set(plain.params) - set(odd.params) >= {"mixup", "cutmix"}


def test_milestones_are_the_bases_or_half_and_three_quarters() -> None:
    params = parameters(PUBLISHED, default_suggest, PUBLISHED, exact=True)
    trial = optuna.trial.FixedTrial({**params, "sched": "multistep"})
    assert default_suggest(trial, PUBLISHED).decay_milestones == (10, 15)  # type: ignore[arg-type]  # Optuna's stand-in
    own = Recipe.published("resnet50-cifar100", epochs=250)
    assert default_suggest(trial, own).decay_milestones == (60, 120, 160)  # type: ignore[arg-type]  # Optuna's stand-in
    assert parameters(own, default_suggest, own, exact=True)["sched"] == "multistep"


@pytest.mark.parametrize(
    ("channels", "side", "fits"), [(3, 32, True), (1, 32, False), (3, 16, False)]
)
def test_rand_augment_is_proposed_for_colour_images_that_are_large_enough(
    data: ImageData, channels: int, side: int, fits: bool
) -> None:
    pixels = torch.zeros(len(data.train), channels, side, side, dtype=torch.uint8)
    colourful = replace(data, train=Images(pixels, data.train.labels))
    assert DefaultSpace.of(colourful) == DefaultSpace(auto_augment=fits)
    with pytest.raises(ValueError, match=r"batch_sizes must be at most .* 150, got \[151\]"):
        DefaultSpace.of(colourful, batch_sizes=(150, 151))


def test_spaces_with_other_settings_have_other_names_and_travel() -> None:
    # a study keeps a space's __qualname__, as a function's, to tell spaces apart
    spaces = [DefaultSpace(auto_augment=on) for on in (False, True)]
    names = {getattr(space, "__qualname__", None) for space in spaces}
    assert len(names) == 2
    sent = pickle.loads(pickle.dumps(spaces[1]))
    assert sent == spaces[1]
    assert sent.__qualname__ in names


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": 2.0}, r"enqueued lr_sgd must lie in \[0.01, 1.0\], got 2.0"),
        ({"weight_decay": 0.0}, r"enqueued wd_sgd must lie in \[1e-05, 0.01\], got 0.0"),
        ({"opt": "adamw"}, r"enqueued lr_adamw must lie in \[0.0001, 0.01\], got 0.1"),
        ({"opt": "lamb"}, r"enqueued opt must be one of \['momentum', 'adamw'\], got 'lamb'"),
        ({"smoothing": 0.07}, "enqueued smoothing must be 0.0 plus a multiple of 0.05, got 0.07"),
        ({"warmup_epochs": 5}, r"enqueued warmup_share must lie in \[0.0, 0.1\], got 0.25"),
        ({"model_ema_decay": 0.9}, r"enqueued ema must be one of \['off', 0.98, 0.995\], got 0.9"),
        ({"batch_size": 64}, "enqueued recipe must be one that suggest proposes.*batch_size 256"),
    ],
)
def test_a_recipe_outside_the_space_is_refused_with_the_parameter_and_its_range(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        parameters(replace(PUBLISHED, **changes), default_suggest, PUBLISHED, exact=True)


def test_a_value_between_two_floats_of_a_grid_is_on_the_grid() -> None:
    recipe = replace(PUBLISHED, smoothing=0.15, reprob=0.3)  # 0.15 / 0.05 is 2.9999999999999996
    assert parameters(recipe, default_suggest, PUBLISHED, exact=True)["reprob"] == 0.3


def test_settings_that_are_not_proposed_may_stay_the_bases() -> None:
    base = replace(PUBLISHED, batch_size=64)
    found = parameters(PUBLISHED, default_suggest, base, exact=False)
    proposed = default_suggest(optuna.trial.FixedTrial(found), base)  # type: ignore[arg-type]  # Optuna's stand-in
    assert proposed == base


def asks(name: str) -> Callable[[optuna.Trial, Recipe], Recipe]:
    return lambda trial, base: replace(base, batch_size=trial.suggest_int(name, 32, 256, step=32))


def test_a_space_of_ones_own_is_understood_by_the_names_of_settings() -> None:
    wanted = replace(PUBLISHED, batch_size=64)
    assert parameters(wanted, asks("batch_size"), PUBLISHED, exact=True) == {"batch_size": 64}
    with pytest.raises(ValueError, match="enqueued batch_size must be 32 plus a multiple"):
        parameters(replace(wanted, batch_size=65), asks("batch_size"), PUBLISHED, exact=True)
    with pytest.raises(ValueError, match=r"need parameters named epochs, .*, got 'size'"):
        parameters(wanted, asks("size"), PUBLISHED, exact=True)

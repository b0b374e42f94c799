"""Proposed recipes, and the way back from a recipe to its parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import optuna
import pytest

from nas_ext.retrain import Recipe, default_suggest
from nas_ext.retrain.space import parameters

PUBLISHED = Recipe.published("resnet20-pooling", epochs=20)


def test_the_published_recipe_lies_in_the_default_space() -> None:
    found = parameters(PUBLISHED, default_suggest, PUBLISHED, exact=True)
    assert found == {
        "opt": "momentum", "lr_sgd": 0.1, "wd_sgd": 1e-3, "warmup_share": 0.0,
        "smoothing": 0.0, "reprob": 0.0, "ema": "off",
    }  # fmt: skip


def test_the_parameters_of_every_proposed_recipe_propose_it_again() -> None:
    base = replace(PUBLISHED, clip_grad=3.0)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = set()
    for _ in range(200):
        recipe = default_suggest(study.ask(), base)
        params = parameters(recipe, default_suggest, base, exact=True)
        assert default_suggest(optuna.trial.FixedTrial(params), base) == recipe  # type: ignore[arg-type]  # Optuna's stand-in
        assert (recipe.epochs, recipe.clip_grad) == (20, 3.0)
        seen.add((recipe.opt, recipe.model_ema_decay, recipe.warmup_epochs))
    assert len(seen) == 2 * 2 * 3  # both optimizers, average or none, 0 to 2 epochs of warm-up


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": 2.0}, r"enqueued lr_sgd must lie in \[0.01, 1.0\], got 2.0"),
        ({"weight_decay": 0.0}, r"enqueued wd_sgd must lie in \[1e-05, 0.01\], got 0.0"),
        ({"opt": "adamw"}, r"enqueued lr_adamw must lie in \[0.0001, 0.01\], got 0.1"),
        ({"opt": "lamb"}, r"enqueued opt must be one of \['momentum', 'adamw'\], got 'lamb'"),
        ({"smoothing": 0.07}, "enqueued smoothing must be 0.0 plus a multiple of 0.05, got 0.07"),
        ({"warmup_epochs": 5}, r"enqueued warmup_share must lie in \[0.0, 0.1\], got 0.25"),
        ({"model_ema_decay": 0.9}, r"enqueued ema must be one of \['off', 0.98\], got 0.9"),
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

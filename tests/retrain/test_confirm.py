"""The second look at the best recipes, and what it changes."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from torch import nn

from nas_ext.data import ImageData
from nas_ext.retrain import (
    Confirmation,
    Recipe,
    confirm,
    final,
    fit,
    study,
    suggest_from,
)

BuildFrom = Callable[[Recipe], nn.Module]

BASE = Recipe(epochs=2, batch_size=50)
SPACE = suggest_from({"lr": [1e-6, 0.05, 0.1]})


@pytest.fixture
def tuned(build_from: BuildFrom, data: ImageData, tmp_path: Path) -> optuna.Study:
    """A study of three recipes: that of trial 0 hardly learns, the others do."""
    recipes = [replace(BASE, lr=lr) for lr in (1e-6, 0.05, 0.1, 0.1)]
    return study(
        build_from,
        data,
        out=tmp_path,
        recipe=BASE,
        n_trials=4,
        suggest=SPACE,
        enqueue=recipes,
        pruner=None,
    )


def alone(build: BuildFrom, recipe: Recipe, data: ImageData, seed: int) -> float:
    return fit(lambda: build(recipe), recipe, data.train, data.val, data, seed=seed).accuracy


def test_the_best_recipes_and_the_first_are_trained_with_seeds_that_none_was_picked_by(
    tuned: optuna.Study, build_from: BuildFrom, data: ImageData, tmp_path: Path
) -> None:
    found = confirm({"net": (tuned, build_from)}, data, out=tmp_path, top=1, seeds=3)
    assert found.seeds == (1, 2, 3)  # the study's seed is 0
    assert {recipe.trial for recipe in found.recipes} == {0, tuned.best_trial.number}
    for recipe in found.recipes:
        trained = [alone(build_from, recipe.recipe, data, seed) for seed in found.seeds]
        assert list(recipe.accuracies) == trained
        assert recipe.tuned == tuned.trials[recipe.trial].value
    first = found.first("net")
    assert first is not None
    assert first.trial == 0
    assert found.winner.mean > first.mean
    assert found.best("net") == found.winner


def test_the_same_recipe_is_confirmed_once(
    tuned: optuna.Study, build_from: BuildFrom, data: ImageData, tmp_path: Path
) -> None:
    found = confirm({"net": (tuned, build_from)}, data, out=tmp_path, top=4, seeds=1)
    assert sorted(recipe.recipe.lr for recipe in found.recipes) == [1e-6, 0.05, 0.1]
    assert found.minus(found.winner, found.recipes[1]) is None  # one seed shows no difference


def test_differences_are_paired_by_seed(
    tuned: optuna.Study, build_from: BuildFrom, data: ImageData, tmp_path: Path
) -> None:
    found = confirm({"net": (tuned, build_from)}, data, out=tmp_path, top=1, seeds=3)
    one, other = found.recipes
    gaps = [a - b for a, b in zip(one.accuracies, other.accuracies, strict=True)]
    gap = found.minus(one, other)
    assert gap is not None
    assert gap.mean == pytest.approx(statistics.fmean(gaps))
    # t table: 97.5 % with 2 degrees of freedom is 4.30265
    half = 4.30265 * statistics.stdev(gaps) / 3**0.5
    assert (gap.low, gap.high) == pytest.approx((gap.mean - half, gap.mean + half), rel=1e-5)


def test_an_interrupted_confirmation_goes_on_and_ends_alike(
    tuned: optuna.Study, build_from: BuildFrom, data: ImageData, tmp_path: Path
) -> None:
    built: list[Recipe] = []

    def counting(recipe: Recipe) -> nn.Module:
        built.append(recipe)
        if len(built) == 3:
            raise KeyboardInterrupt
        return build_from(recipe)

    folder = tmp_path / "confirmed"
    with pytest.raises(KeyboardInterrupt):
        confirm({"net": (tuned, counting)}, data, out=folder, top=1, seeds=2)
    assert len(json.loads((folder / "confirm.json").read_text())["runs"]) == 2
    with pytest.raises(ValueError, match="finished confirmation, it is interrupted"):
        Confirmation.load(folder)
    found = confirm({"net": (tuned, counting)}, data, out=folder, top=1, seeds=2)
    assert len(built) == 3 + 2  # two of four were done
    assert found == confirm({"net": (tuned, build_from)}, data, out=tmp_path, top=1, seeds=2)
    assert found == Confirmation.load(folder)
    assert list((folder / "ckpt").iterdir()) == []


def test_more_seeds_train_only_what_is_new(
    tuned: optuna.Study, build_from: BuildFrom, data: ImageData, tmp_path: Path
) -> None:
    few = confirm({"net": (tuned, build_from)}, data, out=tmp_path, top=1, seeds=1)
    built: list[Recipe] = []

    def counting(recipe: Recipe) -> nn.Module:
        built.append(recipe)
        return build_from(recipe)

    more = confirm({"net": (tuned, counting)}, data, out=tmp_path, top=1, seeds=2)
    assert len(built) == 2
    kept = {recipe.trial: recipe.accuracies[0] for recipe in few.recipes}
    assert {recipe.trial: recipe.accuracies[0] for recipe in more.recipes} == kept


def test_the_confirmed_recipe_is_the_one_that_is_tested(
    tuned: optuna.Study, build_from: BuildFrom, data: ImageData, tmp_path: Path
) -> None:
    confirm({"net": (tuned, build_from)}, data, out=tmp_path, top=3, seeds=2)
    loser = min((t for t in tuned.trials), key=lambda t: t.value or 0.0)
    assert tuned.user_attrs["confirmed"]["trial"] != loser.number
    tuned.set_user_attr("confirmed", {"trial": loser.number})
    tested = final(tuned, build_from, data, out=tmp_path / "a", seeds=1)
    assert tested.trial == loser.number
    assert json.loads((tmp_path / "a" / "final.json").read_text())["chosen by"] == "confirmation"
    given = final(tuned, build_from, data, out=tmp_path / "b", seeds=1, trial=1)
    assert given.recipe.lr == 0.05


def test_several_networks_are_compared_side_by_side(
    tuned: optuna.Study, build_from: BuildFrom, data: ImageData, tmp_path: Path
) -> None:
    other = study(
        build_from,
        data,
        out=tmp_path / "other",
        recipe=BASE,
        n_trials=1,
        suggest=SPACE,
        enqueue=[replace(BASE, lr=1e-6)],
        seed=2,
    )
    both = {"a": (tuned, build_from), "b": (other, build_from)}
    found = confirm(both, data, out=tmp_path, top=1, seeds=2)
    assert found.seeds == (1, 3)  # neither study's
    assert found.networks == ("a", "b")
    assert len(found.recipes) == 2 + 1
    assert other.user_attrs["confirmed"]["trial"] == 0


def test_what_does_not_fit_is_refused(
    tuned: optuna.Study, build_from: BuildFrom, data: ImageData, tmp_path: Path
) -> None:
    pair = {"net": (tuned, build_from)}
    with pytest.raises(ValueError, match="must be positive, got 0, 5 and 1"):
        confirm(pair, data, out=tmp_path, top=0)
    with pytest.raises(ValueError, match="networks of different names"):
        confirm({}, data, out=tmp_path)
    with pytest.raises(ValueError, match="data must be those of the study of net"):
        confirm(pair, replace(data, digest="other"), out=tmp_path)
    confirm(pair, data, out=tmp_path, top=1, seeds=1)
    values = json.loads((tmp_path / "confirm.json").read_text())
    for run in values["runs"]:
        run["recipe"]["lr"] = 0.3
    (tmp_path / "confirm.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match="has another recipe: use another folder"):
        confirm(pair, data, out=tmp_path, top=1, seeds=1)

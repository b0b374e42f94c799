"""The last training and the one look at the test set."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
import safetensors.torch
import timm
import torch
from torch import nn

from nas_ext.data import ImageData
from nas_ext.retrain import (
    FinalResult,
    Recipe,
    TimmEntry,
    baseline,
    best_recipe,
    final,
    study,
    train_and_test,
)

BuildFrom = Callable[[Recipe], nn.Module]


@pytest.fixture
def tuned(build_from: BuildFrom, data: ImageData, tmp_path: Path) -> optuna.Study:
    recipe = Recipe(epochs=2, batch_size=50)
    return study(build_from, data, out=tmp_path, recipe=recipe, n_trials=2)


class Counter:
    """Count the images that networks see in either mode."""

    def __init__(self) -> None:
        self.trained = self.judged = 0

    def __call__(self, module: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        self.trained += len(inputs[0]) * module.training
        self.judged += len(inputs[0]) * (not module.training)

    def watch(self, build: BuildFrom) -> BuildFrom:
        def watched(recipe: Recipe) -> nn.Module:
            model = build(recipe)
            model.register_forward_pre_hook(self)
            return model

        return watched


def test_the_best_recipe_is_trained_on_train_and_val_and_judged_once_a_seed_on_test(
    tuned: optuna.Study, build_from: BuildFrom, data: ImageData, tmp_path: Path
) -> None:
    counter = Counter()
    result = final(tuned, counter.watch(build_from), data, out=tmp_path, seeds=3)
    together = len(data.train) + len(data.val)
    assert counter.judged == 3 * len(data.test)
    assert counter.trained == 3 * 2 * (together // 50 * 50)
    assert result.recipe == best_recipe(tuned)
    assert result.trial == tuned.best_trial.number
    assert result.seeds == (0, 1, 2)
    assert len(set(result.accuracies)) > 1


def test_the_interval_is_students(
    tuned: optuna.Study, build_from: BuildFrom, data: ImageData, tmp_path: Path
) -> None:
    result = final(tuned, build_from, data, out=tmp_path, seeds=3)
    assert result.mean == pytest.approx(sum(result.accuracies) / 3)
    # t table: 97.5 % with 2 degrees of freedom is 4.30265
    expected = 4.30265 * statistics.stdev(result.accuracies) / 3**0.5
    assert result.half_width == pytest.approx(expected, rel=1e-5)


def test_a_single_seed_has_no_interval(
    tuned: optuna.Study, build_from: BuildFrom, data: ImageData, tmp_path: Path
) -> None:
    result = final(tuned, build_from, data, out=tmp_path, seeds=1)
    assert result.half_width is None
    assert result.mean == result.accuracies[0]


def test_final_json_and_the_weights_say_what_the_result_says(
    tuned: optuna.Study, build_from: BuildFrom, data: ImageData, tmp_path: Path
) -> None:
    result = final(tuned, build_from, data, out=tmp_path, seeds=2)
    value = json.loads((tmp_path / "final.json").read_text())
    assert tuple(value["accuracies"]) == result.accuracies
    assert Recipe.from_json(value["recipe"]) == result.recipe
    assert value["study"]["data"] == data.digest
    assert list((tmp_path / "ckpt").glob("*")) == []
    pixels = (data.test.pixels / 255 - data.mean[0]) / data.std[0]
    for seed, accuracy in enumerate(result.accuracies):
        model = build_from(result.recipe)
        file = tmp_path / f"final-seed{seed}.safetensors"
        model.load_state_dict(safetensors.torch.load_file(file))
        with torch.no_grad():
            right = (model.eval()(pixels).argmax(1) == data.test.labels).double().mean()
        assert accuracy == pytest.approx(float(right), abs=1e-9)


def test_the_test_set_is_used_a_second_time_only_on_request(
    tuned: optuna.Study, build_from: BuildFrom, data: ImageData, tmp_path: Path
) -> None:
    first = final(tuned, build_from, data, out=tmp_path, seeds=1)
    counter = Counter()
    with pytest.raises(ValueError, match=r"final\.json must not exist: .*again=True"):
        final(tuned, counter.watch(build_from), data, out=tmp_path, seeds=1)
    assert counter.judged == 0
    assert final(tuned, build_from, data, out=tmp_path, seeds=1, again=True) == first


def test_an_interrupted_final_goes_on_without_judging_again(
    tuned: optuna.Study, build_from: BuildFrom, data: ImageData, tmp_path: Path
) -> None:
    whole = final(tuned, build_from, data, out=tmp_path / "whole", seeds=2)
    built: list[Recipe] = []

    def failing(recipe: Recipe) -> nn.Module:
        built.append(recipe)
        if len(built) == 2:
            raise KeyboardInterrupt
        return build_from(recipe)

    with pytest.raises(KeyboardInterrupt):
        final(tuned, failing, data, out=tmp_path, seeds=2)
    assert not (tmp_path / "final.json").exists()
    counter = Counter()
    assert final(tuned, counter.watch(build_from), data, out=tmp_path, seeds=2) == whole
    assert counter.judged == len(data.test)  # the second seed's only


@pytest.mark.parametrize("seeds", [0, -1])
def test_at_least_one_seed_is_needed(
    tuned: optuna.Study, build_from: BuildFrom, data: ImageData, tmp_path: Path, seeds: int
) -> None:
    with pytest.raises(ValueError, match="seeds must be positive, got"):
        final(tuned, build_from, data, out=tmp_path, seeds=seeds)


def test_other_data_than_the_studys_are_refused(
    tuned: optuna.Study, build_from: BuildFrom, data: ImageData, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"data must be the study's .*, got other"):
        final(tuned, build_from, replace(data, digest="other"), out=tmp_path, seeds=1)


def test_the_model_folder_is_timms_and_its_card_says_how_sure_one_is(
    data: ImageData, tmp_path: Path
) -> None:
    found = baseline("resnet10t", data)
    recipe = Recipe(epochs=1, batch_size=50)
    result = train_and_test(
        found.build,
        recipe,
        data,
        out=tmp_path,
        seeds=2,
        attributes={"architecture": dict(found.architecture), "macs": found.macs},
        timm=found.timm,
    )
    folder = tmp_path / "model"
    names = {path.name for path in folder.iterdir()}
    assert names == {"README.md", "config.json", "model.safetensors", "recipe.json"}
    network = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    pixels = (data.test.pixels / 255 - data.mean[0]) / data.std[0]
    with torch.no_grad():
        right = (network(pixels).argmax(1) == data.test.labels).double().mean()
    assert result.accuracies[0] == pytest.approx(float(right), abs=1e-9)
    card = (folder / "README.md").read_text()
    half = 100 * (result.half_width or 0)
    assert card.startswith("---\nlibrary_name: timm\n")
    assert f"Test accuracy {100 * result.mean:.2f} %, +- {half:.2f} (95 %" in card
    assert data.digest in card
    assert '| opt | "momentum" |' in card
    assert Recipe.from_json(json.loads((folder / "recipe.json").read_text())) == recipe
    assert FinalResult.load(tmp_path) == result


def test_another_network_than_the_trained_one_is_no_entry_of_timm(
    build_from: BuildFrom, data: ImageData, tmp_path: Path
) -> None:
    recipe = Recipe(epochs=1, batch_size=50)
    for name, message in (("resnet10t", "must name the trained network"), ("no", "must know")):
        with pytest.raises(ValueError, match=message):
            train_and_test(
                build_from, recipe, data, out=tmp_path, seeds=1, timm=TimmEntry(name=name)
            )
        assert not (tmp_path / "model").exists()
    train_and_test(build_from, recipe, data, out=tmp_path, seeds=1)
    names = {path.name for path in (tmp_path / "model").iterdir()}
    assert names == {"README.md", "model.safetensors", "recipe.json"}

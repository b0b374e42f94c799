"""One recipe with several seeds."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
from torch import nn

from nas_ext.data import ImageData
from nas_ext.retrain import Candidate, Recipe, fit
from nas_ext.retrain.plain import fit_seeds

RECIPE = Recipe(epochs=1, batch_size=50)


def candidate(build: Callable[[], nn.Module]) -> Candidate:
    return Candidate(name="net", build=lambda recipe: build(), architecture={"name": "net"})


def test_every_seed_is_a_training_on_train_judged_on_val(
    build: Callable[[], nn.Module], data: ImageData, tmp_path: Path
) -> None:
    found = fit_seeds(candidate(build), RECIPE, data, out=tmp_path, seeds=2)
    for seed, accuracy in enumerate(found.accuracies):
        one = fit(build, RECIPE, data.train, data.val, data, seed=seed)
        assert accuracy == one.accuracy
        saved = safetensors.torch.load_file(tmp_path / f"fit-seed{seed}.safetensors")
        assert all(saved[name].equal(value) for name, value in one.weights.items())
    assert found.interval is not None
    values = json.loads((tmp_path / "fit.json").read_text())
    assert [run["accuracy"] for run in values["runs"]] == list(found.accuracies)
    more = fit_seeds(candidate(build), RECIPE, data, out=tmp_path, seeds=3)
    assert more.accuracies[:2] == found.accuracies


def test_a_folder_of_another_recipe_is_refused(
    build: Callable[[], nn.Module], data: ImageData, tmp_path: Path
) -> None:
    fit_seeds(candidate(build), RECIPE, data, out=tmp_path, seeds=1)
    with pytest.raises(ValueError, match="must go on with the recipe it was made with"):
        fit_seeds(candidate(build), replace(RECIPE, lr=0.2), data, out=tmp_path, seeds=1)
    with pytest.raises(ValueError, match="seeds must be positive, got 0"):
        fit_seeds(candidate(build), RECIPE, data, out=tmp_path, seeds=0)


def test_a_training_that_diverges_counts_as_accuracy_0(
    build: Callable[[], nn.Module], data: ImageData, tmp_path: Path
) -> None:
    recipe = Recipe(epochs=1, batch_size=50, lr=1e30)
    found = fit_seeds(candidate(build), recipe, data, out=tmp_path, seeds=1)
    assert found.accuracies == (0.0,)
    assert "in epoch 0" in str(found.runs[0].error)
    assert not (tmp_path / "fit-seed0.safetensors").exists()

"""Search spaces in files and by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import optuna
import pytest

from nas_ext.retrain import Recipe, default_suggest, find_suggest, suggest_from
from nas_ext.retrain.space import parameters

BASE = Recipe(epochs=20)
RANGES: dict[str, Any] = {
    "opt": ["momentum", "lamb"],
    "lr": {"low": 1e-4, "high": 0.1, "log": True},
    "warmup_epochs": {"low": 0, "high": 2},
    "mixup": {"low": 0.0, "high": 0.4, "step": 0.1},
    "model_ema_decay": [None, 0.98],
    "smoothing": 0.1,
}
YAML = """
opt: [momentum, lamb]
lr: {low: 1e-4, high: 1e-1, log: true}
warmup_epochs: {low: 0, high: 2}
mixup: {low: 0.0, high: 0.4, step: 0.1}
model_ema_decay: [null, 0.98]
smoothing: 0.1
"""


def test_a_mapping_a_yaml_and_a_json_file_propose_the_same_recipes(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(YAML)
    (tmp_path / "r.json").write_text(json.dumps(RANGES))
    spaces = [
        suggest_from(RANGES),
        suggest_from(tmp_path / "r.yaml"),
        find_suggest(str(tmp_path / "r.json")),
    ]
    drawn = []
    for space in spaces:
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        drawn.append([space(study.ask(), BASE) for _ in range(40)])
    assert drawn[0] == drawn[1] == drawn[2]
    assert {recipe.opt for recipe in drawn[0]} == {"momentum", "lamb"}
    assert {recipe.warmup_epochs for recipe in drawn[0]} == {0, 1, 2}
    assert {recipe.model_ema_decay for recipe in drawn[0]} == {None, 0.98}
    assert {recipe.smoothing for recipe in drawn[0]} == {0.1}
    assert all(1e-4 <= recipe.lr <= 0.1 for recipe in drawn[0])
    assert sum(recipe.lr < 3e-3 for recipe in drawn[0]) > 10  # half of a logarithmic range
    for recipe in drawn[0]:
        found = parameters(recipe, spaces[0], BASE, exact=True)
        assert spaces[0](optuna.trial.FixedTrial(found), BASE) == recipe  # type: ignore[arg-type]  # Optuna's stand-in


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ({}, "ranges must be a mapping of settings"),
        ({"rate": [1]}, "ranges must be of settings among .*, got 'rate'"),
        ({"epochs": [1, 2]}, "settings among .*got 'epochs'"),
        ({"lr": {"low": 0.0, "high": 1.0, "log": True}}, "lr must have log with a low above 0"),
        ({"lr": {"low": 0.0, "high": 1.0}}, "lr must be a number, above 0, got 0.0"),
        ({"lr": {"low": 1.0, "high": 0.1}}, "lr must have numbers low and high, low first"),
        ({"lr": {"low": "1", "high": 2}}, "lr must have numbers low and high"),
        ({"lr": {"low": 1, "high": 2, "steps": 1}}, "lr must be a list or low, high and log or"),
        ({"batch_size": {"low": 1.5, "high": 2}}, "batch_size must have whole numbers"),
        ({"opt": ["momentum", "sdg"]}, "opt must be one of momentum, .*got 'sdg'"),
        ({"opt": []}, "opt must have a value to choose"),
        ({"model_ema_decay": [False, 0.9]}, "model_ema_decay must be a number.*got False"),
        ({"auto_augment": "rand-m10-inc1"}, "auto_augment must keep magnitudes below 10"),
    ],
)
def test_ranges_that_no_study_could_finish_are_refused(
    ranges: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        suggest_from(ranges)


@pytest.mark.parametrize(("name", "text"), [("r.yaml", "lr: ["), ("r.json", "{"), ("r.toml", "")])
def test_an_unreadable_file_is_named(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=name):
        suggest_from(tmp_path / name)
    with pytest.raises(ValueError, match=r"none\.yaml does not exist"):
        suggest_from(tmp_path / "none.yaml")


def test_a_function_is_found_by_its_module_and_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_suggest("nas_ext.retrain:default_suggest") is default_suggest
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_own_space.py").write_text("def mine(trial, base):\n    return base\n")
    (tmp_path / "my_broken_space.py").write_text("import not_there_at_all\n")
    assert find_suggest("my_own_space:mine").__name__ == "mine"
    for text, message in (
        ("my_own_space", "suggest must be module:function or a YAML or JSON file"),
        ("my_own_space:yours", "suggest must name a function of my_own_space"),
        ("not_there:mine", "suggest must name a module, got 'not_there:mine'"),
    ):
        with pytest.raises(ValueError, match=message):
            find_suggest(text)
    with pytest.raises(ModuleNotFoundError, match="not_there_at_all"):
        find_suggest("my_broken_space:mine")

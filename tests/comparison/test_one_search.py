"""A search of a comparison that is stopped ends as one that was not, and repeats nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from nas_ext.comparison import Competitor, one_search
from nas_ext.comparison.one_search import run_search, unfinished_checkpoint
from nas_ext.data import load
from nas_ext.files import write_json
from nas_ext.oneshot.checkpoints import position
from nas_ext.runs import Training

POOLING = {"name": "pooling-resnet", "widths": [2, 2, 2], "poolings": 1}
LAYERS = {"name": "nasbench-macro", "widths": [8, 8, 8], "stem": 8, "layers": [1, 1, 1], "head": 8}
SPACES: dict[str, dict[str, Any]] = {
    "uniform": POOLING,
    "mcts": POOLING,
    "density-aware": POOLING,
    "strict-fairness": POOLING,
    "gaea": LAYERS,
}
STEPS = 6


class Fault(Exception):
    """What the tests let happen in the middle of a search."""


def search(name: str, place: Path, *, steps: int = STEPS) -> Path:
    competitor = Competitor(label=name, strategy=name)
    space = SPACES.get(name, POOLING)
    run_search(
        competitor,
        competitor.build(0) if name in SPACES else None,
        seed=0,
        place=place,
        space=space,
        data=load("digits", image_size=None),
        data_source={"source": "digits", "seed": 0, "image_size": None},
        training=Training(
            steps=steps, batch_size=16, validation_batch_size=64, device="cpu", progress=False
        ),
    )
    return place


def scores(place: Path) -> dict[str, Any]:
    """All of the scores' file but where and when it was made."""
    values: dict[str, Any] = json.loads((place / "scores.json").read_text())
    del values["manifest"]
    return values


def found(place: Path) -> dict[str, Any]:
    """All that a search found but where, when and how fast."""
    values: dict[str, Any] = json.loads((place / "search.json").read_text())
    del values["manifest"], values["budget"]["seconds"]
    return values


@pytest.fixture
def steps_until(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """Let the optimizer fail after so many steps; return a list that counts them."""
    usual: Any = torch.optim.SGD.step

    def fail_after(limit: int) -> list[int]:
        made: list[int] = []

        def step(self: torch.optim.SGD, closure: Any = None) -> Any:
            if len(made) == limit:
                raise Fault
            result = usual(self, closure)
            made.append(1)
            return result

        monkeypatch.setattr(torch.optim.SGD, "step", step)
        return made

    return fail_after


@pytest.mark.parametrize("name", SPACES)
def test_a_search_that_fails_in_the_middle_goes_on_from_its_checkpoint_to_the_same_scores(
    name: str,
    tmp_path: Path,
    steps_until: Callable[[int], list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = steps_until(1000)
    whole = search(name, tmp_path / "whole")
    monkeypatch.setattr(one_search, "CHECKPOINT_MINUTES", 1e-9)  # after every step
    steps_until(STEPS - 2)
    with pytest.raises(Fault):
        search(name, tmp_path / "stopped")
    last = unfinished_checkpoint(tmp_path / "stopped")
    assert last is not None
    assert position(last).step == STEPS - 2
    again = steps_until(1000)
    stopped = search(name, tmp_path / "stopped")
    assert (len(made), len(again)) == (STEPS, 2)
    assert scores(stopped) == scores(whole)
    assert found(stopped) == found(whole)
    left = {file.name for file in stopped.iterdir()}
    assert left == {file.name for file in whole.iterdir()}
    assert unfinished_checkpoint(stopped) is None


@pytest.mark.parametrize("name", [*SPACES, "nni-random-oneshot"])
def test_a_search_that_had_ended_is_only_scored(
    name: str,
    tmp_path: Path,
    steps_until: Callable[[int], list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(path: Path, values: Any) -> None:
        if path.name == "scores.json":
            raise Fault
        write_json(path, values)

    whole = search(name, tmp_path / "whole") if name in SPACES else None
    monkeypatch.setattr(one_search, "write_json", full)
    with pytest.raises(Fault):
        search(name, tmp_path / "stopped")
    monkeypatch.setattr(one_search, "write_json", write_json)
    steps_until(0)
    stopped = search(name, tmp_path / "stopped")
    if whole is not None:  # NNI draws without a seed
        assert scores(stopped) == scores(whole)
    assert len(scores(stopped)["scores"]) == len(found(stopped)["ranking"])


def test_a_search_without_a_checkpoint_begins_anew(
    tmp_path: Path, steps_until: Callable[[int], list[int]]
) -> None:
    whole = search("uniform", tmp_path / "whole")
    steps_until(2)
    with pytest.raises(Fault):
        search("uniform", tmp_path / "stopped")
    assert unfinished_checkpoint(tmp_path / "stopped") is None
    made = steps_until(1000)
    assert scores(search("uniform", tmp_path / "stopped")) == scores(whole)
    assert len(made) == STEPS


def test_a_search_that_was_begun_with_other_settings_is_refused_and_kept(
    tmp_path: Path, steps_until: Callable[[int], list[int]]
) -> None:
    steps_until(STEPS - 1)
    with pytest.raises(Fault):
        search("mcts", tmp_path)
    with pytest.raises(ValueError, match="steps must be 6, got 7"):
        search("mcts", tmp_path, steps=7)
    assert unfinished_checkpoint(tmp_path) is not None

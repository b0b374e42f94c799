"""Searches in folders, stopped by a signal in the middle of a step, and gone on with."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from nas_ext.cli import app
from nas_ext.data import digits, load
from nas_ext.interrupts import Stopped
from nas_ext.oneshot import rewards
from nas_ext.results import SearchResult
from nas_ext.runs import Training, new_folder, search_images
from nas_ext.strategies import MCTS

RUNNER = CliRunner()
STEPS = 9
TRAINING = Training(
    steps=STEPS, batch_size=300, validation_batch_size=64, device="cpu", progress=False
)


@pytest.fixture(autouse=True)
def usual_signals() -> Iterator[None]:
    """Answer signals as a shell's foreground does: what runs in its background ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def signals_at(*numbers: int, step: int) -> Callable[..., float]:
    """A reward that is accuracy, and sends this process signals when it is asked for one."""
    asked = [0]

    def accuracy(module: Any, batch: Any) -> float:
        asked[0] += 1
        if asked[0] == step:
            for number in numbers:
                os.kill(os.getpid(), number)
        return rewards.accuracy(module, batch)

    accuracy.__qualname__ = "accuracy"  # the settings are those of a search with the default
    return accuracy


def run(out: Path, **settings: Any) -> SearchResult:
    given: dict[str, Any] = {"strategy": MCTS(seed=1), "training": TRAINING, **settings}
    strategy = given.pop("strategy")
    given.setdefault("data_source", {"source": "digits", "seed": 0, "image_size": None})
    return search_images(strategy, "mini-pooling", digits(seed=0), out=out, **given)


def stop(out: Path, *numbers: int, step: int = 4, **settings: Any) -> Stopped:
    """Begin a search that is stopped in a step, and return what it says."""
    with pytest.raises(Stopped) as stopped:
        run(out, strategy=MCTS(seed=1, reward=signals_at(*numbers, step=step)), **settings)
    return stopped.value


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run a search that nothing stops."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    run(out)
    return out


def check_same(out: Path, whole: Path) -> None:
    """Hold two folders against each other: all but the seconds and where it was made."""
    found = [json.loads((folder / "search.json").read_text()) for folder in (out, whole)]
    for values in found:
        values["budget"].pop("seconds")
        values.pop("manifest")
    assert found[0] == found[1]
    ours, theirs = (load_file(folder / "supernet.safetensors") for folder in (out, whole))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(
    ("number", "step", "phase"), [(signal.SIGINT, 3, "warm-up"), (signal.SIGTERM, 8, "search")]
)
def test_a_signal_lets_the_step_end_and_the_search_goes_on_from_there(
    number: int, step: int, phase: str, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "x"
    stopped = stop(out, number, step=step)
    at = f"step {step} of {STEPS}, in phase {phase!r}"
    how = f"go on with: nas-ext search --resume --out {out}"
    assert str(stopped) == f"stopped, its checkpoint is of {at}; {how}"
    assert stopped.exit_code == 128 + number
    assert sorted(p.name for p in out.iterdir()) == ["checkpoint.ckpt", "nni", "run.json"]
    heard: list[str] = []
    run(out, resume=True, say=heard.append)
    assert heard == [f"{out}: going on from {at}"]
    check_same(out, whole)
    assert not (out / "checkpoint.ckpt").exists()


def test_two_signals_stop_at_once_and_the_checkpoint_before_stays(
    whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "x"
    stopped = stop(out, signal.SIGINT, signal.SIGINT, step=4, checkpoint_steps=1)
    assert stopped.exit_code == 130
    assert "its checkpoint is of step 3 of 9, in phase 'warm-up'" in str(stopped)
    run(out, resume=True)
    check_same(out, whole)


def test_a_search_without_a_checkpoint_yet_begins_anew(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "x"
    stopped = stop(out, signal.SIGINT, signal.SIGINT, step=2)
    assert "it had no checkpoint yet; go on with: nas-ext search --resume" in str(stopped)
    heard: list[str] = []
    run(out, resume=True, say=heard.append)
    assert heard == [f"{out}: there is no checkpoint yet, beginning anew"]
    check_same(out, whole)


def test_a_folder_with_an_unfinished_search_is_refused_without_resume(tmp_path: Path) -> None:
    stop(tmp_path / "x", signal.SIGINT)
    with pytest.raises(ValueError, match=r"out must not hold an unfinished search.* --resume"):
        run(tmp_path / "x")
    with pytest.raises(ValueError, match="unfinished search"):
        new_folder(tmp_path / "x")


def test_other_settings_are_named_when_a_search_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "x"
    stop(out, signal.SIGINT)
    other = replace(TRAINING, steps=12, batch_size=64)
    with pytest.raises(ValueError, match="steps must be 9, got 12; batch_size must be 300, got"):
        run(out, training=other, resume=True)
    with pytest.raises(ValueError, match="seed must be 1, got 2"):
        run(out, strategy=MCTS(seed=2), resume=True)


def test_a_finished_search_is_returned_and_not_run_again(whole: Path) -> None:
    before = (whole / "search.json").read_bytes()
    heard: list[str] = []
    again = run(whole, resume=True, say=heard.append)
    assert heard == [f"{whole}: the search has ended already"]
    assert again == SearchResult.load(whole)
    assert (whole / "search.json").read_bytes() == before


def test_a_damaged_checkpoint_is_named_and_not_passed_over(tmp_path: Path) -> None:
    out = tmp_path / "x"
    stop(out, signal.SIGINT)
    cut = (out / "checkpoint.ckpt").read_bytes()[:1000]
    (out / "checkpoint.ckpt").write_bytes(cut)
    with pytest.raises(ValueError, match=r"checkpoint .*checkpoint\.ckpt cannot be read"):
        run(out, resume=True)


def test_a_search_that_cannot_begin_leaves_nothing_to_go_on_with(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="batch_size must be at most"):
        run(tmp_path / "x", training=replace(TRAINING, batch_size=100_000))
    run(tmp_path / "x")


# The command.


def call(*arguments: str, code: int = 0) -> str:
    result = RUNNER.invoke(app, list(arguments))
    assert result.exit_code == code, (result.output, result.exception)
    return " ".join(result.output.split())


def test_the_command_goes_on_with_nothing_but_the_folder(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "x"
    stop(out, signal.SIGINT)
    printed = call("search", "--resume", "--out", str(out))
    assert "going on from step" in printed
    assert (out / "report.html").exists()
    check_same(out, whole)
    assert "the search has ended already" in call("search", "--resume", "--out", str(out))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", "12"], "--steps must be 9 to go on with"),
        (["--strategy", "uniform"], "--strategy must be 'mcts' to go on with"),
        (["--space", "pooling-resnet20"], "--space must be 'mini-pooling' to go on with"),
        (["--seed", "4"], "--seed must be 0 to go on with"),
        (["--set", "decay=0.5"], "--set decay must be 0.95 to go on with"),
        (["--space-set", "width=8"], "--space-set width must be None to go on with"),
        (["--macs", "1M:2M"], "--macs must be None to go on with"),
        (["--device", "gpu"], "--device must be 'cpu' to go on with"),
    ],
)
def test_options_that_contradict_the_folder_are_named(
    options: list[str], message: str, tmp_path: Path
) -> None:
    (tmp_path / "run.json").write_text(json.dumps(begun()))
    printed = call("search", "--resume", "--out", str(tmp_path), *options, code=2)
    assert message in printed


def begun() -> dict[str, Any]:
    """What a search on digits says in its folder; all that it says is small."""
    return {
        "format": "nas-ext/run-1",
        "space": "mini-pooling",
        "arguments": {},
        "strategy": "MCTS",
        "settings": json.loads(json.dumps(MCTS().settings)),
        "training": {"steps": 9, "batch_size": 300, "device": "cpu"},
        "data": {"source": "digits", "seed": 0, "image_size": None, "digest": "x"},
    }


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda v: v.update(format="nas-ext/run-2"), "run.json was written by a newer nas-ext"),
        (lambda v: v.update(space=3), "space of .*run.json must be a text, got 3"),
        (lambda v: v.update(command=[1]), r"command of .*run.json must be texts, got \[1\]"),
        (lambda v: v.update(strategy="x"), "a strategy or a reward of its own, says run.json"),
        (lambda v: v["settings"].update(decay=[0]), "run.json: decay must be a number"),
        (lambda v: v["training"].update(steps="9"), "run.json: steps must be a whole number"),
        (lambda v: v["training"].update(x=1), "run.json must be whole, got TypeError"),
        (lambda v: v["data"].pop("seed"), "seed of .*run.json must be a whole number, got None"),
        (lambda v: v["data"].update(source=[]), r"source of .*run.json must be a text, got \[\]"),
        (lambda v: v["data"].update(seed=-1), "run.json: seed must be a whole number from 0"),
        (lambda v: v["data"].update(image_size="8"), "image_size of .*run.json must be a side"),
        (lambda v: v["data"].update(image_size=[8]), "run.json: image_size must be a side"),
        (lambda v: v.update(space="x"), "run.json: name must be one of"),
        (lambda v: v["arguments"].update(width=-1), "run.json: .*width"),
        (lambda v: v["arguments"].update(name=1), "run.json must be whole, got TypeError"),
    ],
)
def test_what_a_damaged_run_says_wrongly_is_named_with_its_file(
    damage: Callable[[Any], object], message: str, tmp_path: Path
) -> None:
    values = begun()
    damage(values)
    (tmp_path / "run.json").write_text(json.dumps(values))
    result = RUNNER.invoke(app, ["search", "--resume", "--out", str(tmp_path)])
    assert result.exit_code == 2, (result.output, result.exception)
    assert re.search(message, " ".join(result.output.split())), result.output
    assert sorted(tmp_path.iterdir()) == [tmp_path / "run.json"]


def test_a_folder_without_a_search_and_a_search_without_data_are_refused(tmp_path: Path) -> None:
    printed = call("search", "--resume", "--out", str(tmp_path), code=2)
    assert "out must hold a search to go on with" in printed
    printed = call("search", "--out", str(tmp_path / "new"), code=2)
    assert "--data must be given for a new search" in printed


def test_images_that_have_moved_are_named_and_others_refused(tmp_path: Path) -> None:
    out = tmp_path / "x"
    stop(out, signal.SIGINT)
    begun = json.loads((out / "run.json").read_text())
    begun["data"]["source"] = "/no/longer/there"
    (out / "run.json").write_text(json.dumps(begun))
    assert "data must be 'digits'" in call("search", "--resume", "--out", str(out), code=2)
    call("search", "--resume", "--out", str(out), "--data", "digits")
    assert SearchResult.load(out).data["digest"] == load("digits", seed=0).digest

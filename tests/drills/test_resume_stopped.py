"""Ctrl-C and SIGTERM to real commands and all of their processes: one line, and how to go on."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.drill

SEARCH = ["search", "--data", "digits", "--space", "mini-pooling", "--strategy", "mcts"]
SEARCH += ["--batch-size", "64", "--validation-batch-size", "64", "--device", "cpu"]
SPACE = ["pooling-resnet", "--space-set", "widths=[2,2,2]", "--space-set", "poolings=1"]
TRUTH = ["ground-truth", *SPACE, "--data", "digits", "--image-size", "0", "--seeds", "4"]


def to_all(command: Any, number: int) -> None:
    """Send a signal as a terminal does: to the whole group of processes."""
    os.killpg(command.pid, number)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_search_finishes_its_step_and_says_how_to_go_on(
    number: int, code: int, start: Callable[..., Any], tmp_path: Path
) -> None:
    out = tmp_path / "x"
    argv = [*SEARCH, "--steps", "100000", "--checkpoint-steps", "5", "--out", out, "--json"]
    running = start(*argv, start_new_session=True)
    running.wait_for((out / "checkpoint.ckpt").exists)
    to_all(running, number)
    ended, said = running.ended()
    assert ended == code
    wanted = (
        r"stopped, its checkpoint is of step (\d+) of 100000, in phase 'warm-up'; go on with: "
    )
    found = re.fullmatch(wanted + re.escape(f"nas-ext search --resume --out {out}"), said)
    assert found, said
    assert int(found[1]) >= 5
    assert not list(out.rglob(".tmp-*"))


def test_a_second_ctrl_c_stops_at_once(start: Callable[..., Any], tmp_path: Path) -> None:
    out = tmp_path / "x"
    argv = [*SEARCH, "--steps", "100000", "--checkpoint-steps", "5", "--out", out, "--json"]
    running = start(*argv, start_new_session=True)
    running.wait_for((out / "checkpoint.ckpt").exists)
    to_all(running, signal.SIGINT)
    to_all(running, signal.SIGINT)
    ended, said = running.ended()
    assert ended == 130
    assert "go on with: nas-ext search --resume" in said
    assert not list(out.rglob(".tmp-*"))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_ground_truth_ends_with_one_line_and_goes_on(
    workers: int, start: Callable[..., Any], gone: Callable[..., bool], tmp_path: Path
) -> None:
    out = tmp_path / "truth"
    argv = [*TRUTH, "--epochs", "3", "--out", out, "--workers", str(workers)]
    running = start(*argv, start_new_session=True)
    running.wait_for(lambda: list((out / "trainings").glob("*.json")))
    processes = running.workers()
    to_all(running, signal.SIGINT)
    ended, said = running.ended()
    assert ended == 130
    assert said == "stopped; what is finished is kept, the same command goes on"
    assert gone(processes)
    first = {f.name: f.stat().st_mtime_ns for f in (out / "trainings").glob("*.json")}
    assert first
    running = start(*argv)
    assert running.ended()[0] == 0
    now = {f.name: f.stat().st_mtime_ns for f in (out / "trainings").glob("*.json")}
    assert first.items() <= now.items()


def comparison(folder: Path, out: Path, workers: int) -> list[Any]:
    """The arguments of a comparison by a table with two architectures."""
    truth = folder / "truth.csv"
    rows = ['"[1,2]",0 1,100,7,80.00,82.00', '"[2,1]",1 0,200,7,85.00,86.00']
    truth.write_text("\n".join(["name,architecture,macs,parameters,seed0,seed1", *rows, ""]))
    argv = ["compare", "--out", out, "--table", truth, "--space", *SPACE, "--data", "digits"]
    argv += ["--image-size", "0", "--strategies", "uniform mcts", "--seeds", "2"]
    argv += ["--budget", "600", "--batch-size", "32", "--validation-batch-size", "64"]
    return [*argv, "--workers", str(workers)]


@pytest.mark.parametrize(
    ("number", "code", "workers"),
    [(signal.SIGTERM, 143, 1), (signal.SIGTERM, 143, 2), (signal.SIGINT, 130, 2)],
)
def test_a_comparison_saves_the_searches_it_is_at_and_goes_on_from_there(
    number: int,
    code: int,
    workers: int,
    start: Callable[..., Any],
    gone: Callable[..., bool],
    tmp_path: Path,
) -> None:
    out = tmp_path / "compared"
    argv = comparison(tmp_path, out, workers)
    running = start(*argv, start_new_session=True)
    running.wait_for(lambda: list(out.glob("searches/mcts/*/checkpoint.ckpt")))
    processes = running.workers()
    to_all(running, number)
    ended, said = running.ended()
    assert ended == code
    assert said == "stopped; what is finished is kept, the same command goes on"
    assert gone(processes)
    saved = list(out.rglob("checkpoint.ckpt"))
    assert 1 <= len(saved) <= workers
    assert not list(out.rglob(".tmp-*"))
    running = start(*argv)
    said = running.communicate()[1]
    assert running.returncode == 0, said
    assert len(re.findall(r"going on from step \d+ of 600, in phase", said)) == len(saved)
    assert len(list(out.rglob("scores.json"))) == 4


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_workers_that_have_hardly_begun_end_without_a_word(
    number: int, code: int, start: Callable[..., Any], gone: Callable[..., bool], tmp_path: Path
) -> None:
    running = start(*comparison(tmp_path, tmp_path / "compared", 2), start_new_session=True)
    running.wait_for(running.workers)
    processes = running.workers()
    to_all(running, number)
    ended, said = running.ended()
    assert ended == code
    assert said == "stopped; what is finished is kept, the same command goes on"
    assert gone(processes)


def test_a_retraining_ends_with_one_line_and_goes_on(
    start: Callable[..., Any], gone: Callable[..., bool], tmp_path: Path
) -> None:
    searched = tmp_path / "study"
    small = [*SEARCH, "--steps", "6", "--out", searched, "--json"]
    assert start(*small).ended()[0] == 0
    argv = ["retrain", searched, "--trials", "2", "--epochs", "20", "--seeds", "2"]
    running = start(*argv, "--workers", "2", start_new_session=True)
    running.wait_for(lambda: list(searched.rglob("ckpt/*")))
    processes = running.workers()
    to_all(running, signal.SIGINT)
    ended, said = running.ended()
    assert ended == 130, said
    assert "stopped" in said
    assert gone(processes)
    assert list(searched.rglob("ckpt/*"))
    assert start(*argv, "--workers", "2").ended()[0] == 0
    assert list(searched.rglob("final.json"))
    assert not list(searched.rglob("ckpt/*"))

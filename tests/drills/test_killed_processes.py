"""kill -9 of workers and of the command that started them: named, nothing lost, no orphans."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nas_ext.ground_truth import GroundTruth, measure

pytestmark = pytest.mark.drill

SPACE = ["--space-set", "widths=[2,2,2]", "--space-set", "poolings=1"]
IMAGES = ["--data", "digits", "--image-size", "0"]
TRAININGS = ["--seeds", "4", "--epochs", "3", "--batch-size", "32", "--workers", "2"]
STUDY = Path(__file__).parents[1] / "retrain" / "study_program.py"


def kept(out: Path) -> dict[str, int]:
    """The files of finished trainings, each with the time it was written."""
    return {file.name: file.stat().st_mtime_ns for file in (out / "trainings").glob("*.json")}


def test_a_ground_truth_survives_its_workers_and_its_parent(
    start: Callable[..., Any], gone: Callable[..., bool], tmp_path: Path
) -> None:
    out = tmp_path / "truth"
    argv = ["ground-truth", "pooling-resnet", "--out", out, *SPACE, *IMAGES, *TRAININGS]
    # a worker is killed
    running = start(*argv)
    running.wait_for(lambda: len(kept(out)) >= 2)
    workers = running.workers()
    assert len(workers) == 2
    workers[0].kill()
    code, said = running.ended()
    assert code == 2
    wanted = rf"Error: worker process {workers[0].pid} was killed \(SIGKILL\) in the training of "
    assert re.search(wanted + r"\[\d,\d\] with seed \d: .* same call", said), said
    assert gone(workers)
    first = kept(out)
    assert 2 <= len(first) < 8
    # the parent is killed
    running = start(*argv)
    running.wait_for(lambda: len(kept(out)) > len(first))
    workers = running.workers()
    running.kill()
    assert gone(workers)
    second = kept(out)
    # nothing that was finished is done again, and the table is that of one process
    running = start(*argv)
    assert running.ended()[0] == 0
    assert first.items() <= second.items() <= kept(out).items()
    assert not list(out.rglob(".tmp-*"))
    settings = json.loads((out / "ground-truth.json").read_text())["settings"]
    alone = measure(GroundTruth.from_json(settings), out=tmp_path / "alone")
    assert (out / "ground-truth.csv").read_bytes() == alone.read_bytes()


def comparison(folder: Path, out: Path, *, budget: int) -> list[Any]:
    """The arguments of a comparison by a table with two architectures."""
    truth = folder / "truth.csv"
    rows = ['"[1,2]",0 1,100,7,80.00,82.00', '"[2,1]",1 0,200,7,85.00,86.00']
    truth.write_text("\n".join(["name,architecture,macs,parameters,seed0,seed1", *rows, ""]))
    argv = ["compare", "--out", out, "--table", truth, "--space", "pooling-resnet", *SPACE]
    argv += [*IMAGES, "--strategies", "uniform mcts", "--seeds", "2", "--budget", str(budget)]
    return [*argv, "--batch-size", "32", "--validation-batch-size", "64", "--workers", "2"]


def found(out: Path) -> dict[str, Any]:
    """What the searches of a comparison found, but where and when; its table of runs."""
    values: dict[str, Any] = {"runs": (out / "runs.csv").read_text()}
    places = (out / "searches").glob("*/*")
    for file in (place / name for place in places for name in ("scores.json", "search.json")):
        left = json.loads(file.read_text())
        left.pop("manifest")
        left.get("budget", {}).pop("seconds", None)
        values[str(file.relative_to(out))] = left
    return values


def test_a_comparison_killed_in_the_middle_of_its_searches_goes_on_from_their_checkpoints(
    start: Callable[..., Any], gone: Callable[..., bool], tmp_path: Path
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "killed"
    assert start(*comparison(tmp_path, whole, budget=600)).ended()[0] == 0
    argv = comparison(tmp_path, out, budget=600)
    running = start(*argv)
    running.wait_for(lambda: list(out.glob("searches/mcts/*/checkpoint.ckpt")))
    workers = running.workers()
    running.kill()  # the workers end with it, wherever they are
    assert gone(workers)
    running.communicate()
    places = list(out.glob("searches/mcts/*/checkpoint.ckpt"))
    assert places
    assert not [file for file in places if (file.parent / "scores.json").exists()]
    running = start(*argv)
    said = running.communicate()[1]
    assert running.returncode == 0, said
    for place in places:
        seed = place.parent.name.removeprefix("seed")
        assert re.search(rf"mcts, seed {seed}: going on from step \d+ of 600, in phase", said), (
            said
        )
    assert found(out) == found(whole)


def test_a_comparison_survives_its_workers(
    start: Callable[..., Any], gone: Callable[..., bool], tmp_path: Path
) -> None:
    out = tmp_path / "compared"
    argv = comparison(tmp_path, out, budget=150)
    running = start(*argv)
    searches = out / "searches"
    running.wait_for(lambda: list(searches.rglob("scores.json")))
    workers = running.workers()
    workers[-1].kill()
    code, said = running.ended()
    assert code == 2
    assert re.search(r"was killed \(SIGKILL\) in (uniform|mcts) with seed \d", said), said
    assert gone(workers)
    done = {file: file.stat().st_mtime_ns for file in searches.rglob("scores.json")}
    assert start(*argv).ended()[0] == 0
    assert all(file.stat().st_mtime_ns == time for file, time in done.items())
    assert len(list(searches.rglob("scores.json"))) == 4
    assert json.loads((out / "result.json").read_text())["means"].keys() == {"uniform", "mcts"}


def test_the_workers_of_a_study_end_with_their_parent_and_it_goes_on(
    program: Callable[..., Any], gone: Callable[..., bool], tmp_path: Path
) -> None:
    running = program(STUDY, tmp_path, "--jobs", "2", "--trials", "4")
    running.wait_for(lambda: list((tmp_path / "ckpt").glob("*.pt")))
    workers = running.workers()
    assert len(workers) == 2
    running.kill()
    assert gone(workers)
    assert program(STUDY, tmp_path, "--jobs", "2", "--trials", "4").ended()[0] == 0
    assert not list((tmp_path / "ckpt").glob("*"))

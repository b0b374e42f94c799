"""kill -9 of searches at moments nobody chose: --resume ends at the same bits."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

pytestmark = pytest.mark.drill

PROGRAM = Path(__file__).with_name("experiment_program.py")
STEPS = 40
IMAGES = ["--data", "digits", "--batch-size", "64", "--validation-batch-size", "64"]
HOW = ["--device", "cpu", "--steps", str(STEPS), "--checkpoint-steps", "2"]
POOLING = ["--space", "mini-pooling"]
LAYERS = ["--space", "nasbench-macro", "--space-set", "widths=[8,8,8]", "--space-set", "stem=8"]
LAYERS += ["--space-set", "layers=[1,1,1]", "--space-set", "head=8"]

SEARCHES = {
    "learned-tree": POOLING,
    "iterative-mcts": POOLING,
    "balanced-mixture": POOLING,
    "prototype-density": [*POOLING, "--set", "prototypes=5"],
    "pada": POOLING,
    "strict-fairness": POOLING,
    "gaea": LAYERS,
}


def check_same(out: Path, whole: Path) -> None:
    """Hold draws, rewards, ranking, budget, tree and weights against each other, bit for bit."""
    found = [json.loads((folder / "search.json").read_text()) for folder in (out, whole)]
    for values in found:
        values["budget"].pop("seconds")
        values.pop("manifest")
    assert found[0] == found[1]
    ours, theirs = (load_file(folder / "supernet.safetensors") for folder in (out, whole))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def times_written(file: Path, *, count: int) -> Callable[[], bool]:
    """Say whether a file was written so many times, each time under a new inode."""
    seen: set[tuple[int, int]] = set()

    def enough() -> bool:
        if file.exists():
            found = file.stat()
            seen.add((found.st_ino, found.st_mtime_ns))
        return len(seen) >= count

    return enough


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_killed_twice_ends_as_one_that_was_not(
    name: str, start: Callable[..., Any], tmp_path: Path
) -> None:
    argv = ["search", *IMAGES, *HOW, "--strategy", name, *SEARCHES[name], "--json"]
    whole, out = tmp_path / "whole", tmp_path / "killed"
    assert start(*argv, "--out", whole).ended()[0] == 0
    chance = random.Random(name)
    for attempt in range(2):
        again = [*argv, "--out", out] if attempt == 0 else ["search", "--resume", "--out", out]
        running = start(*again, *([] if attempt == 0 else ["--checkpoint-steps", "1", "--json"]))
        running.wait_for(times_written(out / "checkpoint.ckpt", count=chance.randint(2, 5)))
        time.sleep(chance.random() / 20)
        running.kill()
        running.communicate()
        assert not (out / "search.json").exists()
    running = start("search", "--resume", "--out", out, "--json")
    code, said = running.ended()
    assert code == 0
    assert "going on from step" in said
    check_same(out, whole)


def test_a_search_killed_before_its_first_checkpoint_begins_anew(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    argv = ["search", *IMAGES, *POOLING, "--device", "cpu", "--steps", "30", "--json"]
    whole, out = tmp_path / "whole", tmp_path / "killed"
    assert start(*argv, "--out", whole).ended()[0] == 0
    running = start(*argv, "--out", out)
    running.wait_for((out / "run.json").exists)
    running.kill()
    running.communicate()
    code, said = start(*argv, "--out", out).ended()
    assert code == 2
    assert "unfinished search" in said
    assert "--resume" in said
    code, said = start("search", "--resume", "--out", out, "--json").ended()
    assert code == 0
    assert "going on from" in said or "there is no checkpoint yet, beginning anew" in said
    check_same(out, whole)


def test_an_experiment_of_nni_goes_on_from_what_lightnings_callback_kept(
    program: Callable[..., Any], tmp_path: Path
) -> None:
    whole = program(PROGRAM, "whole")
    assert whole.ended()[0] == 0
    running = program(PROGRAM, "killed", "--kill-at", "17")
    assert running.wait() == -9
    assert list((tmp_path / "killed").rglob("*.ckpt"))
    running = program(PROGRAM, "killed", "--resume")
    code, _ = running.ended()
    assert code == 0
    first, second = (
        json.loads((tmp_path / name / "left.json").read_text()) for name in ("whole", "killed")
    )
    assert second.pop("began_at") > 0
    assert first.pop("began_at") == 0
    assert first == second

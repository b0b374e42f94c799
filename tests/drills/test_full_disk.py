"""A disk that fills up: one line, no file torn, and the same run goes on once there is room."""

from __future__ import annotations

import json
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nas_ext.results import SearchResult

pytestmark = pytest.mark.drill

SEARCH = ["--data", "digits", "--space", "pooling-resnet", "--space-set", "widths=[2,2,2]"]
SEARCH += ["--space-set", "poolings=1", "--strategy", "mcts", "--steps", "30"]
SEARCH += ["--batch-size", "16", "--validation-batch-size", "64", "--device", "cpu"]
TRUTH = ["ground-truth", "pooling-resnet", "--space-set", "widths=[2,2,2]"]
TRUTH += ["--space-set", "poolings=1", "--data", "digits", "--image-size", "0"]
TRUTH += ["--seeds", "2", "--epochs", "1"]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a megabyte, where this process may make one."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    try:
        made = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        made = False
    if not made:
        pytest.skip("only root may mount a small disk; see the variant with a limit on files")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(disk: Path, *, leave: int) -> Path:
    """Fill a disk but for some bytes, and return the file to remove."""
    filler = disk / "filler"
    with open(filler, "wb", buffering=0) as file:
        space = os.statvfs(disk)
        file.write(bytes(max(0, space.f_bavail * space.f_frsize - leave)))
    return filler


def whole(out: Path) -> None:
    """Every JSON file can be read, and no temporary one is left."""
    assert not list(out.rglob(".tmp-*"))
    for file in out.glob("**/*.json"):
        if "nni" not in file.relative_to(out).parts:
            json.loads(file.read_text())


@pytest.mark.parametrize("leave", [0, 24_000])
def test_a_search_on_a_full_disk_goes_on_when_there_is_room(
    leave: int, start: Callable[..., Any], disk: Path
) -> None:
    out = disk / "run"
    filler = fill(disk, leave=leave)
    code, said = start("search", *SEARCH, "--out", out, "--checkpoint-steps", "10").ended()
    assert (code, said[:7]) == (2, "Error: ")
    assert "No space left on device" in said
    whole(out)
    filler.unlink()
    begun = (out / "run.json").exists()
    again = ["--resume"] if begun else SEARCH
    assert start("search", *again, "--out", out).ended()[0] == 0
    whole(out)
    assert len(SearchResult.load(out).draws) == 30


def test_a_ground_truth_on_a_full_disk_keeps_what_is_finished(
    start: Callable[..., Any], disk: Path
) -> None:
    out = disk / "truth"
    running = start(*TRUTH, "--out", out)
    running.wait_for(lambda: list((out / "trainings").glob("0*.json")))
    filler = fill(disk, leave=0)
    code, said = running.ended()
    assert (code, said[:7]) == (2, "Error: ")
    assert "No space left on device" in said
    whole(out)
    first = {file: file.stat().st_mtime_ns for file in (out / "trainings").glob("*.json")}
    assert 1 <= len(first) < 4
    filler.unlink()
    assert start(*TRUTH, "--out", out).ended()[0] == 0
    assert all(file.stat().st_mtime_ns == time for file, time in first.items())
    assert (out / "ground-truth.csv").read_text().count("\n") == 3


def test_a_file_that_may_not_grow_is_named_and_the_search_goes_on(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    limit = 16_000  # less than the weights, the checkpoint and NNI's log need
    code, said = start(
        "search",
        *SEARCH,
        *("--out", out),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    ).ended()
    assert (code, said[:7]) == (2, "Error: ")
    assert "File too large" in said
    whole(out)
    assert start("search", "--resume", "--out", out).ended()[0] == 0
    assert len(SearchResult.load(out).draws) == 30

"""Folders that cannot be written: one line and exit code 2, before anything is computed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nas_ext.cli import app

SPACE = ["--space-set", "widths=[2,2,2]", "--space-set", "poolings=1"]
COMMANDS: dict[str, list[str]] = {
    "search": ["search", "--data", "digits", "--space", "pooling-resnet", *SPACE],
    "ground-truth": ["ground-truth", "pooling-resnet", *SPACE, "--data", "digits"],
    "compare": ["compare", "--strategies", "uniform mcts", "--seeds", "2"],
    "demo": ["demo"],
}
COMMANDS["ground-truth"] += ["--image-size", "0"]


def refused(arguments: list[str], out: Path) -> str:
    """Return the one line that a command says as it refuses."""
    done = CliRunner().invoke(app, [*arguments, "--out", str(out)])
    assert done.exit_code == 2, done.output
    assert isinstance(done.exception, SystemExit)
    lines = [line for line in done.output.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1, done.output
    return lines[0]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_in_place_of_the_folder_or_above_it_is_named(command: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    assert "file" in refused(COMMANDS[command], file)
    assert "file" in refused(COMMANDS[command], file / "inside")
    assert file.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("command", ["search", "ground-truth", "compare"])
@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() == 0, reason="root writes anywhere")
def test_a_read_only_folder_is_named(command: str, tmp_path: Path) -> None:
    folder = tmp_path / "sealed"
    folder.mkdir(mode=0o500)
    said = refused(COMMANDS[command], folder / "run")
    assert "sealed" in said
    assert "denied" in said


@pytest.mark.parametrize("command", ["search", "ground-truth", "compare"])
@pytest.mark.skipif(not Path("/proc/sys").is_dir(), reason="even root may not write there")
def test_a_folder_on_a_read_only_disk_is_named(command: str) -> None:
    assert "/proc/sys/run" in refused(COMMANDS[command], Path("/proc/sys/run"))

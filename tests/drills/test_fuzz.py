"""The fuzzers of tests/fuzz with ten times the inputs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.drill
@pytest.mark.parametrize("part", ["files", "settings", "command_line"])
def test_ten_times_the_damaged_inputs_are_read_or_refused(part: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider"]
    run = subprocess.run(
        [*command, f"tests/fuzz/test_{part}.py"],
        cwd=ROOT,
        env={**os.environ, "NAS_EXT_FUZZ": "10"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
    print(*(line for line in run.stdout.splitlines() if "tried" in line or "fuzzed" in line))

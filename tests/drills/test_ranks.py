"""Two processes train one supernet, and one of them dies: the other ends too, and says why."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = pytest.mark.drill

PROGRAM = Path(__file__).with_name("ranks_program.py")
OTHER = "RankDied: another of the 2 processes ended"
SECONDS = 30
"""How long the other may take: it notices at its next exchange, and ends Python and NNI."""


@pytest.mark.parametrize(
    ("fault", "rank", "said"),
    [
        ("kill", 1, ""),
        ("kill", 0, ""),
        ("error", 1, "OSError: image 17 cannot be read"),
        (
            "nan",
            0,
            r"SearchDiverged: the loss became nan at step 3 of 15, in phase 'warm-up', arc",
        ),
    ],
)
def test_the_other_process_ends_soon_and_says_why(
    fault: str, rank: int, said: str, program: Callable[..., Any], tmp_path: Path
) -> None:
    running = program(PROGRAM, tmp_path, fault, rank)
    running.wait_for(lambda: (tmp_path / "faulty").exists())
    begun = time.monotonic()
    pids = [int((tmp_path / f"rank{number}").read_text()) for number in range(2)]
    errors = running.communicate(timeout=120)[1]  # both write there: until both have ended
    assert time.monotonic() - begun < SECONDS
    assert running.returncode != 0
    for pid in pids:
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie"
    assert re.search(OTHER, errors), errors[-3000:]
    assert re.search(said, errors), errors[-3000:]

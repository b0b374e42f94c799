"""NNI's home and its manager's port belong to somebody else: a search needs neither."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = pytest.mark.drill

SEARCH = ["search", "--data", "digits", "--space", "pooling-resnet", "--json"]
SEARCH += ["--space-set", "widths=[2,2,2]", "--space-set", "poolings=1", "--steps", "200"]
SEARCH += ["--batch-size", "16", "--validation-batch-size", "64", "--device", "cpu"]


@pytest.mark.parametrize("home", ["damaged", "a file"])
def test_a_search_opens_no_port_and_does_not_touch_the_home(
    home: str, start: Callable[..., Any], tmp_path: Path
) -> None:
    place = tmp_path / "home"
    place.mkdir()
    if home == "damaged":
        (place / "nni-experiments").mkdir()
        (place / "nni-experiments" / ".experiment").write_bytes(b"\x00{broken")
        (place / "nni-experiments" / ".experiment.lock.1").touch()
    else:
        (place / "nni-experiments").write_text("no folder")
    before = sorted(place.rglob("*"))
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):  # somebody has it already: as good
            taken.bind(("127.0.0.1", 8080))  # NNI's default
            taken.listen()
        running = start(
            *SEARCH,
            *("--out", tmp_path / "run"),
            env={"HOME": str(place), "MPLCONFIGDIR": os.environ.get("MPLCONFIGDIR", "/tmp/mpl")},
        )
        process = psutil.Process(running.pid)
        running.wait_for(lambda: (tmp_path / "run" / "nni").exists())
        found = [p.net_connections("inet") for p in (process, *process.children(recursive=True))]
        assert [c for some in found for c in some if c.status == psutil.CONN_LISTEN] == []
        output, errors = running.communicate(timeout=240)
    assert running.returncode == 0, errors
    assert json.loads(output)["ranking"]
    assert before == sorted(place.rglob("*"))

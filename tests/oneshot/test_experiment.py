"""NNI's experiment starts no manager, and what lies about in its folder does no harm."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from nas_ext.nni import Lightning
from nas_ext.oneshot import SearchExperiment, SupernetTraining
from nas_ext.results import SearchResult
from nas_ext.strategies import Uniform

Make = Callable[..., Any]


@pytest.fixture
def experiment(tiny: Make, trainer: Make, train: Make, val: Make) -> Callable[[Path], Any]:
    """Make an experiment in a folder."""

    def make(out: Path) -> Any:
        evaluator = Lightning(
            SupernetTraining(), trainer(), train_dataloaders=train(), val_dataloaders=val()
        )
        return SearchExperiment(tiny(), evaluator, Uniform(out=out), out=out)

    return make


def listening() -> set[int]:
    """The ports on which this process and its children wait for connections."""
    me = psutil.Process()
    found = (c for p in (me, *me.children(recursive=True)) for c in p.net_connections("inet"))
    return {c.laddr.port for c in found if c.status == psutil.CONN_LISTEN}


def test_a_taken_port_of_nnis_manager_does_not_matter(
    experiment: Callable[[Path], Any], tmp_path: Path
) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        before = listening()
        made = experiment(tmp_path)
        made.run(port=taken.getsockname()[1])
        assert listening() == before
        made.stop()
    assert SearchResult.load(tmp_path / "search.json").draws
    (listed,) = json.loads((tmp_path / "nni" / ".experiment").read_text()).values()
    assert (listed["id"], listed["status"], listed["port"]) == (made.id, "STOPPED", "N/A")


@pytest.mark.parametrize("left", [b"", b"{", b"[1, 2]", b"\xff\xfe", b'{"x": 3}'])
def test_a_damaged_list_of_experiments_does_not_matter(
    left: bytes, experiment: Callable[[Path], Any], tmp_path: Path
) -> None:
    (tmp_path / "nni").mkdir()
    (tmp_path / "nni" / ".experiment").write_bytes(left)
    made = experiment(tmp_path)
    made.run()
    made.stop()
    listed = json.loads((tmp_path / "nni" / ".experiment").read_text())
    assert listed[made.id]["status"] == "STOPPED"
    assert set(listed) == {made.id} | ({"x"} if left == b'{"x": 3}' else set())


def test_a_lock_that_a_killed_process_left_in_the_future_does_not_matter(
    experiment: Callable[[Path], Any], tmp_path: Path
) -> None:
    # NNI's own lock is stale two seconds after its file's time: never, if the clock went back
    (tmp_path / "nni").mkdir()
    lock = tmp_path / "nni" / ".experiment.lock.4711"
    lock.touch()
    os.utime(lock, (time.time() + 10**6, time.time() + 10**6))
    made = experiment(tmp_path)
    made.run()
    made.stop()
    assert (tmp_path / "search.json").exists()


def test_a_file_in_place_of_the_folder_is_named(
    experiment: Callable[[Path], Any], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        experiment(tmp_path / "file" / "out")

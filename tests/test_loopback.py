"""NNI's manager listens on the loopback alone, seen from the operating system."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from nas_ext.loopback import on_loopback

# NNI brings a Node of its own; where its wheel does not, there is no manager either.
NODE = Path(pytest.importorskip("nni_node").__file__).parent / "node"

MANAGER = """
import sys
from nni.experiment import Experiment
from nas_ext.loopback import on_loopback

experiment = Experiment("local")
config = experiment.config
config.search_space = {"x": {"_type": "choice", "_value": [0]}}
config.tuner.name = "Random"
config.trial_command = f"{sys.executable} -c pass"
config.trial_code_directory = sys.argv[1]
config.trial_concurrency = 1
config.max_trial_number = 1
config.experiment_working_directory = sys.argv[1]
with on_loopback():
    experiment.start(int(sys.argv[2]), False)
    sys.stdin.readline()
    experiment.stop()
"""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def listening(process: psutil.Process) -> set[tuple[str, int]]:
    """Return the addresses on which a process and its children wait for connections."""
    family = [process, *process.children(recursive=True)]
    found = set()
    for one in family:
        with suppress(psutil.Error):  # one that ended meanwhile listens no more
            for line in one.net_connections(kind="inet"):
                if line.status == psutil.CONN_LISTEN:
                    found.add((str(line.laddr[0]), int(line.laddr[1])))
    return found


@pytest.mark.skipif(not NODE.exists(), reason="NNI's wheel has no Node here")
@pytest.mark.skipif(sys.platform != "linux", reason="sockets of children need rights elsewhere")
def test_nnis_manager_listens_on_the_loopback_alone(tmp_path: Path) -> None:
    home = {**os.environ, "HOME": str(tmp_path)}
    port = free_port()
    command = [sys.executable, "-c", MANAGER, str(tmp_path), str(port)]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True, env=home
    ) as run:
        try:
            # While it starts: NNI's manager sometimes stops by itself when a tuner is slow.
            found: set[tuple[str, int]] = set()
            deadline = time.monotonic() + 90
            while not found and run.poll() is None and time.monotonic() < deadline:
                found = listening(psutil.Process(run.pid))
                time.sleep(0.05)
        finally:
            run.communicate("\n", timeout=120)
    assert ("127.0.0.1", port) in found
    assert {address for address, _ in found} == {"127.0.0.1"}


@pytest.mark.skipif(shutil.which("node") is None and not NODE.exists(), reason="no Node here")
@pytest.mark.parametrize(
    "listen",
    ["listen(0)", "listen('0')", "listen(0, done)", "listen({port: 0})", "listen(0, undefined)"],
)
def test_a_server_that_names_no_address_gets_the_loopback(listen: str) -> None:
    program = (
        "const server = require('http').createServer(); const done = () => undefined;"
        f"server.{listen}; server.on('listening', () => {{"
        "console.log(server.address().address); server.close(); });"
    )
    node = str(NODE) if NODE.exists() else "node"
    with on_loopback():
        run = subprocess.run([node, "-e", program], capture_output=True, text=True, timeout=60)
    assert run.stdout == "127.0.0.1\n", run.stderr


@pytest.mark.parametrize("before", [None, "--no-deprecation"])
def test_nodes_options_are_put_back(before: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NODE_OPTIONS", raising=False)
    if before is not None:
        monkeypatch.setenv("NODE_OPTIONS", before)
    with on_loopback():
        assert os.environ["NODE_OPTIONS"].startswith(before or "--require")
    assert os.environ.get("NODE_OPTIONS") == before

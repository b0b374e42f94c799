"""Ten thousand steps of every strategy, and nothing grows: memory, open files, processes."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from nas_ext.strategies.registry import STRATEGIES

PROGRAM = Path(__file__).with_name("load_program.py")
AT_ONCE = 2
BYTES_A_STEP = 150
"""What a step may leave for good, whatever 1 % of the process is: a draw is 28 bytes in arrays
that double, the rest is the noise of a few pages."""

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="memory and files are read from /proc"
)


class Loads:
    """Run searches in fresh processes, a few at a time, and hand out what they held on to."""

    def __init__(self, at_once: int) -> None:
        self._waiting: queue.Queue[tuple[str, Future[dict[str, Any]]] | None] = queue.Queue()
        self._hands = [threading.Thread(target=self._work) for _ in range(at_once)]
        for hand in self._hands:
            hand.start()

    def begin(self, strategy: str, steps: int, *, leak: int = 0) -> Future[dict[str, Any]]:
        """Queue a search."""
        future: Future[dict[str, Any]] = Future()
        self._waiting.put((f"{strategy} {steps} {leak}", future))
        return future

    def end(self) -> None:
        """Finish what is queued, and the processes."""
        for _ in self._hands:
            self._waiting.put(None)
        for hand in self._hands:
            hand.join()

    def _work(self) -> None:
        with subprocess.Popen(
            [sys.executable, "-W", "ignore", str(PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        ) as server:
            assert server.stdin is not None
            assert server.stdout is not None
            while (task := self._waiting.get()) is not None:
                line, future = task
                server.stdin.write(line + "\n")
                server.stdin.flush()
                answers = iter(server.stdout.readline, "")
                found = next((text for text in answers if text.startswith("{")), '{"failed": 1}')
                future.set_result(json.loads(found))


@pytest.fixture(scope="module")
def all_strategies() -> Iterator[dict[str, Future[dict[str, Any]]]]:
    """Begin with every strategy, two at a time: the tests wait for theirs."""
    loads = Loads(AT_ONCE)
    yield {name: loads.begin(name, 10_000) for name in STRATEGIES}
    loads.end()


def growth(found: dict[str, Any], name: str, first: int) -> int:
    """Return by how much a number grew between a row and the last one."""
    return int(found["rows"][-1][name]) - int(found["rows"][first][name])


def check(found: dict[str, Any], steps: int, first: int) -> None:
    assert "failed" not in found
    assert found["steps"] == steps
    assert len(found["rows"]) == 10
    for name in ("resident", "own"):
        assert growth(found, name, first) <= 0.01 * found["rows"][first][name], found["rows"]
    assert [growth(found, name, first) for name in ("files", "threads", "children")] == [0, 0, 0]


@pytest.mark.drill
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_ten_thousand_steps_hold_no_more_than_the_first_thousand(
    strategy: str, all_strategies: dict[str, Future[dict[str, Any]]]
) -> None:
    found = all_strategies[strategy].result(timeout=900)
    check(found, 10_000, 0)
    assert growth(found, "own", 0) <= BYTES_A_STEP * 9_000, found["rows"]
    print(
        f"{strategy}: {1e3 * found['seconds'] / 10_000:.1f} ms a step, "
        f"{growth(found, 'own', 0) / 9_000:.0f} bytes a step of "
        f"{found['rows'][0]['own'] / 1e6:.0f} MB"
    )


def test_five_hundred_steps_hold_no_more_than_the_first_fifty_and_a_leak_shows() -> None:
    loads = Loads(1)
    sampled = ("uniform", "learned-tree", "gaea")
    searches = [loads.begin(name, 500) for name in sampled]
    leaking = loads.begin("uniform", 500, leak=20_000)
    loads.end()
    for search in searches:
        check(search.result(), 500, 0)
    # The control: 20,000 bytes at each of 450 steps are 9 MB, which the watch must not miss.
    assert growth(leaking.result(), "own", 0) == pytest.approx(9_000_000, rel=0.1)
    with pytest.raises(AssertionError, match="own"):
        check(leaking.result(), 500, 0)

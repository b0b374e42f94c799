"""What the speed scripts share: interleaved timing, one line a goal, and a file of the results.

A script is run from the root of the repository as `python -m perf.NAME`, on one thread. With the
environment variable `NAS_EXT_BENCH` naming a folder, `Rows.finish` writes `NAME.json` into it.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

__all__ = ["Row", "Rows", "cpu_seconds", "interleaved", "median_ratio"]


def cpu_seconds(work: Callable[[], object]) -> float:
    """Return the processor seconds that a piece of work takes in this process."""
    start = time.process_time()
    work()
    return time.process_time() - start


def interleaved(*works: Callable[[], object], rounds: int) -> list[list[float]]:
    """Return `[works, rounds]` processor seconds: every work once a round, in turn.

    What is slow on a busy machine is then slow for all sides alike. Warm up before, where a first
    run does more.
    """
    taken = [[cpu_seconds(work) for work in works] for _ in range(rounds)]
    return [list(side) for side in zip(*taken, strict=True)]


def median_ratio(slow: list[float], fast: list[float]) -> float:
    """Return the median over the rounds of the ratio within a round."""
    return statistics.median(one / other for one, other in zip(slow, fast, strict=True))


@dataclass(frozen=True)
class Row:
    """Be one measured goal: a value that must be at least, or at most, so much."""

    name: str
    value: float
    goal: float
    at_most: bool = False

    @property
    def met(self) -> bool:
        """Say whether the value reaches the goal."""
        return self.value <= self.goal if self.at_most else self.value >= self.goal


@dataclass
class Rows:
    """Collect the rows of one script."""

    script: str
    rows: list[Row] = field(default_factory=list)

    def add(self, name: str, value: float, goal: float, *, at_most: bool = False) -> None:
        """Keep one value and print its line: name, value, goal, pass or fail."""
        row = Row(name, float(value), float(goal), at_most)
        self.rows.append(row)
        print(f"{name}  {value:.4g}  {goal:.4g}  {'pass' if row.met else 'fail'}", flush=True)

    def finish(self) -> int:
        """Write the file where one is asked for; return 0 when every goal is met."""
        folder = os.environ.get("NAS_EXT_BENCH")
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            text = json.dumps(self._as_json(), indent=2) + "\n"
            (Path(folder) / f"{self.script}.json").write_text(text, encoding="utf-8")
        return 0 if all(row.met for row in self.rows) else 1

    def _as_json(self) -> dict[str, Any]:
        return {
            "script": self.script,
            "rows": [{**asdict(row), "met": row.met} for row in self.rows],
            "machine": {"platform": platform.platform(), "cores": os.cpu_count()},
            "versions": {name: version(name) for name in ("numpy", "torch")},
            "python": platform.python_version(),
        }

"""Real commands in processes of their own, which drills start, watch, kill and start again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

PATIENCE = 240


class Command(subprocess.Popen[str]):
    """A command of nas-ext, or another program, with one thread."""

    def __init__(self, *arguments: Any, cwd: Path, **options: Any) -> None:
        given = {**os.environ, "OMP_NUM_THREADS": "1", **options.pop("env", {})}
        super().__init__(
            [sys.executable, "-W", "ignore", *map(str, arguments)],
            env=given,
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def workers(self) -> list[psutil.Process]:
        """The processes that it started through multiprocessing."""
        found = psutil.Process(self.pid).children(recursive=True)
        return [one for one in found if "spawn_main" in " ".join(_words(one))]

    def wait_for(self, ready: Callable[[], Any]) -> None:
        """Wait until something is the case; fail when the command ends before."""
        until = time.monotonic() + PATIENCE
        while not ready():
            assert self.poll() is None, self.communicate()
            assert time.monotonic() < until, "it never came so far"
            time.sleep(0.02)

    def ended(self) -> tuple[int, str]:
        """Wait for the end; return the exit code and the last line of stderr."""
        errors = self.communicate(timeout=PATIENCE)[1]
        assert "Traceback" not in errors, errors
        lines = errors.strip().splitlines()
        return self.returncode, lines[-1] if lines else ""


def _words(process: psutil.Process) -> list[str]:
    """Return how a process was called; nothing of one that ended in between."""
    try:
        words: list[str] = process.cmdline()
    except psutil.NoSuchProcess:  # a zombie is one of those
        return []
    return words


def all_gone(processes: list[psutil.Process], *, within: float = 10) -> bool:
    """Whether processes end by themselves."""
    alive = psutil.wait_procs(processes, timeout=within)[1]
    return [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] == []


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., Command]:
    """Start `nas-ext` with arguments, in a folder of its own."""

    def run(*arguments: Any, **options: Any) -> Command:
        return Command("-m", "nas_ext", *arguments, cwd=tmp_path, **options)

    return run


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., Command]:
    """Start a Python program with arguments, in a folder of its own."""
    return lambda *arguments, **options: Command(*arguments, cwd=tmp_path, **options)


@pytest.fixture
def gone() -> Callable[..., bool]:
    """Say whether processes end by themselves."""
    return all_gone


@pytest.fixture(autouse=True)
def usual_signals() -> Iterator[None]:
    """Answer signals as a shell's foreground does: what runs in its background ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)

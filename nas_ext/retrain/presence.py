"""Which processes work in a folder: a file each, locked as long as the process lives."""

from __future__ import annotations

import hashlib
import os
import platform
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

BOOT = Path("/proc/sys/kernel/random/boot_id")
LOCK_SECONDS = 10


@cache
def machine() -> str:
    """Return what identifies a running system: its name, and on Linux the start it lives since."""
    boot = BOOT.read_bytes() if BOOT.exists() else b""
    return f"{platform.node() or 'unnamed'}-{hashlib.sha256(boot).hexdigest()[:8]}"


@dataclass(frozen=True)
class Worker:
    """Name a process that works on a study, as its trials name it in their attribute `worker`."""

    machine: str
    process: int
    file: str

    def to_json(self) -> dict[str, Any]:
        """Return the name as plain JSON values."""
        return {"machine": self.machine, "process": self.process, "file": self.file}


@contextmanager
def present(out: Path) -> Iterator[Worker]:
    """Be a worker of a folder for a while.

    The file stays where an exception ends that while: a trial may have been left running, and
    is recognised by it.
    """
    folder = out / "workers"
    folder.mkdir(parents=True, exist_ok=True)
    path = (folder / f"{os.getpid()}-{secrets.token_hex(4)}.lock").absolute()
    lock = FileLock(path)
    lock.acquire(timeout=LOCK_SECONDS)
    try:
        yield Worker(machine(), os.getpid(), str(path))
    finally:
        lock.release()
    path.unlink(missing_ok=True)


def is_gone(worker: Mapping[str, Any] | None) -> bool | None:
    """Say whether the process behind a trial's attribute `worker` has ended.

    None where this cannot be known from here: it runs on another machine, sees other folders, or
    the trial has no such attribute yet.
    """
    if worker is None or worker["machine"] != machine() or not Path(worker["file"]).exists():
        return None
    return _is_free(Path(worker["file"]))


def is_alone(out: Path, me: Worker) -> bool:
    """Say whether no other process is known to work in a folder."""
    others = [path for path in _files(out) if str(path) != me.file]
    return all(_is_free(path) for path in others)


def tidy(out: Path, named: Iterable[str]) -> None:
    """Remove the files of ended processes, except those that running trials name."""
    kept = set(named)
    for path in _files(out):
        if str(path) not in kept and _is_free(path):
            path.unlink(missing_ok=True)


def _files(out: Path) -> list[Path]:
    return sorted((out / "workers").absolute().glob("*.lock"))


def _is_free(path: Path) -> bool:
    lock = FileLock(path)
    with suppress(Timeout):
        lock.acquire(timeout=0)
        lock.release()
        return True
    return False

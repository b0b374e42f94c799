"""Where a study keeps its trials: Optuna's journal file, repaired where a crash tore it."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from nas_ext.files import write_bytes


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Keep other processes, and other calls in this one, from working in a folder.

    Raises RuntimeError at once when one already does. The lock ends with its process.
    """
    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / "study.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise RuntimeError(f"another process is working in {out}") from error
    try:
        yield
    finally:
        lock.release()


def open_journal(path: Path) -> JournalStorage:
    """Open or create a journal file that no other process writes to.

    A process killed while it wrote leaves half a line, on which Optuna would break for good at
    the next write: such a rest is moved to a file beside the journal, with a warning.
    """
    if path.exists():
        _repair(path)
    return JournalStorage(JournalFileBackend(str(path)))


def _repair(path: Path) -> None:
    content = path.read_bytes()
    whole = 0
    for line in content.splitlines(keepends=True):
        if not line.endswith(b"\n") or not _is_record(line):
            break
        whole += len(line)
    if whole == len(content):
        return
    aside = path.with_name(f"{path.name}.corrupt-{time.strftime('%Y%m%dT%H%M%S')}")
    write_bytes(aside, content[whole:])
    write_bytes(path, content[:whole])
    warnings.warn(
        f"{path} was damaged after {whole} of {len(content)} bytes; the rest is in {aside.name}",
        stacklevel=4,
    )


def _is_record(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:  # UnicodeDecodeError and JSONDecodeError
        return False

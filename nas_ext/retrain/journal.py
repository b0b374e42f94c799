"""Optuna's journal file, which survives killed writers, full disks and damage."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from nas_ext.files import write_bytes
from nas_ext.retrain.presence import machine

POLL_SECONDS = 0.002

_logger = logging.getLogger(__name__)


class JournalLock(JournalFileSymlinkLock):
    """Be Optuna's lock of a journal, which other Optuna tools honour, without its long wait.

    Optuna's is a link that a killed writer leaves behind, and for which the next one waits 30
    seconds. Here the holder also holds a lock of the operating system, which ends with its
    process, and the link says on which machine: a link of this machine that is found while that
    lock is free belongs to the dead, and goes.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        folder = heartbeat_folder(path)
        folder.mkdir(parents=True, exist_ok=True)
        self._lock_target_file = str((folder / f"{machine()}.lock").absolute())
        self._here = FileLock(self._lock_target_file)

    def acquire(self) -> bool:
        """Wait for the lock."""
        self._here.acquire(poll_interval=POLL_SECONDS)
        try:
            with suppress(OSError):  # no link, or not one: nobody of this machine left it
                if os.readlink(self._lock_file) == self._lock_target_file:
                    os.unlink(self._lock_file)
            return super().acquire()
        except BaseException:
            self._here.release()
            raise

    def release(self) -> None:
        """Let go of the lock."""
        try:
            super().release()
        finally:
            self._here.release()


class JournalFile(JournalFileBackend):
    """Write a journal in whole lines only.

    Optuna's own, after a writer was killed in the middle of a line, glues the next record to the
    rest and is broken for good. Here each write first moves such a rest to a file beside the
    journal, and takes itself back where it fails. Both happen under the journal's lock, so other
    processes may go on writing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._guard = JournalLock(path)
        super().__init__(str(path), lock_obj=self._guard)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write records, all or none of them.

        Raises OSError, with the journal as it was, when they cannot be written.
        """
        lines = [json.dumps(log, separators=(",", ":")) + "\n" for log in logs]
        with self.locked():
            self._cut_torn_line()
            with open(self._path, "ab", buffering=0) as file:
                size = file.tell()
                try:
                    left = "".join(lines).encode()
                    while left:
                        left = left[file.write(left) :]
                    os.fsync(file.fileno())
                except BaseException:
                    os.ftruncate(file.fileno(), size)
                    raise

    def repair(self) -> None:
        """Keep the longest sound beginning, move the rest aside with a warning, make a backup.

        A journal only grows, so it must begin with its backup of the last start. Where damage
        reaches into that part, the backup takes its place.

        Raises ValueError, with nothing changed, when the journal is another one than the
        backup's, or is gone.
        """
        backup = self._path.with_name(f"{self._path.name}.bak")
        with self.locked():
            content = self._path.read_bytes()
            saved = backup.read_bytes() if backup.exists() else b""
            sound = _sound_length(content)
            restored = sound < len(saved) and saved.startswith(content[:sound])
            if not restored and not content.startswith(saved):
                raise ValueError(
                    f"{self._path} must begin with what its backup {backup.name} holds, as "
                    f"journals only grow: copy the backup back, or move it away to go on without"
                )
            if restored or sound < len(content):
                self._set_right(content, sound, saved if restored else content[:sound])
                sound = max(sound, len(saved))
            if sound > len(saved):
                write_bytes(backup, self._path.read_bytes())

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep all other writers away, Optuna's own tools included."""
        self._guard.acquire()
        try:
            yield
        finally:
            self._guard.release()

    def _set_right(self, content: bytes, sound: int, right: bytes) -> None:
        aside = _beside(self._path)
        write_bytes(aside, content[sound:] if right == content[:sound] else content)
        write_bytes(self._path, right)  # after the rest is safe
        self._log_number_offset = {0: 0}
        done = "the rest is" if right == content[:sound] else "its backup took its place, it is"
        warnings.warn(
            f"{self._path} was damaged after {sound} of {len(content)} bytes; {done} in "
            f"{aside.name}",
            stacklevel=_level_outside(),
        )

    def _cut_torn_line(self) -> None:
        """Move half a line at the end, left by a killed writer, to a file beside the journal."""
        with open(self._path, "rb+") as file:
            size = file.seek(0, os.SEEK_END)
            if size == 0 or _last_byte(file) == b"\n":
                return
            file.seek(0)
            content = file.read()
            whole = content.rfind(b"\n") + 1
            aside = _beside(self._path)
            write_bytes(aside, content[whole:])
            file.truncate(whole)
            os.fsync(file.fileno())
        _logger.warning("%s ended in half a line, which is now in %s", self._path, aside.name)


def heartbeat_folder(path: Path) -> Path:
    """Return the folder beside a journal that holds the signs of life of its trials."""
    return path.with_name(f"{path.name}.hb")


def _level_outside() -> int:
    """Return the `stacklevel` by which a warning of the calling function names the user's line."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals["__name__"].startswith("nas_ext."):
        level, frame = level + 1, frame.f_back
    return level


def _last_byte(file: Any) -> bytes:
    file.seek(-1, os.SEEK_END)
    return bytes(file.read(1))


def _beside(path: Path) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%S")
    name = f"{path.name}.corrupt-{stamp}"
    count = len(list(path.parent.glob(f"{name}*")))
    return path.with_name(f"{name}-{count}" if count else name)


def _sound_length(content: bytes) -> int:
    length = 0
    for line in content.splitlines(keepends=True):
        if not line.endswith(b"\n") or not _is_record(line):
            break
        length += len(line)
    return length


def _is_record(line: bytes) -> bool:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):  # UnicodeDecodeError and JSONDecodeError among them
        return False
    return isinstance(record, dict) and {"op_code", "worker_id"} <= set(record)

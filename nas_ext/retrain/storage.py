"""Where a study keeps its trials: a journal file, a database, or an Optuna storage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike, fspath
from pathlib import Path

from filelock import FileLock, Timeout
from optuna.storages import BaseStorage

from nas_ext.retrain.database import open_database
from nas_ext.retrain.heartbeat import (
    GRACE_SECONDS,
    INTERVAL_SECONDS,
    HeartbeatJournal,
    OnStale,
)
from nas_ext.retrain.journal import JournalFile

Storage = str | PathLike[str] | BaseStorage


class FolderBusy(RuntimeError):
    """Report that another process works in a folder."""


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Keep other processes, and other calls in this one, from working in a folder.

    Raises FolderBusy, a RuntimeError, at once when one already does. The lock ends with its
    process.
    """
    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / "study.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise FolderBusy(f"another process is working in {out}") from error
    try:
        yield
    finally:
        lock.release()


def open_storage(
    storage: Storage,
    *,
    on_stale: OnStale | None = None,
    interval: int = INTERVAL_SECONDS,
    grace: int = GRACE_SECONDS,
) -> BaseStorage:
    """Open what a user names: the path of a journal, the URL of a database, or an open storage.

    An open storage is returned as it is. Trials of the others give a sign of life every
    `interval` seconds; `on_stale` gets those that gave none for `grace` seconds.
    """
    if isinstance(storage, BaseStorage):
        return storage
    name = fspath(storage)
    if "://" in name:
        return open_database(name, on_stale=on_stale, interval=interval, grace=grace)
    return open_journal(Path(name), on_stale=on_stale, interval=interval, grace=grace)


def open_journal(
    path: Path,
    *,
    on_stale: OnStale | None = None,
    interval: int = INTERVAL_SECONDS,
    grace: int = GRACE_SECONDS,
) -> HeartbeatJournal:
    """Open or create a journal file; other processes may be using it.

    What a crash tore is moved to a file beside the journal, with a warning, and a backup is kept
    of the journal as it is now.

    Raises ValueError for a journal that is gone while its backup is there, is not the backup's,
    or cannot be read for another reason; nothing is changed then.
    """
    if path.is_dir():
        raise ValueError(f"storage must be a journal file or a URL, got the folder {path}")
    if path.is_symlink() and not path.exists():
        raise ValueError(f"storage must be a journal file, {path} is a link that leads nowhere")
    if not path.exists() and path.with_name(f"{path.name}.bak").exists():
        raise ValueError(
            f"{path} is gone, its backup {path.name}.bak is there: copy it back, or move it away "
            "to begin anew"
        )
    journal = JournalFile(path)
    journal.repair()
    try:
        return HeartbeatJournal(journal, path, on_stale=on_stale, interval=interval, grace=grace)
    except (KeyError, TypeError, ValueError, AssertionError) as error:  # records that contradict
        raise ValueError(f"{path} is not a readable journal: {error!r}") from error

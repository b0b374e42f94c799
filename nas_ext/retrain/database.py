"""Optuna's storage in a database, with what several processes and machines need of it."""

from __future__ import annotations

import sqlite3
import time
import warnings
from contextlib import closing
from pathlib import Path
from typing import Any

import sqlalchemy
from filelock import FileLock
from optuna.exceptions import ExperimentalWarning
from optuna.storages import RDBStorage
from sqlalchemy.event import listen
from sqlalchemy.exc import DBAPIError

from nas_ext.retrain.heartbeat import GRACE_SECONDS, INTERVAL_SECONDS, OnStale

LOCK_SECONDS = 60
CREATION_ATTEMPTS = 5


def open_database(
    url: str,
    *,
    on_stale: OnStale | None = None,
    interval: int = INTERVAL_SECONDS,
    grace: int = GRACE_SECONDS,
) -> RDBStorage:
    """Open or create a database by its SQLAlchemy URL, with heartbeats.

    A SQLite file is for the processes of one machine. It is kept in the mode that lets readers
    and a writer go on side by side (WAL), and every transaction takes the write lock at its
    start: Optuna reads a waiting trial before it claims it, so that two processes might run it.
    Connections to a server are tested before use, as one that was dropped would end the study.

    Raises ValueError for a damaged SQLite file, which is left as it is, and Optuna's and
    SQLAlchemy's errors for what cannot be reached.
    """
    options: dict[str, Any] = {
        "heartbeat_interval": interval,
        "grace_period": grace,
        "heartbeat_stale_trial_callback": on_stale,
    }
    path = sqlite_file(url)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*heartbeat_interval", ExperimentalWarning)
        if path is not None:
            return _open_sqlite(url, path, options)
        if is_in_memory(url):
            return RDBStorage(url, **options)
        return _open_server(url, options)


def sqlite_file(url: str) -> Path | None:
    """Return the file of a SQLite URL, None for other databases and for one in memory.

    Raises ValueError for a file that is named by an URI.
    """
    parsed = sqlalchemy.make_url(url)
    name = parsed.database
    if parsed.get_backend_name() == "sqlite" and name and name.startswith("file:"):
        raise ValueError(f"storage must name a SQLite file as sqlite:///FILE, got {url}")
    if parsed.get_backend_name() != "sqlite" or not name or name == ":memory:":
        return None
    return Path(name)


def is_in_memory(storage: object) -> bool:
    """Say whether a storage is the URL of a SQLite database that ends with its process."""
    name = str(storage)
    return name.startswith("sqlite") and "://" in name and sqlite_file(name) is None


def _open_sqlite(url: str, path: Path, options: dict[str, Any]) -> RDBStorage:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Two processes that create the tables at the same time break each other.
    with FileLock(f"{path}.lock").acquire(timeout=LOCK_SECONDS):
        _check_sqlite(path)
        arguments = {"connect_args": {"timeout": LOCK_SECONDS}}
        storage = RDBStorage(url, engine_kwargs=arguments, **options)
    listen(storage.engine, "connect", _on_connect)
    listen(storage.engine, "begin", _on_begin)
    storage.engine.dispose()  # so that the next connections are made with the above
    return storage


def _check_sqlite(path: Path) -> None:
    try:
        with closing(sqlite3.connect(path, timeout=LOCK_SECONDS)) as connection:
            found = connection.execute("pragma quick_check(1)").fetchone()[0]
            if found == "ok":
                connection.execute("pragma journal_mode=wal")
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise  # locked, unreadable or on a full disk, not damaged
        found = str(error)
    if found != "ok":
        raise ValueError(
            f"{path} must be a sound SQLite file, got a damaged one ({found}); nothing was "
            f"changed: restore a copy, or begin in another file"
        )


def _on_connect(connection: Any, _: object) -> None:
    connection.isolation_level = None  # SQLAlchemy's advice: transactions begin as told below
    connection.execute("pragma synchronous=normal")


def _on_begin(connection: sqlalchemy.Connection) -> None:
    connection.exec_driver_sql("begin immediate")


def _open_server(url: str, options: dict[str, Any]) -> RDBStorage:
    for attempt in range(1, CREATION_ATTEMPTS):
        try:
            return RDBStorage(url, engine_kwargs={"pool_pre_ping": True}, **options)
        except DBAPIError as error:  # two machines that create the tables
            if "already exists" not in str(error):
                raise
            time.sleep(attempt)
    return RDBStorage(url, engine_kwargs={"pool_pre_ping": True}, **options)

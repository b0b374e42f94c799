"""Journals and databases under crashes, full disks, damage and several users."""

from __future__ import annotations

import json
import os
import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from torch import nn

from nas_ext.data import ImageData
from nas_ext.retrain import Recipe, study
from nas_ext.retrain.journal import JournalFile, JournalLock
from nas_ext.retrain.resume import requeue_stale
from nas_ext.retrain.storage import open_journal, open_storage

BASE = Recipe(epochs=2, batch_size=50)
DONE = (TrialState.COMPLETE, TrialState.PRUNED)
RECORD = {"op_code": 0, "worker_id": "w", "study_name": "s", "directions": [1]}

BuildFrom = Callable[[Recipe], nn.Module]


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file grow beyond so many bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# ---------------------------------------------------------------- a journal's lines


def test_half_a_line_of_a_killed_writer_is_put_aside_by_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    journal = JournalFile(path)
    journal.append_logs([RECORD])
    whole = path.read_bytes()
    with path.open("ab") as file:
        file.write(b'{"op_code": 4, "wor')
    journal.append_logs([RECORD])
    assert path.read_bytes() == whole * 2
    assert [p.read_bytes() for p in tmp_path.glob("*.corrupt-*")] == [b'{"op_code": 4, "wor']


def test_a_write_that_fails_leaves_the_journal_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    journal = JournalFile(path)
    journal.append_logs([RECORD])
    whole = path.read_bytes()
    with largest_file(len(whole) + 10), pytest.raises(OSError, match="File too large"):
        journal.append_logs([RECORD])
    assert path.read_bytes() == whole
    journal.append_logs([RECORD])
    assert path.read_bytes() == whole * 2


def test_the_lock_of_a_dead_process_of_this_machine_is_taken_at_once(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    dead = JournalLock(path)
    dead.acquire()
    dead._here.release()  # what the system does when a process dies; its link stays
    assert os.path.lexists(f"{path}.lock")
    lock = JournalLock(path)
    lock.grace_period = 10**6  # Optuna's wait would not end
    assert lock.acquire()
    lock.release()
    assert not os.path.lexists(f"{path}.lock")


def test_the_lock_of_another_machine_is_respected(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    os.symlink(str(path), f"{path}.lock")  # as Optuna's own tools make it
    lock, taken = JournalLock(path), threading.Event()

    def take() -> None:
        lock.acquire()
        taken.set()
        lock.release()

    thread = threading.Thread(target=take)
    thread.start()
    assert not taken.wait(0.3)
    os.unlink(f"{path}.lock")
    thread.join()
    assert taken.is_set()


# ---------------------------------------------------------------- damage


def journal_of_2(build: BuildFrom, data: ImageData, out: Path) -> Path:
    """Make a journal whose backup, that of the second call, holds one trial."""
    for count in (1, 2):
        study(build, data, out=out, recipe=BASE, n_trials=count)
    return out / "study.log"


def test_a_journal_damaged_in_its_old_part_gets_its_backup_back(
    build_from: BuildFrom, data: ImageData, tmp_path: Path
) -> None:
    log = journal_of_2(build_from, data, tmp_path)
    backup = (tmp_path / "study.log.bak").read_bytes()
    damaged = b"\x00" * 40 + log.read_bytes()[40:]
    log.write_bytes(damaged)
    with pytest.warns(UserWarning, match="its backup took its place"):
        storage = open_journal(log)
    assert log.read_bytes() == backup
    assert [p.read_bytes() for p in tmp_path.glob("*.corrupt-*")] == [damaged]
    [found] = storage.get_all_studies()
    assert len(storage.get_all_trials(found._study_id)) == 1


def test_a_journal_that_lost_a_line_or_is_another_one_is_refused_unchanged(
    build_from: BuildFrom, data: ImageData, tmp_path: Path
) -> None:
    log = journal_of_2(build_from, data, tmp_path)
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:3] + lines[4:]))
    before = {p: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    with pytest.raises(ValueError, match=r"must begin with what its backup study\.log.bak holds"):
        study(build_from, data, out=tmp_path, recipe=BASE, n_trials=3)
    assert {p: p.read_bytes() for p in before} == before


def test_a_journal_that_is_gone_while_its_backup_is_there_is_not_begun_anew(
    build_from: BuildFrom, data: ImageData, tmp_path: Path
) -> None:
    log = journal_of_2(build_from, data, tmp_path)
    log.unlink()
    with pytest.raises(ValueError, match=r"is gone, its backup study\.log.bak is there"):
        study(build_from, data, out=tmp_path, recipe=BASE, n_trials=3)
    assert not log.exists()


def test_records_that_contradict_each_other_are_a_clear_error(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text('{"op_code": 99, "worker_id": "w"}\n')
    with pytest.raises(ValueError, match=r"x.log is not a readable journal"):
        open_journal(log)


@pytest.mark.parametrize("damage", ["cut", "page", "text"])
def test_a_damaged_sqlite_file_is_refused_unchanged(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "x.db"
    url = f"sqlite:///{path}"
    made = optuna.create_study(storage=open_storage(url), study_name="s")
    made.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    del made
    whole = path.read_bytes()
    broken = {
        "cut": whole[: len(whole) // 2],
        "page": whole[:4096] + b"\xff" * 8192 + whole[12288:],
        "text": b"not a database" * 1000,
    }[damage]
    for rest in tmp_path.glob("x.db-*"):  # SQLite would heal the file from its journal
        rest.unlink()
    path.write_bytes(broken)
    with pytest.raises(ValueError, match="must be a sound SQLite file, got a damaged one"):
        open_storage(url)
    assert path.read_bytes() == broken


@pytest.mark.parametrize("full", ["checkpoint", "journal"])
def test_a_full_disk_is_a_clear_error_and_the_study_goes_on_afterwards(
    build_from: BuildFrom, data: ImageData, tmp_path: Path, full: str
) -> None:
    def go_on(out: Path, count: int) -> optuna.Study:
        return study(build_from, data, out=out, recipe=BASE, n_trials=count)

    log = tmp_path / "x" / "study.log"
    go_on(tmp_path / "x", 1)
    records = log.read_bytes()
    # a checkpoint has about 30 kB, what a trial adds to the journal 5 kB
    room = {"checkpoint": 20_000, "journal": len(records) + 1_500}[full]
    with largest_file(room), pytest.raises(OSError, match=r"EFBIG.*nothing was overwritten"):
        go_on(tmp_path / "x", 2)
    assert log.read_bytes().startswith(records)
    assert all(json.loads(line) for line in log.read_bytes().splitlines())
    ends = [
        [
            (t.params, t.values, t.intermediate_values)
            for t in go_on(out, 3).get_trials(states=DONE)
        ]
        for out in (tmp_path / "x", tmp_path / "whole")
    ]
    assert ends[0] == ends[1]


# ---------------------------------------------------------------- signs of life


def test_a_trial_without_signs_of_life_is_queued_again(tmp_path: Path) -> None:
    storage = open_journal(tmp_path / "x.log", on_stale=requeue_stale, interval=1, grace=1)
    found = optuna.create_study(storage=storage, study_name="s")
    dead, alive = found.ask(), found.ask()
    for trial in (dead, alive):
        trial.set_user_attr("run", f"r{trial.number}")
        storage.record_heartbeat(trial._trial_id)
    time.sleep(1.2)
    storage.record_heartbeat(alive._trial_id)
    optuna.storages.fail_stale_trials(found)
    states = [trial.state.name for trial in found.trials]
    assert states == ["FAIL", "RUNNING", "WAITING"]
    assert found.trials[2].user_attrs == {"run": "r0", "attempt": 1}
    assert found.trials[2].system_attrs["retry_history"] == [0]
    found.tell(alive.number, 0.0)
    assert [p.name for p in (tmp_path / "x.log.hb").glob("[0-9]*-*")] == []


def test_a_study_waits_for_the_trial_of_another_machine_until_its_grace_is_over(
    build_from: BuildFrom, data: ImageData, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"out": tmp_path, "recipe": BASE, "grace": 1}
    found = study(build_from, data, n_trials=1, **options)
    far = found.ask()
    far.set_user_attr("worker", {"machine": "far", "process": 1, "file": "/x"})
    found = study(build_from, data, n_trials=2, **options)
    states = [trial.state.name for trial in found.trials]
    assert states == ["COMPLETE", "FAIL", "COMPLETE"]
    assert found.trials[2].system_attrs["retry_history"] == [1]


# ---------------------------------------------------------------- several users


@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_a_waiting_trial_is_claimed_once(tmp_path: Path, kind: str) -> None:
    place = str(tmp_path / "x.log") if kind == "journal" else f"sqlite:///{tmp_path / 'x.db'}"
    first = optuna.create_study(storage=open_storage(place), study_name="s")
    for number in range(20):
        first.enqueue_trial({"x": number / 20})
    ids = [trial._trial_id for trial in first.trials]
    claimed: list[int] = []
    barrier = threading.Barrier(3)

    def claim() -> None:
        with ExitStack() as stack:
            stack.callback(barrier.abort)  # an error here ends the others' waiting
            storage = open_storage(place)
            for trial_id in ids:
                barrier.wait()
                if storage.set_trial_state_values(trial_id, state=TrialState.RUNNING):
                    claimed.append(trial_id)
            barrier.wait()
            stack.pop_all()

    threads = [threading.Thread(target=claim) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == ids


def test_a_folder_is_no_storage_and_a_sqlite_uri_is_none_either(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="storage must be a journal file or a URL, got the fol"):
        open_storage(tmp_path)
    with pytest.raises(ValueError, match="storage must name a SQLite file as sqlite:///FILE"):
        open_storage("sqlite:///file:x.db?uri=true")

"""Several processes on one study: started, watched and ended together."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from multiprocessing.reduction import ForkingPickler
from typing import Any

from nas_ext.retrain.stopping import Stop
from nas_ext.workers import WorkerDied, be_worker, start_worker

POLL_SECONDS = 0.5

_logger = logging.getLogger(__name__)


def run_workers(work: Callable[[], None], count: int, stop: Stop) -> None:
    """Call `work()` in `count` new processes, with one torch thread each, until all have ended.

    A worker that is killed leaves its trial to the others, with a warning. An error in one ends
    the others after their epoch, and so do SIGTERM and Ctrl-C. When this process is killed, they
    end at once.

    Raises ValueError when `work` cannot be pickled, RuntimeError with a worker's error,
    WorkerDied when all were killed, and SystemExit after SIGTERM.
    """
    _check_picklable(work)
    context = get_context("spawn")
    processes: list[SpawnProcess] = []
    reports: list[Connection] = []
    try:
        for _ in range(count):
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=_worker, args=(work, sender))
            start_worker(process)
            sender.close()
            processes.append(process)
            reports.append(receiver)
        errors = _watch(processes, reports, stop)
    finally:
        for process in processes:
            if process.is_alive():  # this process is being interrupted
                process.terminate()
        for process in processes:
            process.join()
    if stop.asked:
        raise SystemExit(0)
    if errors:
        raise RuntimeError(f"a worker ended with an error:\n{errors[0]}")
    killed = [process for process in processes if process.exitcode != 0]
    said = ", ".join(f"{process.pid} (exit code {process.exitcode})" for process in killed)
    if len(killed) == count:
        raise WorkerDied(
            f"all {count} worker processes were killed: {said}. Finished trials and epochs are "
            "kept: the same call again goes on with the rest, and where nobody killed them memory "
            "ran out, and fewer workers need less"
        )
    if killed:
        _logger.warning("worker processes were killed, and others repeated their trials: %s", said)


def _watch(processes: list[SpawnProcess], reports: list[Connection], stop: Stop) -> list[str]:
    errors: list[str] = []
    told = False
    while alive := [process for process in processes if process.is_alive()]:
        wait([process.sentinel for process in alive], timeout=POLL_SECONDS)
        errors += [text for report in reports if (text := _received(report)) is not None]
        if (errors or stop.asked) and not told:
            told = True
            for process in alive:
                process.terminate()
    return errors + [text for report in reports if (text := _received(report)) is not None]


def _received(report: Connection) -> str | None:
    try:
        return str(report.recv()) if report.poll() else None
    except EOFError:
        return None


def _worker(work: Callable[[], None], sender: Connection) -> None:
    be_worker()
    try:
        work()
    except Exception:
        sender.send(traceback.format_exc())
        raise SystemExit(1) from None


def _check_picklable(work: Any) -> None:
    try:
        ForkingPickler.dumps(work)
    except Exception as error:  # whatever the pickling of a user's object raises
        raise ValueError(
            "n_jobs above 1 needs arguments that can be pickled, so functions of a module instead "
            f"of lambdas, or one call of its own in each of several processes, got: {error}"
        ) from error

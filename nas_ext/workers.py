"""Independent pieces of work, in this process or in several, one thread each."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from multiprocessing.reduction import ForkingPickler
from typing import Any, TypeVar

import torch

from nas_ext.interrupts import stopped_by_sigterm

__all__ = ["WorkerDied", "be_worker", "end_with_parent", "finished", "start_worker"]

PATIENCE_SECONDS = 60

Result = TypeVar("Result")
Task = tuple[Any, ...]


class WorkerDied(ChildProcessError):
    """Report a process that ended in the middle of its work, and which work that was."""


def finished(
    work: Callable[..., Result],
    tasks: Sequence[Task],
    *,
    workers: int,
    named: Callable[[Task], str] | None = None,
) -> Iterator[tuple[Task, Result]]:
    """Yield (task, result) as the tasks end; `work(*task)` runs with one torch thread.

    One worker is this process; more are new processes, for which work and tasks are pickled. An
    error in one is raised here, and so is WorkerDied for one that is killed; before that, the
    others finish the task that they are at and its result is yielded. Tasks that have not begun
    are dropped. Workers end with this process, however it ends, and leave Ctrl-C to it. SIGTERM
    to it, or to all of them, ends the workers where they can go on, and raises
    `nas_ext.interrupts.Stopped` here.

    `named` says what a task is, for messages. Raises ValueError for fewer than one worker.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    if workers == 1:
        yield from _here(work, tasks)
        return
    with stopped_by_sigterm():
        team = _Team(work, min(workers, len(tasks)))
        try:
            yield from team.results(tasks, named or _numbered(tasks))
        finally:
            team.end()


def _here(work: Callable[..., Result], tasks: Sequence[Task]) -> Iterator[tuple[Task, Result]]:
    for task in tasks:
        before = torch.get_num_threads()
        try:
            torch.set_num_threads(1)
            result = work(*task)
        finally:
            torch.set_num_threads(before)
        yield task, result


def _numbered(tasks: Sequence[Task]) -> Callable[[Task], str]:
    places = {id(task): place for place, task in enumerate(tasks, 1)}
    return lambda task: f"task {places[id(task)]} of {len(tasks)}"


class _Team:
    """Processes that do one task after another, each over a pipe of its own.

    Unlike a `ProcessPoolExecutor` it knows at which task a process died, and its processes do not
    wait for ever for one that was killed.
    """

    def __init__(self, work: Callable[..., Any], count: int) -> None:
        ForkingPickler.dumps(work)  # what cannot be sent says so before a process is started
        self._idle: list[Connection] = []
        self._processes: dict[Connection, SpawnProcess] = {}
        self._tasks: dict[Connection, Task] = {}
        atexit.register(self.end)  # an error outside may keep the generator from being closed
        context = get_context("spawn")
        try:
            for _ in range(count):
                mine, theirs = context.Pipe()
                process = context.Process(target=_worker, args=(work, theirs))
                start_worker(process)
                theirs.close()
                self._processes[mine] = process
                self._idle.append(mine)
        except BaseException:
            self.end()
            raise

    def results(
        self, tasks: Sequence[Task], named: Callable[[Task], str]
    ) -> Iterator[tuple[Task, Any]]:
        """Yield what the processes bring; raise the first error once all are idle."""
        waiting, failed = deque(tasks), None
        while waiting or self._tasks:
            while self._idle and waiting and failed is None:
                self._give(self._idle.pop(), waiting.popleft())
            if not self._tasks:
                break
            pipes: list[Any] = wait(list(self._tasks))
            for pipe in pipes:
                task, (result, error) = self._taken(pipe, named)
                if error is None:
                    yield task, result
                else:
                    failed = failed or error
        if failed is not None:
            raise failed

    def _give(self, pipe: Connection, task: Task) -> None:
        self._tasks[pipe] = task
        with suppress(BrokenPipeError, ConnectionResetError):  # dead: its end is read next
            pipe.send(task)

    def _taken(
        self, pipe: Connection, named: Callable[[Task], str]
    ) -> tuple[Task, tuple[Any, Exception | None]]:
        """Return a task that has ended, with its result or its error."""
        task = self._tasks.pop(pipe)
        try:
            result, error, where = pipe.recv()
        except (EOFError, OSError):
            return task, (None, self._death(pipe, named(task)))
        self._idle.append(pipe)
        if error is not None:
            error.__cause__ = _Elsewhere(where)
        return task, (result, error)

    def _death(self, pipe: Connection, name: str) -> WorkerDied:
        process = self._processes[pipe]
        process.join()
        code = process.exitcode or 0
        how = (
            f"was killed ({signal.Signals(-code).name})"
            if code < 0
            else f"ended with exit code {code}"
        )
        hint = ""
        if code == -signal.SIGKILL:
            hint = ": where nobody killed it memory ran out, and fewer workers need less"
        return WorkerDied(
            f"worker process {process.pid} {how} in {name}{hint}. What had ended is kept: the "
            "same call again goes on with the rest"
        )

    def end(self) -> None:
        """End all processes, in the middle of their work if need be.

        One that catches the signal, to end where it can go on, gets some time for that.
        """
        atexit.unregister(self.end)
        for process in self._processes.values():
            process.terminate()
        for pipe, process in self._processes.items():
            process.join(PATIENCE_SECONDS)
            process.kill()
            process.join()
            pipe.close()


class _Elsewhere(Exception):
    """Hold the stack trace of an error in another process."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def _worker(work: Callable[..., Any], pipe: Connection) -> None:
    """Be one of the processes."""
    be_worker()
    while True:
        try:
            task = pipe.recv()
        except (EOFError, OSError):  # the other side is gone
            return
        try:
            answer = ForkingPickler.dumps((work(*task), None, ""))
        except KeyboardInterrupt:  # work that catches the signal by which `end` ends it
            return
        except Exception as error:
            answer = _sendable(error, traceback.format_exc())
        try:
            pipe.send_bytes(answer)
        except (BrokenPipeError, ConnectionResetError):  # nobody is there to be told
            return


def _sendable(error: Exception, where: str) -> memoryview:
    """Return an error as it goes through a pipe: itself where it can."""
    try:
        answer = ForkingPickler.dumps((None, error, where))
        pickler: Any = ForkingPickler  # typed without its `loads`
        pickler.loads(answer)
    except Exception:  # whatever the pickling of somebody's error raises
        said = RuntimeError(f"{type(error).__name__}: {error}")
        return ForkingPickler.dumps((None, said, where))
    return answer


def start_worker(process: SpawnProcess) -> None:
    """Start a process that leaves Ctrl-C to this one from its first moment on; see `be_worker`.

    It imports for seconds before it could say so itself, and would print where it was in them.
    """
    if sys.platform == "win32":
        process.start()
        return
    resource_tracker.ensure_running()  # begun with the first process, it unblocks Ctrl-C itself
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def be_worker() -> None:
    """Take one torch thread, leave Ctrl-C to the parent process, and end when that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    end_with_parent()
    torch.set_num_threads(1)


def end_with_parent() -> None:
    """End this process at once when the one that started it through `multiprocessing` ends.

    A process that was killed cannot end those that it started, and they would work on unseen.
    """
    parent = parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="end-with-parent").start()

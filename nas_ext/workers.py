"""Independent pieces of work, in this process or in several, one thread each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import Any, TypeVar

import torch

__all__ = ["finished"]

Result = TypeVar("Result")


def finished(
    work: Callable[..., Result], tasks: Sequence[tuple[Any, ...]], *, workers: int
) -> Iterator[tuple[tuple[Any, ...], Result]]:
    """Yield (task, result) as the tasks end; `work(*task)` runs with one torch thread.

    One worker is this process; more are new processes, for which work and tasks are pickled. An
    error in one ends the iteration with it, and the tasks that have not begun are dropped.
    Raises ValueError for fewer than one worker.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    if workers == 1:
        yield from _here(work, tasks)
        return
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_one_thread)
    with pool:
        waiting = {pool.submit(work, *task): task for task in tasks}
        try:
            for future in as_completed(waiting):
                yield waiting[future], future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _here(
    work: Callable[..., Result], tasks: Sequence[tuple[Any, ...]]
) -> Iterator[tuple[tuple[Any, ...], Result]]:
    for task in tasks:
        before = torch.get_num_threads()
        try:
            torch.set_num_threads(1)
            result = work(*task)
        finally:
            torch.set_num_threads(before)
        yield task, result


def _one_thread() -> None:
    torch.set_num_threads(1)

"""Independent work in one process and in several."""

from __future__ import annotations

import math
import os
import pickle
import signal
from typing import Any

import pytest
import torch

from nas_ext.workers import WorkerDied, finished


def test_one_worker_is_this_process_with_one_thread_and_the_number_comes_back() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        found = list(
            finished(lambda n: (os.getpid(), torch.get_num_threads(), n), [(1,)], workers=1)
        )
        assert found == [((1,), (os.getpid(), 1, 1))]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_several_workers_give_every_result_once() -> None:
    found = dict(finished(math.factorial, [(n,) for n in range(5)], workers=2))
    assert found == {(n,): math.factorial(n) for n in range(5)}


def test_an_error_in_a_worker_is_raised() -> None:
    with pytest.raises(ValueError, match="factorial"):
        list(finished(math.factorial, [(-1,)], workers=2))


def test_fewer_than_one_worker_is_refused() -> None:
    with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
        list(finished(math.factorial, [(1,)], workers=0))


def test_an_error_in_a_worker_comes_with_its_own_stack_trace() -> None:
    with pytest.raises(ValueError, match="factorial") as caught:
        list(finished(math.factorial, [(-1,)], workers=2))
    assert "nas_ext/workers.py" in str(caught.value.__cause__)


def test_a_killed_worker_is_named_with_its_work_and_the_results_of_others_are_kept() -> None:
    # every process signals itself: SIGCHLD does nothing, SIGKILL is what kill -9 sends
    tasks = [(signal.SIGCHLD,), (signal.SIGCHLD,), (signal.SIGKILL,)]
    kept: list[Any] = []
    said = (
        r"worker process \d+ was killed \(SIGKILL\) in task 3 of 3: .* memory ran out.*same call"
    )
    with pytest.raises(WorkerDied, match=said):
        kept.extend(task for task, _ in finished(signal.raise_signal, tasks, workers=2))
    assert kept == tasks[:2]


def test_a_worker_that_ends_is_named_as_the_caller_names_its_work() -> None:
    with pytest.raises(WorkerDied, match=r"ended with exit code 7 in the training of 7\. What"):
        list(finished(os._exit, [(7,)], workers=2, named=lambda t: f"the training of {t[0]}"))


def test_work_that_cannot_be_sent_is_refused_before_a_process_is_started() -> None:
    with pytest.raises((AttributeError, pickle.PicklingError)):
        list(finished(lambda n: n, [(1,), (2,)], workers=2))

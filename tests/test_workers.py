"""Independent work in one process and in several."""

from __future__ import annotations

import math
import os

import pytest
import torch

from nas_ext.workers import finished


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

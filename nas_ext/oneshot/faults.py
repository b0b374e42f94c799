"""What ends a search from outside of it: memory that ran out, and other processes that died."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from torch import distributed

from nas_ext.oneshot.distributed import Ranks
from nas_ext.out_of_memory import out_of_memory, ran_out

__all__ = ["RankDied", "naming_faults"]

LOST = ("gloo", "nccl", "connection closed", "connection reset", "broken pipe")
"""What torch's errors about processes that do not answer have in common, in small letters."""

PATIENCE_SECONDS = 10
"""How long a process may go on after the one that started it has ended."""


class RankDied(ChildProcessError):
    """Report that another of several processes, which this one waited for, is gone."""


@contextmanager
def naming_faults(ranks: Ranks, training: Callable[[], Sequence[str]]) -> Iterator[None]:
    """Say what a search ends of: which architectures needed the memory, or that a process died.

    `training` names the architectures of the step. Of several processes, each ends soon after any
    other: at its next exchange with the one that died (every step has one), and otherwise some
    seconds after the first one, which started it and which Lightning ends after a child's death.
    """
    if ranks.rank:
        _end_with_first()
    try:
        yield
    except RuntimeError as error:
        if ran_out(error):  # torch's; those of NumPy, in between two steps, name their arrays
            _leave(ranks)
            lower = "the training batch size or the size of the images"
            raise out_of_memory(error, f"training {', '.join(training())}", lower=lower) from error
        if ranks.size == 1 or not any(word in str(error).lower() for word in LOST):
            _leave(ranks)
            raise
        raise RankDied(
            f"another of the {ranks.size} processes ended, which process {ranks.rank} waited for: "
            "what that one printed says why; begin all of them again from the last checkpoint"
        ) from error
    except Exception:
        _leave(ranks)
        raise


def _leave(ranks: Ranks) -> None:
    """Close the connections, so that no other process waits for one that ended with an error.

    Not those of NCCL, which may wait themselves; there the end of this process does it.
    """
    if ranks.size > 1 and distributed.is_initialized() and distributed.get_backend() == "gloo":
        distributed.destroy_process_group()


def _end_with_first() -> None:
    """End this process some seconds after the one that started it has ended."""
    first = os.getppid()

    def watch() -> None:
        while os.getppid() == first:
            time.sleep(1)
        time.sleep(PATIENCE_SECONDS)
        print("the first process is gone: this one ends", file=sys.stderr, flush=True)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="end-with-first").start()

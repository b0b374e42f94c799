"""Memory that ran out: what was being done, and what would need less."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

__all__ = ["OutOfMemory", "naming_memory", "out_of_memory", "ran_out"]


class OutOfMemory(MemoryError):
    """Report which work memory did not suffice for, and what to lower."""


def ran_out(error: BaseException) -> bool:
    """Say whether an error of Python's, NumPy's or torch's is that of memory that ran out."""
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or "DefaultCPUAllocator" in str(error)


def out_of_memory(error: BaseException, what: str, *, lower: str) -> OutOfMemory:
    """Return the error that names the work, in place of what a library raised."""
    reason = (str(error) or type(error).__name__).split("\n")[0].strip()
    return OutOfMemory(f"memory ran out in {what}: lower {lower} ({reason})")


@contextmanager
def naming_memory(what: Callable[[], str], *, lower: str) -> Iterator[None]:
    """Raise OutOfMemory, which names the work, in place of what a library raises.

    Nothing is tried again and nothing left out: a search that skipped what does not fit would be
    another search.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, OutOfMemory) or not ran_out(error):
            raise
        raise out_of_memory(error, what(), lower=lower) from error

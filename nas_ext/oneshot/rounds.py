"""Validation batches for a training that takes one after each step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import torch

from nas_ext.oneshot.supernet import batch_size

__all__ = ["Rounds"]


class Rounds:
    """Go round and round a loader; batches smaller than the first one are left out.

    Every batch is normalised by its own statistics. `consumed` batches of the round are over: a
    resumed search reads them again and goes on behind them.
    """

    def __init__(self, make: Callable[[], Iterable[Any]]) -> None:
        self.consumed = 0
        self.make = make
        self._stream: Iterator[Any] | None = None

    def __next__(self) -> Any:
        if self._stream is None and self.consumed:
            with torch.random.fork_rng(devices=[]):
                self._stream = self._whole()
                for _ in islice(self._stream, self.consumed):
                    pass
        for batch in self._stream or ():
            self.consumed += 1
            return batch
        self._stream, self.consumed = self._whole(), 1
        batch = next(self._stream, None)
        if batch is None:
            raise ValueError("validation set must fill at least one batch, got no batch")
        return batch

    def _whole(self) -> Iterator[Any]:
        first = 0
        for batch in self.make():
            first = first or batch_size(batch)
            if batch_size(batch) == first:
                yield batch

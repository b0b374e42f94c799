"""The training batches of an epoch, which a resumed search goes on with where it was."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pytorch_lightning.utilities import CombinedLoader

__all__ = ["OrderedLoader"]

_AHEAD = 2
"""How many batches Lightning has fetched at most that it has not trained on: it reads one ahead
of a loader without a length."""

_NOT_RESUMABLE = "You're resuming from a checkpoint that ended before the epoch ended.*"


class OrderedLoader(CombinedLoader):
    """Give a loader's batches, and say from what they were drawn.

    `states` are those of all generators, `restore` goes back to some. To go on inside an epoch,
    the loader begins from the generators as they were when the epoch began, reads the batches
    that were trained on and drops them, and only then the generators are put to where they were:
    the cost is that of reading. Loaders that keep their place themselves (a `state_dict`, as
    torchdata's) are left to Lightning.
    """

    def __init__(
        self,
        loader: Any,
        *,
        states: Callable[[], dict[str, Any]],
        restore: Callable[[dict[str, Any]], None],
    ) -> None:
        if isinstance(loader, CombinedLoader):
            mode: Any = loader._mode
            super().__init__(loader.iterables, mode)
        else:
            super().__init__(loader, "max_size_cycle")
        self._states = states
        self._restore = restore
        self._began: dict[str, Any] | None = None
        self._taken = 0
        self._ended = False
        self._batches: int | None = None
        self._before: deque[dict[str, Any]] = deque(maxlen=_AHEAD)
        self._waiting: dict[str, Any] | None = None
        self._next: list[dict[str, Any]] = []

    def place(self, trained: int) -> dict[str, Any] | None:
        """Return where the epoch is after so many batches; None when it has ended or not begun."""
        if self._began is None or self._ended or self._keeps_its_place:
            return None
        ahead = self._taken - trained
        return {
            "began": self._began,
            "epochs": [sampler.epoch for sampler in self._by_epoch],
            "taken": trained,
            "before": list(self._before)[-ahead:] if ahead else [],
        }

    def go_on(self, place: dict[str, Any], now: dict[str, Any]) -> None:
        """Let the next epoch that begins be the rest of one, with the generators as they are now.

        Warns where workers outlive their epoch: what they drew before is not known.
        """
        self._waiting = {**place, "next": [*place["before"], now]}
        if any(getattr(loader, "persistent_workers", False) for loader in self.flattened):
            warnings.warn(
                "training loader has persistent_workers, whose generators no checkpoint keeps: "
                "what they draw for the images is not what it would have been",
                stacklevel=2,
            )
        else:  # it is resumable, though Lightning cannot see that
            warnings.filterwarnings("ignore", message=_NOT_RESUMABLE)

    def __iter__(self) -> OrderedLoader:
        waiting, self._waiting, self._next = self._waiting, None, []
        if waiting is not None:
            self._restore(waiting["began"])
            for sampler, epoch in zip(self._by_epoch, waiting["epochs"], strict=True):
                sampler.set_epoch(epoch)
        self._began, self._taken, self._ended = self._states(), 0, False
        super().__iter__()
        self._batches = self._length
        if waiting is not None:
            self._skip(int(waiting["taken"]))
            self._next = list(waiting["next"])
        return self

    def _skip(self, batches: int) -> None:
        for _ in range(batches):
            try:
                super().__next__()
            except StopIteration:
                raise ValueError(
                    f"training loader must have the {batches} batches that the checkpoint's epoch "
                    f"was trained on, got {self._taken}"
                ) from None
            self._taken += 1

    def __next__(self) -> Any:
        if self._next:
            self._restore(self._next.pop(0))
        length = self._batches
        if length is None:
            self._before.append(self._states())
        try:
            batch = super().__next__()
        except StopIteration:
            self._ended = True
            raise
        self._taken += 1
        self._ended = length is not None and self._taken >= length
        return batch

    @property
    def _length(self) -> int | None:
        try:
            return len(self)
        except (TypeError, NotImplementedError):
            return None

    @property
    def _keeps_its_place(self) -> bool:
        return any(
            hasattr(one, "state_dict") and hasattr(one, "load_state_dict")
            for one in self.flattened
        )

    @property
    def _by_epoch(self) -> Sequence[Any]:
        """Return the samplers that are told the number of the epoch, as a DistributedSampler."""
        return list(_by_epoch(self.flattened))


def _by_epoch(loaders: Sequence[Any]) -> Iterator[Any]:
    seen: set[int] = set()
    for loader in loaders:
        samplers = [getattr(loader, name, None) for name in ("sampler", "batch_sampler")]
        inner = [getattr(sampler, "sampler", None) for sampler in samplers]
        for sampler in (*samplers, *inner):
            if id(sampler) in seen or not callable(getattr(sampler, "set_epoch", None)):
                continue
            if isinstance(getattr(sampler, "epoch", None), int):
                seen.add(id(sampler))
                yield sampler

"""Checkpoints of a search that is not finished, written whole and at the right moment."""

from __future__ import annotations

import io
import math
import time
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback
from pytorch_lightning.plugins.io import TorchCheckpointIO

from nas_ext.files import write_bytes
from nas_ext.interrupts import Interrupts
from nas_ext.tensor_files import load_plain

__all__ = [
    "CHECKPOINT",
    "SearchCheckpoint",
    "WholeFiles",
    "batch_over",
    "begin_next_epoch",
    "epoch_over",
]

CHECKPOINT = "checkpoint.ckpt"
"""The file of a run that an unfinished search goes on from."""

_POLL = 20
"""Of several processes, the first says every so many steps whether a checkpoint is due."""


class WholeFiles(TorchCheckpointIO):
    """Write checkpoints whole or not at all, and load them without running what is in them."""

    def save_checkpoint(self, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
        """Write to a temporary name, sync, rename: the file before stays until then."""
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_bytes(path, buffer.getvalue())

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load to the processor, plain values and tensors only; ValueError for any other file."""
        try:
            loaded = load_plain(Path(path).read_bytes())
        except FileNotFoundError as error:
            raise ValueError(f"checkpoint {path} does not exist") from error
        except (OSError, ValueError) as error:
            raise ValueError(f"checkpoint {path} cannot be read, {error}") from error
        if not isinstance(loaded, dict) or "state_dict" not in loaded:
            raise ValueError(f"checkpoint {path} must hold a dictionary with a 'state_dict'")
        return loaded


class SearchCheckpoint(Callback):
    """Keep one checkpoint of a search, `folder`/checkpoint.ckpt, that it goes on from exactly.

    It is written every `every_minutes`, every `every_steps` optimizer steps, and at the end of
    each phase. Always when a step is over altogether: the optimizer has stepped, the reward is
    told, all hooks of callbacks and of the user's module have been called. Never inside an
    accumulation window, whose gradients no checkpoint holds, nor before a validation that the
    step leads to: such a moment is put off to the next one. Writing draws no number and changes
    no bit of the search.

    Of `interrupts`, the first signal lets the step end and a checkpoint be written; then
    Interrupted is raised. Serves `SampledStrategy` and `DifferentiableStrategy`, whose modules
    call it. `saved` counts the files that were written, `seconds` what they cost.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        every_minutes: float | None = 5.0,
        every_steps: int | None = None,
        interrupts: Interrupts | None = None,
    ) -> None:
        super().__init__()
        if every_minutes is not None and not every_minutes > 0:
            raise ValueError(f"every_minutes must be positive, got {every_minutes}")
        if every_steps is not None and every_steps < 1:
            raise ValueError(f"every_steps must be at least 1, got {every_steps}")
        self.path = Path(folder) / CHECKPOINT
        self.every_minutes = every_minutes
        self.every_steps = every_steps
        self.interrupts = interrupts or Interrupts(())
        self.saved = 0
        self.seconds = 0.0
        self._last_step = 0
        self._last_time = 0.0
        self._seen = 0
        self._steps = math.inf
        self._due = False

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._last_step = self._seen = trainer.global_step
        self._last_time = time.monotonic()
        self._steps = trainer.estimated_stepping_batches
        self._due = False
        self.interrupts.defer()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.interrupts.release()
        self.interrupts.check()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self.interrupts.release()

    def batch_over(self, trainer: Any, module: Any) -> None:
        """Save, if it is time and the moment is a good one; the module says when to look."""
        stepped, self._seen = trainer.global_step != self._seen, trainer.global_step
        if not stepped:
            return
        self._due = self._due or self._is_time(trainer, module)
        epoch_ends = trainer.is_last_batch or trainer.global_step >= self._steps
        if self._due and not (epoch_ends or _validates(trainer)):
            self._save(trainer)

    def epoch_over(self, trainer: Any, module: Any) -> None:
        """Save what was put off to the end of the epoch."""
        if self._due:
            self._save(trainer)

    def _is_time(self, trainer: Any, module: Any) -> bool:
        step = trainer.global_step
        if module.at_phase_end:
            return True
        if self.every_steps is not None and step - self._last_step >= self.every_steps:
            return True
        if trainer.world_size == 1:
            return self._late()
        return step % _POLL == 0 and bool(trainer.strategy.broadcast(self._late()))

    def _late(self) -> bool:
        if self.interrupts.requested is not None:
            return True
        minutes = (time.monotonic() - self._last_time) / 60
        return self.every_minutes is not None and minutes >= self.every_minutes

    def _save(self, trainer: Any) -> None:
        began, own = time.monotonic(), trainer.strategy.checkpoint_io
        trainer.strategy.checkpoint_io = WholeFiles()
        try:
            trainer.save_checkpoint(self.path)
        finally:
            trainer.strategy.checkpoint_io = own
        self._last_step, self._last_time, self._due = trainer.global_step, time.monotonic(), False
        self.seconds += self._last_time - began
        self.saved += 1
        self.interrupts.check()


def batch_over(module: Any) -> None:
    """Tell the checkpoints of the trainer that a batch is over, hooks of the module included."""
    for callback in module.trainer.callbacks:
        if isinstance(callback, SearchCheckpoint):
            callback.batch_over(module.trainer, module)


def epoch_over(module: Any) -> None:
    """Tell the checkpoints of the trainer that an epoch is over."""
    for callback in module.trainer.callbacks:
        if isinstance(callback, SearchCheckpoint):
            callback.epoch_over(module.trainer, module)


def begin_next_epoch(checkpoint: dict[str, Any], trainer: Any) -> None:
    """Let a checkpoint of an epoch's end go on with the next epoch under `max_steps`.

    Lightning does so under `max_epochs` alone; with a number of steps it would train on one more
    batch of the epoch that has ended. Changes the state of the loops, before they are restored.
    """
    loops = checkpoint.get("loops", {}).get("fit_loop")
    if trainer.max_steps == -1 or loops is None:
        return
    total = loops["epoch_progress"]["total"]
    if not total["ready"] == total["started"] == total["processed"] == total["completed"] + 1:
        return
    for epochs in (total, loops["epoch_progress"]["current"]):
        epochs["completed"] = epochs["processed"]
    loops["epoch_loop.batch_progress"]["is_last_batch"] = False
    for name in ("batch_progress", "scheduler_progress"):
        _to_zero(loops[f"epoch_loop.{name}"]["current"])
    steps = loops["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]
    for progress in steps.values():
        _to_zero(progress["current"])
    _to_zero(loops["epoch_loop.val_loop.batch_progress"]["total"])


def _to_zero(counts: dict[str, int]) -> None:
    counts.update(dict.fromkeys(counts, 0))


def _validates(trainer: Any) -> bool:
    """Say whether Lightning validates after this batch: a resumed search would leave that out."""
    every = trainer.val_check_batch
    if not trainer.enable_validation or every is None or every == float("inf"):
        return False
    loop = trainer.fit_loop
    index = loop.batch_idx if trainer.check_val_every_n_epoch else loop.total_batch_idx
    return bool((index + 1) % every == 0)

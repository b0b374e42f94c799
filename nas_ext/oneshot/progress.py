"""One progress bar for a whole search, with its phase and the average reward."""

from __future__ import annotations

import math
from typing import Any

from pytorch_lightning.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from nas_ext.oneshot.module import SearchModule

__all__ = ["SearchProgress"]


class SearchProgress(ProgressBar):
    """Show optimizer steps from the first to the last, not epoch by epoch.

    Small image sets have epochs of a few steps, and a bar for each says nothing. Serves NNI's own
    one-shot strategies too, which have no phases. Written to stderr, so that what a command
    prints can be piped.
    """

    def __init__(self, title: str) -> None:
        super().__init__()
        self.title = title
        self._shown = True
        self._bar: Progress | None = None
        self._task: Any = None

    def disable(self) -> None:
        self._shown = False

    def enable(self) -> None:
        self._shown = True

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        super().on_train_start(trainer, pl_module)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[state]}"),
            console=Console(stderr=True),
            disable=not self._shown,
        )
        total = int(trainer.estimated_stepping_batches)
        self._task = self._bar.add_task(self.title, total=total, state="")
        self._bar.start()

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if self._bar is not None:
            self._bar.update(self._task, completed=trainer.global_step, state=_state(pl_module))

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self._stop()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _state(module: Any) -> str:
    """Return phase and average reward in words."""
    if not isinstance(module, SearchModule):
        return ""
    reward = module.average_reward
    return module.search.phase.name + ("" if math.isnan(reward) else f", reward {reward:.3f}")

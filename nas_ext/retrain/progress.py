"""The progress bar of one training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from nas_ext.retrain.result import Epoch


class TrainingProgress:
    """Count updates from the first to the last, with the last epoch's loss and accuracy."""

    def __init__(self, bar: Progress | None, *, epochs: int, updates: int) -> None:
        self._bar = bar
        self._epochs = epochs
        self._updates = updates
        self._task = None if bar is None else bar.add_task("training", total=epochs * updates)

    def update(self) -> None:
        """Count one update."""
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task)

    def epoch(self, epoch: Epoch) -> None:
        """Show an epoch that has ended, or was restored."""
        if self._bar is not None and self._task is not None:
            done = epoch.epoch + 1
            accuracy = "" if epoch.accuracy is None else f", accuracy {epoch.accuracy:.1%}"
            text = f"epoch {done}/{self._epochs}: loss {epoch.train_loss:.3f}{accuracy}"
            self._bar.update(self._task, completed=done * self._updates, description=text)


@contextmanager
def training_progress(shown: bool, *, epochs: int, updates: int) -> Iterator[TrainingProgress]:
    """Show a bar on stderr, so that what a command prints can be piped; or count in silence."""
    if not shown:
        yield TrainingProgress(None, epochs=epochs, updates=updates)
        return
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    with bar:
        yield TrainingProgress(bar, epochs=epochs, updates=updates)

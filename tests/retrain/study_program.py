"""A small study as a program of its own, which tests start, kill and start again."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from torch import nn

from nas_ext.retrain import Recipe, study

shared = import_module("conftest")  # by this name, as this is a program of its own
BASE = Recipe(epochs=2, batch_size=50)


class Build:
    """Build the small network; send this process a signal in the n-th batch of training.

    Of several processes only the first that comes so far does it.
    """

    def __init__(self, number: int, at: int | None, mark: Path) -> None:
        self.number, self.at, self.mark, self.batches = number, at, mark, 0

    def __call__(self, recipe: Recipe) -> nn.Module:
        """Build a network that counts."""
        network: nn.Module = shared.tiny_network()
        network.register_forward_pre_hook(self._count)
        return network

    def _count(self, module: nn.Module, inputs: object) -> None:
        self.batches += module.training
        if module.training and self.batches == self.at:
            with suppress(FileExistsError):
                self.mark.touch(exist_ok=False)
                os.kill(os.getpid(), self.number)


def main() -> None:
    """Run the study that the arguments describe."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--storage")
    parser.add_argument("--trials", type=int, default=4)
    parser.add_argument("--kill-at", type=int, help="batch in which to be killed")
    parser.add_argument("--term-at", type=int, help="batch in which to be asked to end")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--wait-for", type=Path, help="say so, and begin when this file exists")
    options = parser.parse_args()
    if options.wait_for is not None:
        (options.wait_for.parent / f"ready-{os.getpid()}").touch()
        while not options.wait_for.exists():
            time.sleep(0.01)
    at = options.kill_at or options.term_at
    mark = options.out / f"signalled-{at}"
    study(
        Build(signal.SIGKILL if options.kill_at else signal.SIGTERM, at, mark),
        shared.small_digits(),
        out=options.out,
        recipe=BASE,
        n_trials=options.trials,
        storage=options.storage,
        n_jobs=options.jobs,
    )


if __name__ == "__main__":
    main()

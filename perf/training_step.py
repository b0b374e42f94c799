"""A training step of ours, against a bare PyTorch loop and against NNI's RandomOneShot.

Prints a line a goal: name, ratio of processor times, goal, pass or fail. Supernet of the small
NAS-Bench-Macro, images of 16 x 16, SGD with the same settings, the same paths on all sides. NNI
runs as its users have it: its classification module, its trainer's defaults with progress bar and
logger, and torch's loader of single images; ours as in a search of this package: whole batches,
channels last, no logger. Times are those between two ends of a batch. The sides take their steps
in turn, each in a process of its own; a ratio is the median over steps and rounds of that at the
same step. Run it as `python -m perf.training_step`, on one thread.
"""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from typing import Any

import torch
from nni.nas.evaluator.pytorch import ClassificationModule, DataLoader
from nni.nas.execution import SequentialExecutionEngine
from pytorch_lightning import Callback
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from nas_ext.architecture import Architecture
from nas_ext.nni import Lightning, RandomOneShot, RawFormatModelSpace, Trainer
from nas_ext.oneshot import SearchModule, SupernetTraining, quiet
from nas_ext.oneshot.layout import MemoryFormat, arrange
from nas_ext.spaces import NASBenchMacro
from nas_ext.strategies import Uniform
from perf._common import Rows
from perf._lockstep import Turns, in_turn, middle_ratio

WARM = 3
RATE = 0.01
PLAIN: dict[str, Any] = {
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


class Clock(Callback):
    """Note the processor time of each training batch; let NNI follow given paths."""

    def __init__(self, turns: Turns, samples: Sequence[Mapping[str, Any]] = ()) -> None:
        self._turns = turns
        self._samples = iter(samples)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        if isinstance(pl_module, SearchModule):
            return
        draw = pl_module.resample

        def resample() -> Any:
            draw()  # what NNI does, and pays for
            sample = next(self._samples)
            for module in pl_module.supernet_modules():
                module.resample(memo=dict(sample))
            return sample

        pl_module.resample = resample

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        self._turns.step()


class Momentum(torch.optim.SGD):
    """Give NNI's module, which names no momentum, the one that ours has."""

    def __init__(self, params: Any, lr: float, weight_decay: float) -> None:
        super().__init__(params, lr, momentum=0.9, weight_decay=weight_decay)


class Slices:
    """Serve a data set in whole batches, in order."""

    def __init__(self, images: Tensor, labels: Tensor, batch: int) -> None:
        self.images, self.labels, self.batch = images, labels, batch

    def __len__(self) -> int:
        return len(self.images) // self.batch

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for first in range(0, len(self.images), self.batch):
            part = slice(first, first + self.batch)
            yield self.images[part], self.labels[part]


class Setting:
    """Hold the images of one setting, and train on them in three ways."""

    def __init__(self, batch: int, steps: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.batch, self.steps = batch, steps
        self.images = torch.randn(batch * steps, 3, 16, 16, generator=generator)
        self.labels = torch.randint(10, (batch * steps,), generator=generator)
        self.slices = Slices(self.images, self.labels, batch)
        first = TensorDataset(self.images[:batch], self.labels[:batch])
        self.validation = DataLoader(first, batch_size=batch)

    def drawn(self) -> list[Architecture]:
        """Return what ours draws."""
        return [draw.architecture for draw in self.ours(Turns()).result.draws]

    def ours(self, turns: Turns) -> Uniform:
        """Search, and return the strategy."""
        strategy = Uniform(candidates=1)
        self._run(turns, strategy, SupernetTraining(learning_rate=RATE), self.slices, **PLAIN)
        return strategy

    def theirs(self, turns: Turns, drawn: Sequence[Architecture], layout: MemoryFormat) -> None:
        """Run NNI's RandomOneShot."""
        single = DataLoader(TensorDataset(self.images, self.labels), batch_size=self.batch)
        module = ClassificationModule(
            learning_rate=RATE, weight_decay=1e-3, optimizer=Momentum, num_classes=10
        )
        self._run(turns, RandomOneShot(), module, single, drawn, layout)

    def _run(
        self,
        turns: Turns,
        strategy: Any,
        module: Any,
        train: Any,
        drawn: Sequence[Architecture] = (),
        layout: MemoryFormat | None = None,
        **settings: Any,
    ) -> None:
        torch.manual_seed(0)
        space = NASBenchMacro.small()
        clock = Clock(turns, [space.search_space.decode(architecture) for architecture in drawn])
        with tempfile.TemporaryDirectory() as folder:
            trainer = Trainer(
                max_epochs=1,
                accelerator="cpu",
                limit_val_batches=0,
                enable_checkpointing=False,
                callbacks=[clock],
                default_root_dir=folder,
                **settings,
            )
            evaluator = Lightning(
                module,
                trainer,
                train_dataloaders=train,
                val_dataloaders=self.validation,
            )
            if layout is not None:
                arrange(space, layout)
            given = RawFormatModelSpace(space, evaluator)
            strategy.initialize(given, SequentialExecutionEngine())
            with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
                strategy.run()

    def bare(self, turns: Turns, drawn: Sequence[Architecture]) -> None:
        """Run a loop that does nothing but train, on the same paths."""
        torch.manual_seed(0)
        space = NASBenchMacro.small()
        model: Any = Uniform().mutate_model(space)
        arrange(model, "channels_last")
        paths = [module for module in model.modules() if hasattr(module, "resample")]
        rule = SupernetTraining(learning_rate=RATE)
        optimizer = torch.optim.SGD(
            model.parameters(), RATE, rule.momentum, weight_decay=rule.weight_decay
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
        for architecture, (images, labels) in zip(drawn, self.slices, strict=True):
            sample = space.search_space.decode(architecture)
            for path in paths:
                path.resample(memo=sample)
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images), labels)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimizer.step()
            schedule.step()
            turns.step()


def against_bare(rows: Rows, *, rounds: int = 8) -> None:
    """Measure the overhead of the loop."""
    setting = Setting(64, 30)
    drawn = setting.drawn()
    sides = [setting.ours, lambda turns: setting.bare(turns, drawn)]
    ours, bare = steps_of(sides, setting.steps, rounds)
    rows.add("overhead of our loop, 64 images", middle_ratio(ours, bare) - 1, 0.05, at_most=True)


def against_nni(rows: Rows, batch: int, steps: int, *, rounds: int) -> None:
    """Measure NNI's RandomOneShot, as it is and with the layout that ours has."""
    setting = Setting(batch, steps)
    drawn = setting.drawn()
    sides = [
        setting.ours,
        lambda turns: setting.theirs(turns, drawn, "contiguous"),
        lambda turns: setting.theirs(turns, drawn, "channels_last"),
    ]
    ours, plain, laid = steps_of(sides, steps, rounds)
    for name, side, goal in (("defaults", plain, 1.8), ("channels last", laid, 1.05)):
        rows.add(f"step of NNI, {name} / ours, {batch} images", middle_ratio(side, ours), goal)


def steps_of(
    sides: Sequence[Callable[[Turns], object]], steps: int, rounds: int
) -> list[list[list[float]]]:
    """Return `[sides, rounds, steps]` seconds, without the first steps of each.

    Every other round goes through the sides backwards: none is always the first.
    """
    taken = [in_turn(sides, steps, backwards=bool(r % 2)) for r in range(rounds)]
    return [[times[WARM:] for times in side] for side in zip(*taken, strict=True)]


def main() -> int:
    """Measure, print, and return 0 when every goal is met."""
    torch.set_num_threads(1)
    rows = Rows("training_step")
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        against_bare(rows)
        for batch, steps, rounds in ((64, 30, 8), (256, 14, 6)):
            against_nni(rows, batch, steps, rounds=rounds)
    return rows.finish()


if __name__ == "__main__":
    sys.exit(main())

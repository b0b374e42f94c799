"""What a study costs beside its training, per epoch and per trial, as a share of the training.

The cost of an epoch is that of reporting it and of asking whether to go on (median). The cost of a
trial is that of a small study, whose training is next to nothing, less the same trainings without
a study, checkpoints included. The training they are set against is that of a ResNet-20 of the
pooling space on 10,000 images of 14 x 14 pixels in batches of 64, 12 epochs a trial: the seconds
of some updates, scaled to an epoch. In wall-clock seconds, since a storage waits for the disk;
one thread. Prints a line for each goal: name, ratio, goal, pass or fail.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import optuna
import torch
from torch import nn

from nas_ext.data import ImageData, Images, digits
from nas_ext.retrain import Recipe, fit, study
from nas_ext.retrain.measures import count_macs
from nas_ext.spaces import PoolingResNet
from perf._common import Rows

GOAL = 0.01
TRIALS, SHORT = 10, 2
REPORTS = 60
IMAGES, SIDE, BATCH = 10_000, 14, 64
EPOCHS = 12
UPDATES = 15


def seconds(work: Callable[[], object]) -> float:
    """Return the seconds on the wall that a piece of work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def tiny() -> nn.Module:
    """Return a network that costs next to nothing."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def beside_training(data: ImageData, place: str | None, out: Path) -> tuple[float, float]:
    """Return the seconds of an epoch's report, and of a trial without training and reports."""
    recipe = Recipe(epochs=SHORT, batch_size=50)

    def search() -> optuna.Study:
        return study(
            lambda _: tiny(), data, out=out, recipe=recipe, n_trials=TRIALS, storage=place
        )

    def train(recipe: Recipe, number: int) -> None:
        fit(tiny, recipe, data.train, data.val, data, seed=0, checkpoint=out / f"{number}.pt")

    whole = seconds(search)
    found = search()  # only reads: all trials are done
    recipes = [Recipe.from_json(trial.user_attrs["recipe"]) for trial in found.trials]
    alone = sum(seconds(partial(train, one, n)) for n, one in enumerate(recipes))
    trial = found.ask()

    def report(epoch: int) -> None:
        trial.report(0.5, epoch)
        trial.should_prune()

    each = statistics.median(seconds(partial(report, epoch)) for epoch in range(REPORTS))
    return each, (whole - alone) / TRIALS - SHORT * each


def epoch_of_training() -> tuple[float, float]:
    """Return the seconds of an epoch of the real training, and of counting its macs."""
    space = PoolingResNet.resnet20(num_classes=10, in_chs=1)
    network = space.network(space.search_space.from_stages((4, 3, 3)))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    images, labels = torch.randn(BATCH, 1, SIDE, SIDE), torch.randint(10, (BATCH,))

    def update() -> None:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(images), labels)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()

    update()
    one = statistics.median(seconds(update) for _ in range(UPDATES))
    count_macs(network, (1, SIDE, SIDE))
    counting = statistics.median(
        seconds(partial(count_macs, network, (1, SIDE, SIDE))) for _ in range(5)
    )
    return one * IMAGES / BATCH, counting


def main() -> int:
    """Measure, print, and return 0 when the goals are met."""
    torch.set_num_threads(1)
    rows = Rows("retrain_overhead")
    epoch, counting = epoch_of_training()
    print(f"an epoch of the training takes {epoch:.2f} s, a count of macs {counting * 1e3:.0f} ms")
    everything = digits(seed=0)
    few = Images(everything.train.pixels[:50], everything.train.labels[:50])
    data = replace(everything, train=few, val=few)
    for storage in ("journal", "sqlite"):
        with tempfile.TemporaryDirectory() as folder:
            place = f"sqlite:///{folder}/study.db" if storage == "sqlite" else None
            each, rest = beside_training(data, place, Path(folder))
        trial = rest + EPOCHS * each + counting
        print(f"{storage}: {each * 1e3:.1f} ms an epoch, {trial * 1e3:.0f} ms a trial")
        rows.add(f"{storage}, epoch / its training", each / epoch, GOAL, at_most=True)
        rows.add(f"{storage}, trial / its training", trial / (EPOCHS * epoch), GOAL, at_most=True)
    return rows.finish()


if __name__ == "__main__":
    sys.exit(main())

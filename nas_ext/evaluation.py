"""Many architectures of a trained supernet, evaluated by several processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from nas_ext.architecture import Architecture
from nas_ext.estimation import FloatArray
from nas_ext.oneshot import Supernet
from nas_ext.samplers.mixture_space import MemberSpace, MixtureSpace
from nas_ext.saved import document
from nas_ext.saved_mixture import FORMAT as FORMAT_OF_MIXTURES
from nas_ext.saved_mixture import load_mixture
from nas_ext.supernets import Loaded, load_run
from nas_ext.workers import finished

__all__ = ["SpreadSupernet", "evaluate", "load_settled"]


def evaluate(
    folder: str | Path,
    architectures: Sequence[Architecture],
    *,
    workers: int = 1,
    batches: int | None = None,
    source: str | None = None,
    device: str = "cpu",
) -> FloatArray:
    """Return `[N]` accuracies of architectures in the supernet of a run, on its validation set.

    `workers` processes load the run and take as many neighbours each, in sorted order, with one
    thread; the numbers do not depend on how many there are. One worker is this process. Each has
    a supernet and the images in memory. `batches`, `source` and `device` are those of
    `Supernet.accuracies` and `load_supernet`; in a mixture of supernets every architecture is
    evaluated in its own.

    Raises ValueError for no architecture, for fewer than one worker, and for what
    `load_supernet` refuses.
    """
    return _spread(
        str(folder), architectures, workers=workers, batches=batches, source=source, device=device
    )[0]


def _spread(
    folder: str,
    architectures: Sequence[Architecture],
    *,
    workers: int,
    batches: int | None,
    source: str | None,
    device: str,
) -> tuple[FloatArray, dict[str, int]]:
    """Return accuracies and passes by purpose."""
    if not architectures:
        raise ValueError("architectures must be at least one, got none")
    order = sorted(range(len(architectures)), key=lambda place: architectures[place])
    count = max(1, min(workers, len(order)))
    bounds = [len(order) * part // count for part in range(count + 1)]
    tasks = [
        (folder, tuple(architectures[place] for place in order[low:high]), batches, source, device)
        for low, high in pairwise(bounds)
    ]
    parts = dict(finished(_evaluated, tasks, workers=min(workers, count)))
    found = np.empty(len(order))
    found[order] = np.concatenate([parts[task][0] for task in tasks])
    passes: dict[str, int] = {}
    for task in tasks:
        for purpose, number in parts[task][1].items():
            passes[purpose] = passes.get(purpose, 0) + number
    return found, passes


def _evaluated(
    folder: str,
    architectures: tuple[Architecture, ...],
    batches: int | None,
    source: str | None,
    device: str,
) -> tuple[FloatArray, Mapping[str, int]]:
    """Be one worker."""
    supernet = load_settled(folder, source=source, device=device).supernet
    return supernet.accuracies(architectures, batches=batches), dict(supernet.passes)


class SpreadSupernet:
    """Let processes of their own find the accuracies, and ask one supernet for the rest.

    `accuracies` counts what all of them ran in the passes of the supernet.
    """

    def __init__(
        self,
        folder: str | Path,
        supernet: Supernet,
        *,
        workers: int,
        source: str | None = None,
        device: str = "cpu",
    ) -> None:
        supernet.check()
        self.supernet = supernet
        self._folder = str(folder)
        self._workers = workers
        self._source = source
        self._device = device

    def accuracies(
        self, architectures: Sequence[Architecture], *, batches: int | None = None
    ) -> FloatArray:
        """Return `[N]` accuracies on the validation set."""
        found, passes = _spread(
            self._folder,
            architectures,
            workers=self._workers,
            batches=batches,
            source=self._source,
            device=self._device,
        )
        self.supernet.passes.update(passes)
        return found

    def reward(self, architecture: Architecture) -> float:
        """Return the reward on the next validation batch."""
        return self.supernet.reward(architecture)

    def outputs(self, architectures: Sequence[Architecture]) -> FloatArray:
        """Return `[N, S, C]` logits on the first validation batch."""
        return self.supernet.outputs(architectures)

    def reinitialise(self) -> None:
        """Give the supernet fresh weights; the processes read those of the run."""
        self.supernet.reinitialise()


def load_settled(folder: str | Path, *, source: str | None = None, device: str = "cpu") -> Loaded:
    """Return a run whose supernet has each architecture once.

    The supernets of a mixture become one, which has each architecture in the member that took it
    over. Raises ValueError for a mixture's run whose result does not hold the mixture.
    """
    run = load_run(folder, source=source, device=device)
    if not isinstance(run.supernet.space, MixtureSpace):
        return run
    base = run.supernet.space.base
    if run.result.mixture is None:
        raise ValueError(
            f"result of {run.result.strategy} must hold its mixture, which says the supernet of "
            "each architecture; searches made before mixtures were saved have none"
        )
    saved = load_mixture(document(run.result.mixture, base, form=FORMAT_OF_MIXTURES), base)
    run.supernet.space = MemberSpace(base, saved.members)
    return run

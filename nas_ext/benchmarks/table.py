"""A space with the known accuracy of every architecture, and an estimator that looks it up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from nas_ext.architecture import Architecture, SearchSpace
from nas_ext.estimation import FloatArray

__all__ = ["Table", "TabularEstimator"]


@dataclass(frozen=True)
class Table:
    """Hold the ground truth of a whole space.

    `accuracies` are shares in [0, 1] of the test set, mean over training seeds; `deviations` the
    standard deviations over those seeds; `macs` multiply-accumulates of one image, where known.
    `source` says who measured, and how.
    """

    name: str
    space: SearchSpace
    accuracies: Mapping[Architecture, float]
    deviations: Mapping[Architecture, float]
    source: str
    macs: Mapping[Architecture, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if set(self.accuracies) != set(self.space):
            raise ValueError(f"accuracies of table {self.name!r} must cover its space exactly")
        wrong = [value for value in self.accuracies.values() if not 0.0 <= value <= 1.0]
        if wrong:
            raise ValueError(f"accuracies of table {self.name!r} must be shares, got {wrong[0]}")

    @property
    def best(self) -> Architecture:
        """Return the architecture of the highest accuracy, the first in the space's order."""
        return max(self.space, key=lambda architecture: self.accuracies[architecture])

    def regret(self, architecture: Architecture) -> float:
        """Return how much accuracy the architecture lacks to the best, as a share."""
        return self.accuracies[self.best] - self.accuracies[self.space.check(architecture)]

    def ranks(self, *, decimals: int | None = None) -> dict[Architecture, int]:
        """Return the rank of every architecture, from 1, ties sharing the lowest rank.

        Distinct networks alone count where encodings repeat. `decimals` rounds the accuracies in
        percent first, as printed tables do.
        """
        distinct = {a: self.space.canonical(a) for a in self.space}
        percent = {a: 100 * self.accuracies[a] for a in set(distinct.values())}
        if decimals is not None:
            percent = {a: round(value, decimals) for a, value in percent.items()}
        ordered = np.sort(np.asarray(list(percent.values())))
        above = {
            a: len(ordered) - int(np.searchsorted(ordered, value, side="right"))
            for a, value in percent.items()
        }
        return {a: above[distinct[a]] + 1 for a in self.space}

    def top(self, count: int) -> frozenset[Architecture]:
        """Return the architectures whose rank is at most `count`."""
        return frozenset(a for a, rank in self.ranks().items() if rank <= count)


class TabularEstimator:
    """Answer from a table, with the noise that batches of so many images would have.

    This is an *oracle*: the ground truth itself, seen through a binomial draw, stands in for the
    validation accuracy of shared weights. It compares how samplers spend their draws, and says
    nothing about how well a supernet ranks. A table has no network, hence no outputs.
    """

    def __init__(
        self,
        table: Table,
        rng: np.random.Generator,
        *,
        batch_size: int = 256,
        validation_size: int = 10_000,
    ) -> None:
        for name, value in (("batch_size", batch_size), ("validation_size", validation_size)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.table = table
        self.rng = rng
        self.batch_size = batch_size
        self.validation_size = validation_size

    def reward(self, architecture: Architecture) -> float:
        """Return the share right of a batch of `batch_size` images, drawn anew."""
        share = self.table.accuracies[architecture]
        return float(self.rng.binomial(self.batch_size, share)) / self.batch_size

    def accuracies(
        self, architectures: Sequence[Architecture], *, batches: int | None = None
    ) -> FloatArray:
        """Return `[N]` shares right of `validation_size` images, drawn anew at each call.

        With `batches`, of so many batches of `batch_size` images.
        """
        if batches is not None and batches < 1:
            raise ValueError(f"batches must be at least 1, got {batches}")
        images = self.validation_size if batches is None else batches * self.batch_size
        shares = [self.table.accuracies[architecture] for architecture in architectures]
        return self.rng.binomial(images, shares) / images

    def outputs(self, architectures: Sequence[Architecture]) -> FloatArray:
        """Raise ValueError: there is no network whose outputs could be compared."""
        raise ValueError(
            f"table {self.table.name!r} has no network outputs: "
            "build the tree from distance='encoding', or search a real supernet"
        )

    def reinitialise(self) -> None:
        """Do nothing: a table has no weights."""

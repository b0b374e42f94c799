"""A space with the known accuracy of every architecture, and an estimator that looks it up."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np

from nas_ext.architecture import Architecture, SearchSpace
from nas_ext.estimation import FloatArray

__all__ = ["DATA", "Table", "TabularEstimator", "data_file"]

DATA = "NAS_EXT_DATA"
"""The environment variable that names the folder, or the file, of tables that are not shipped."""


def data_file(name: str, path: str | Path | None = None) -> Path:
    """Return the file of a table that is not shipped: `path`, else what NAS_EXT_DATA names.

    Both may name the file itself, under any name, or a folder that holds a file called `name`.
    Raises ValueError when neither is given or no such file is there.
    """
    given = os.environ.get(DATA) if path is None else path
    if not given:
        raise ValueError(
            f"{name} is not shipped: set {DATA} to the file or to its folder, or pass its path"
        )
    place = Path(given)
    file = place / name if place.is_dir() else place
    if not file.is_file():
        source = DATA if path is None else "path"
        raise ValueError(f"{source} must name {name} or the folder it lies in, got {str(given)!r}")
    return file


@dataclass(frozen=True)
class Table:
    """Hold the ground truth of a whole space.

    `accuracies` are shares in [0, 1] of the test set, mean over training seeds; `deviations` the
    standard deviations over those seeds; `seeds` the accuracy of each training seed, where
    published. `macs` are multiply-accumulates of one image and `params` trainable parameters,
    where known. `candidates` is how many candidates the published protocol for this space
    compares on the whole validation set. `source` says who measured, and how.

    Where encodings repeat, ranks count distinct networks (`networks`), and every encoding of a
    network must have its accuracy.
    """

    name: str
    space: SearchSpace
    accuracies: Mapping[Architecture, float]
    deviations: Mapping[Architecture, float]
    source: str
    macs: Mapping[Architecture, int] = field(default_factory=dict)
    params: Mapping[Architecture, int] = field(default_factory=dict)
    seeds: Mapping[Architecture, tuple[float, ...]] = field(default_factory=dict)
    candidates: int = 1

    def __post_init__(self) -> None:
        if self.candidates < 1:
            raise ValueError(f"candidates must be at least 1, got {self.candidates}")
        if set(self.accuracies) != set(self.space):
            raise ValueError(f"accuracies of table {self.name!r} must cover its space exactly")
        wrong = [value for value in self.accuracies.values() if not 0.0 <= value <= 1.0]
        if wrong:
            raise ValueError(f"accuracies of table {self.name!r} must be shares, got {wrong[0]}")
        for name in ("macs", "params", "seeds"):
            known = getattr(self, name)
            if known and set(known) != set(self.accuracies):
                raise ValueError(f"{name} of table {self.name!r} must cover its space or be empty")
        for one, network in self.network.items():
            if self.accuracies[one] != self.accuracies[network]:
                raise ValueError(
                    f"encodings of one network must share its accuracy in table {self.name!r}: "
                    f"{self.space.describe(one)} has {self.accuracies[one]}, "
                    f"{self.space.describe(network)} has {self.accuracies[network]}"
                )

    @cached_property
    def network(self) -> Mapping[Architecture, Architecture]:
        """Return the encoding that stands for the network of each architecture."""
        return MappingProxyType({a: self.space.canonical(a) for a in self.space})

    @cached_property
    def networks(self) -> tuple[Architecture, ...]:
        """Return the distinct networks in the space's order, one encoding each."""
        return tuple(dict.fromkeys(self.network.values()))

    @cached_property
    def best(self) -> Architecture:
        """Return the network of the highest accuracy, the first in the space's order."""
        return max(self.networks, key=lambda architecture: self.accuracies[architecture])

    @cached_property
    def _ranks(self) -> dict[int | None, Mapping[Architecture, int]]:
        return {}

    @cached_property
    def _tops(self) -> dict[int, frozenset[Architecture]]:
        return {}

    def regret(self, architecture: Architecture) -> float:
        """Return how much accuracy the architecture lacks to the best, as a share."""
        return self.accuracies[self.best] - self.accuracies[self.space.check(architecture)]

    def ranks(self, *, decimals: int | None = None) -> Mapping[Architecture, int]:
        """Return the rank of every architecture, from 1, ties sharing the lowest rank.

        Distinct networks alone count where encodings repeat. `decimals` rounds the accuracies in
        percent first, as printed tables do.
        """
        if decimals not in self._ranks:
            percent = {a: 100 * self.accuracies[a] for a in self.networks}
            if decimals is not None:
                percent = {a: round(value, decimals) for a, value in percent.items()}
            ordered = np.sort(-np.asarray(list(percent.values())))
            better = np.searchsorted(ordered, [-value for value in percent.values()])
            rank = dict(zip(percent, (better + 1).tolist(), strict=True))
            every = {a: rank[network] for a, network in self.network.items()}
            self._ranks[decimals] = MappingProxyType(every)
        return self._ranks[decimals]

    def top(self, count: int) -> frozenset[Architecture]:
        """Return the architectures whose rank is at most `count`, in all their encodings."""
        if count not in self._tops:
            self._tops[count] = frozenset(a for a, r in self.ranks().items() if r <= count)
        return self._tops[count]


class TabularEstimator:
    """Answer from a table, with the noise that batches of so many images would have.

    This is an *oracle*: the ground truth itself, seen through a binomial draw, stands in for the
    validation accuracy of shared weights. It compares how samplers spend their draws, and says
    nothing about how well a supernet ranks. A table has no network, hence no outputs.

    `evaluations` counts what was asked, in batches of `batch_size` images of one architecture.
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
        self.evaluations = 0

    def reward(self, architecture: Architecture) -> float:
        """Return the share right of a batch of `batch_size` images, drawn anew."""
        share = self.table.accuracies[architecture]
        self.evaluations += 1
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
        self.evaluations += len(architectures) * math.ceil(images / self.batch_size)
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

"""NAS-Bench-201: 15,625 cells on three data sets, each trained alone."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeAlias, get_args

import numpy as np

from nas_ext.architecture import Architecture
from nas_ext.benchmarks.table import Table, data_file
from nas_ext.cell import NASBENCH201, CellSkeleton, NASBench201Space
from nas_ext.files import naming

__all__ = ["FILE", "DataSet", "nasbench201_table"]

FILE = "nas-bench-201-12epochs.csv"
"""A line for each cell, with the accuracies in percent after 12 epochs of training."""

DataSet: TypeAlias = Literal["cifar10", "cifar100", "imagenet"]
"""CIFAR-10, CIFAR-100 and ImageNet16-120, as the columns of the file call them."""

CLASSES_AND_SIDE = MappingProxyType(
    {"cifar10": (10, 32), "cifar100": (100, 32), "imagenet": (120, 16)}
)


class _EveryEncoding(NASBench201Space):
    """Take every encoding for a network of its own."""

    def canonical(self, architecture: Architecture) -> Architecture:
        return self.check(architecture)


def nasbench201_table(
    path: str | Path | None = None, *, dataset: DataSet = "cifar10", average: bool = True
) -> Table:
    """Read the test accuracies of all cells on one data set.

    `path` is a file, or the folder of one with the name `FILE`; without it NAS_EXT_DATA names
    either. Any CSV file with the columns "arch", the cell string, and "<dataset>-test", in
    percent, will do: accuracies after 200 epochs are read as well, from a file of your own.

    The benchmark trained every encoding, isomorphic ones too. With `average` an accuracy is the
    mean over all encodings of a network, `seeds` are theirs, and ranks count the 6,466 networks.
    Without it each encoding is a network of its own with the accuracy of its line, as tables in
    papers have it: the best of 15,625 then owes something to the luck of one training. As rewards
    test accuracies are an oracle. Macs and parameters are those of the encoding, in closed form.

    Raises ValueError for a file that is missing, incomplete or of another shape.
    """
    if dataset not in get_args(DataSet):
        raise ValueError(f"dataset must be one of {list(get_args(DataSet))}, got {dataset!r}")
    space = NASBench201Space() if average else _EveryEncoding()
    file = data_file(FILE, path)
    lines = _accuracies(file, f"{dataset}-test", space)
    network = {a: space.canonical(a) for a in space}
    seeds: dict[Architecture, list[float]] = {}
    for architecture, first in network.items():
        seeds.setdefault(first, []).append(lines[architecture])
    means = {first: math.fsum(shares) / len(shares) for first, shares in seeds.items()}
    deviations = {first: float(np.std(shares)) for first, shares in seeds.items()}
    classes, side = CLASSES_AND_SIDE[dataset]
    skeleton = CellSkeleton(num_classes=classes)
    macs = skeleton.macs_table(space.operations, image_size=(side, side))
    parameters = skeleton.parameter_table(space.operations)
    return Table(
        name=f"{NASBENCH201}-{dataset}",
        space=space,
        accuracies={a: means[first] for a, first in network.items()},
        deviations={a: deviations[first] for a, first in network.items()},
        seeds={a: tuple(seeds[first]) for a, first in network.items()},
        macs={a: macs(a) for a in space},
        params={a: parameters(a) for a in space},
        candidates=50,
        source=f"NAS-Bench-201, {dataset} test accuracy, trained alone: {file.name}",
    )


def _accuracies(file: Path, column: str, space: NASBench201Space) -> dict[Architecture, float]:
    """Return the share right of every cell; ValueError unless the file has each once."""
    with naming(file), _as_csv(), file.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        if not {"arch", column} <= set(reader.fieldnames or ()):
            raise ValueError(
                f"{file} must have the columns arch and {column}, got {reader.fieldnames}"
            )
        found: dict[Architecture, float] = {}
        for row in reader:
            architecture = space.from_code(row["arch"])
            if architecture in found:
                raise ValueError(f"{file} must have every cell once, got {row['arch']} twice")
            found[architecture] = _share(file, row, column)
    if len(found) != space.size:
        raise ValueError(f"{file} must have {space.size:,} cells, got {len(found):,}")
    return found


@contextmanager
def _as_csv() -> Iterator[None]:
    """Let what is no CSV be a ValueError."""
    try:
        yield
    except csv.Error as error:
        raise ValueError(f"it must be a CSV: {error}") from error


def _share(file: Path, row: dict[str, str], column: str) -> float:
    try:
        percent = float(row[column])
    except (TypeError, ValueError):
        percent = math.nan
    if not 0.0 <= percent <= 100.0:
        raise ValueError(
            f"{column} in {file} must be a number in [0, 100], got {row[column]!r} "
            f"for {row['arch']}"
        )
    return percent / 100

"""Tables measured by this package: a CSV with one line an architecture and one column a seed."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import numpy as np

from nas_ext.architecture import Architecture, SearchSpace
from nas_ext.benchmarks.table import Table
from nas_ext.nasbench_macro import NASBenchMacroSpace, nasbench_macro_plan
from nas_ext.pooling import PoolingSpace

__all__ = [
    "MeasuredTable",
    "measured_table",
    "mini_macro_table",
    "mini_pooling_table",
    "narrow_pooling_table",
]

HEAD = ["name", "architecture", "macs", "parameters"]


@dataclass(frozen=True)
class MeasuredTable(Table):
    """A table that this package measured.

    `manifest` is what `nas-ext ground-truth` wrote beside the CSV: settings, data, versions;
    empty where nobody kept it.
    """

    manifest: Mapping[str, Any] = field(default_factory=dict)

    @property
    def images_per_training(self) -> int | None:
        """Return how many images one training saw, repeats counted; None without a manifest."""
        if not self.manifest:
            return None
        epochs = self.manifest["settings"]["recipe"]["epochs"]
        return int(epochs) * int(self.manifest["data"]["images"]["train"])


def measured_table(
    text: str,
    space: SearchSpace,
    *,
    name: str,
    source: str,
    origin: str = "text",
    manifest: Mapping[str, Any] | None = None,
) -> MeasuredTable:
    """Return the table that `nas-ext ground-truth` wrote, from the text of its CSV.

    Accuracies are the means over the seeds, deviations the samples' (ddof = 1); `manifest` is the
    content of the JSON file beside the CSV. Raises ValueError, naming `origin`, for another form,
    for architectures that are missing, unknown or called otherwise in the space, and for fewer
    than two seeds.
    """
    try:
        rows = list(csv.reader(io.StringIO(text)))
    except csv.Error as error:
        raise ValueError(f"{origin} must be a CSV: {error}") from error
    seeds = len(rows[0]) - len(HEAD) if rows else 0
    if seeds < 2 or rows[0] != [*HEAD, *(f"seed{s}" for s in range(seeds))]:
        raise ValueError(
            f"{origin} must begin with {','.join(HEAD)} and columns seed0, seed1 and so on, "
            f"got {','.join(rows[0]) if rows else 'nothing'}"
        )
    found: dict[Architecture, tuple[float, ...]] = {}
    macs, params = {}, {}
    for line, row in enumerate(rows[1:], 2):
        try:
            called, options, cost, weights, *accuracies = row
            architecture = space.check(tuple(map(int, options.split())))
            values = tuple(float(value) / 100 for value in accuracies)
            if not all(0.0 <= value <= 1.0 for value in values):
                raise ValueError(f"accuracies must lie in [0, 100], got {accuracies}")
            macs[architecture], params[architecture] = int(cost), int(weights)
        except ValueError as error:
            raise ValueError(f"line {line} of {origin} is no line of a table: {error}") from error
        if len(values) != seeds or called != space.describe(architecture):
            raise ValueError(
                f"line {line} of {origin} must be called {space.describe(architecture)} and have "
                f"{seeds} accuracies, got {row}"
            )
        found[architecture] = values
    missing = [space.describe(a) for a in space if a not in found]
    if missing:
        raise ValueError(f"{origin} must hold every architecture, {', '.join(missing)} is missing")
    return MeasuredTable(
        name=name,
        space=space,
        accuracies={a: float(np.mean(values)) for a, values in found.items()},
        deviations={a: float(np.std(values, ddof=1)) for a, values in found.items()},
        macs=macs,
        params=params if len(set(params.values())) > 1 else {},
        seeds=found,
        candidates=space.size if space.size <= 100 else 50,
        source=source,
        manifest={} if manifest is None else manifest,
    )


def mini_pooling_table() -> MeasuredTable:
    """Return the laptop benchmark: 21 pooling placements, trained alone with 6 seeds each.

    Fashion-MNIST at 8 x 8 pixels, 30,000 training images, 3 epochs; accuracies are shares of the
    official test set. The file and its manifest are shipped; `nas-ext ground-truth` made them.
    """
    return _shipped("mini-pooling", PoolingSpace(layers=8, poolings=2, name="mini-pooling"))


def mini_macro_table() -> MeasuredTable:
    """Return four layers of NAS-Bench-Macro, 81 networks, trained alone with 3 seeds each.

    A stem of 8 channels, stages of 2 layers with 8 and 16, a head of 32; images, trainings and
    accuracies as in `mini_pooling_table`. A plain product of layer choices, so that methods which
    mix all options can search it.
    """
    plan = nasbench_macro_plan(stem=8, widths=(8, 16), layers=(2, 2), head=32)
    return _shipped("mini-macro", NASBenchMacroSpace(plan))


def narrow_pooling_table() -> MeasuredTable:
    """Return the 36 placements of a ResNet20 of a quarter's width, trained alone with 4 seeds.

    Images, trainings and accuracies as in `mini_pooling_table`.
    """
    space = PoolingSpace(layers=10, poolings=2, name="pooling-resnet20")
    return _shipped("narrow-pooling", space)


def _shipped(name: str, space: SearchSpace) -> MeasuredTable:
    """Read a table and its manifest from the package."""
    folder = files("nas_ext.benchmarks") / "data"
    return measured_table(
        (folder / f"{name}.csv").read_text(encoding="utf-8"),
        space,
        name=name,
        source="nas-ext: Fashion-MNIST at 8 x 8 pixels, test accuracy, trained alone",
        origin=f"{name}.csv",
        manifest=json.loads((folder / f"{name}.json").read_text(encoding="utf-8")),
    )

"""Tables measured by this package: a CSV with one line an architecture and one column a seed."""

from __future__ import annotations

import csv
import io
from importlib.resources import files
from pathlib import Path

import numpy as np

from nas_ext.architecture import Architecture, SearchSpace
from nas_ext.benchmarks.table import Table
from nas_ext.pooling import PoolingSpace

__all__ = ["measured_table", "mini_pooling_table"]

HEAD = ["name", "architecture", "macs", "parameters"]


def measured_table(
    text: str, space: SearchSpace, *, name: str, source: str, origin: str = "text"
) -> Table:
    """Return the table that `nas-ext ground-truth` wrote, from the text of its CSV.

    Accuracies are the means over the seeds, deviations the samples' (ddof = 1). Raises ValueError,
    naming `origin`, for another form, for architectures that are missing, unknown or called
    otherwise in the space, and for fewer than two seeds.
    """
    rows = list(csv.reader(io.StringIO(text)))
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
    return Table(
        name=name,
        space=space,
        accuracies={a: float(np.mean(values)) for a, values in found.items()},
        deviations={a: float(np.std(values, ddof=1)) for a, values in found.items()},
        macs=macs,
        params=params if len(set(params.values())) > 1 else {},
        seeds=found,
        candidates=space.size if space.size <= 100 else 50,
        source=source,
    )


def mini_pooling_table() -> Table:
    """Return the laptop benchmark: 21 pooling placements, trained alone with 6 seeds each.

    Fashion-MNIST at 8 x 8 pixels, 30,000 training images, 3 epochs; accuracies are shares of the
    official test set. The file and its manifest are shipped; `nas-ext ground-truth` made them.
    """
    data = files("nas_ext.benchmarks") / "data" / "mini-pooling.csv"
    return measured_table(
        data.read_text(encoding="utf-8"),
        PoolingSpace(layers=8, poolings=2, name="mini-pooling"),
        name="mini-pooling",
        source="nas-ext: Fashion-MNIST at 8 x 8 pixels, test accuracy, trained alone",
        origin=Path(str(data)).name,
    )

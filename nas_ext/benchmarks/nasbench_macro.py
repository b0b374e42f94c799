"""NAS-Bench-Macro: 6,561 chains of eight layers on CIFAR-10, each trained alone three times."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from nas_ext.benchmarks.table import Table, data_file
from nas_ext.files import naming, read_json
from nas_ext.nasbench_macro import NASBenchMacroSpace

__all__ = ["FILE", "NASBenchMacroSpace", "nasbench_macro_table"]

FILE = "nas-bench-macro_cifar10.json"
"""The published file; it comes from the repository xiusu/NAS-Bench-Macro (Apache-2.0)."""


def nasbench_macro_table(path: str | Path | None = None) -> Table:
    """Read the published ground truth: test accuracy of three trainings, parameters, macs.

    `path` is the file or its folder; without it NAS_EXT_DATA names either. The accuracies are
    *test* accuracies of each training's best epoch by the test set: as rewards they are an oracle.
    Fifty candidates are the choice of chapter 3 for this space. Raises ValueError for a file
    that is missing, incomplete or of another shape.
    """
    space = NASBenchMacroSpace()
    file = data_file(FILE, path)
    rows = read_json(file)
    codes = {space.code(architecture): architecture for architecture in space}
    if not isinstance(rows, dict) or set(rows) != set(codes):
        found = len(rows) if isinstance(rows, dict) else type(rows).__name__
        raise ValueError(f"{file} must have the {len(codes):,} keys 00000000 to 22222222: {found}")
    with naming(file):
        entries = {codes[code]: _entry(file, code, row) for code, row in rows.items()}
    entries = {architecture: entries[architecture] for architecture in space}
    return Table(
        name="nasbench-macro",
        space=space,
        accuracies={a: entry["mean_acc"] / 100 for a, entry in entries.items()},
        deviations={a: entry["std"] / 100 for a, entry in entries.items()},
        seeds={a: tuple(s / 100 for s in entry["test_acc"]) for a, entry in entries.items()},
        macs={a: entry["flops"] for a, entry in entries.items()},
        params={a: entry["params"] for a, entry in entries.items()},
        candidates=50,
        source="NAS-Bench-Macro: CIFAR-10 test accuracy, trained alone, 3 seeds, best epoch",
    )


def _entry(file: Path, code: str, row: Any) -> dict[str, Any]:
    """Return a row of the file when it has the published fields; ValueError when it has not."""
    entry: dict[str, Any] = row if isinstance(row, dict) else {}
    seeds = entry.get("test_acc")
    valid = isinstance(seeds, list) and bool(seeds) and all(map(_is_number, seeds))
    valid = valid and all(_is_number(entry.get(name)) for name in ("mean_acc", "std"))
    if not valid or not all(isinstance(entry.get(name), int) for name in ("params", "flops")):
        raise ValueError(
            f"{file} must have test_acc, mean_acc, std, params and flops for {code}, got {row!r}"
        )
    mean = math.fsum(entry["test_acc"]) / len(entry["test_acc"])
    if abs(mean - entry["mean_acc"]) > 1e-3:
        raise ValueError(
            f"mean_acc of {code} in {file} must be the mean of test_acc, {mean:.4f}, "
            f"got {entry['mean_acc']}"
        )
    return entry


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)

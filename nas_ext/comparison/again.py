"""Whether a study that was run again finds what was shipped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from nas_ext.comparison.outcome import TESTED
from nas_ext.field_types import check_fields, clause
from nas_ext.files import check_format, read_json

__all__ = ["FORMAT", "Again", "against_shipped", "read_shipped"]

FORMAT = "nas-ext/evidence-1"


@dataclass(frozen=True)
class Again:
    """Compare a mean with the interval that was shipped.

    `same` says whether the mean is the shipped one, `inside` whether it lies in the interval. Of
    independent repetitions of n seeds, about 83 % of the means would: both have noise.
    """

    experiment: str
    competitor: str
    metric: str
    mean: float
    shipped: float
    low: float
    high: float

    @property
    def same(self) -> bool:
        """Say whether the two means differ by less than rounding."""
        return abs(self.mean - self.shipped) < 1e-9

    @property
    def inside(self) -> bool:
        """Say whether the mean lies in the interval that was shipped."""
        return self.low <= self.mean <= self.high

    def to_json(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return {**asdict(self), "same": self.same, "inside": self.inside}


Shipped: TypeAlias = list[tuple[str, Mapping[str, Any]]]
"""Experiments of earlier results by their names, of which there may be several alike."""


def read_shipped(folder: str | Path | None) -> Shipped:
    """Read the experiments in the results of a folder, of JSON files the ones of `FORMAT`.

    Raises ValueError, with the file's name, for a folder that is not there or has no results, and
    for a damaged or later one.
    """
    if folder is None:
        return []
    if not Path(folder).is_dir():
        raise ValueError(f"against must be a folder with earlier results, got {folder}")
    found: Shipped = []
    some = False
    for file in sorted(Path(folder).glob("*.json")):
        values = read_json(file)
        form = values.get("format") if isinstance(values, Mapping) else None
        if not isinstance(form, str) or not form.startswith(FORMAT.rstrip("0123456789")):
            continue  # something else that lies there
        some = True
        found += _experiments(check_format(values, FORMAT, file), file)
    if not some:
        raise ValueError(f"against must be a folder with earlier results, {folder} has none")
    return found


def against_shipped(results: Mapping[str, Mapping[str, Any]], shipped: Shipped) -> list[Again]:
    """Compare the tested means with the intervals of earlier results.

    Only the same experiment counts: table, budget, seeds, training and competitor alike.
    """
    return [
        again
        for name, old in shipped
        if name in results and _alike(results[name]["experiment"], old["experiment"])
        for again in _means_again(name, results[name]["means"], old["means"])
    ]


def _experiments(values: Mapping[str, Any], file: Path) -> Shipped:
    experiments = _mapping(values.get("experiments"), "experiments", file)
    for name, old in experiments.items():
        parts = _mapping(old, f"experiment {name!r}", file)
        _mapping(parts.get("experiment"), f"settings of {name!r}", file)
        means = _mapping(parts.get("means"), f"means of {name!r}", file)
        for competitor, numbers in means.items():
            known = _mapping(numbers, f"means of {competitor!r}", file)
            for metric in TESTED:
                if known.get(metric) is not None:
                    of = f" of {metric} of {competitor!r} in {file}"
                    check_fields(_interval(known[metric], of), of=of)
    return list(experiments.items())


@dataclass(frozen=True)
class _Interval:
    mean: float
    low: float
    high: float


def _interval(values: Any, of: str) -> _Interval:
    if not isinstance(values, Mapping) or not {"mean", "low", "high"} <= set(values):
        raise ValueError(f"numbers{of} must be mean, low and high, got {clause(values)}")
    return _Interval(values["mean"], values["low"], values["high"])


def _mapping(value: Any, what: str, file: Path) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{what} of {file} must be an object, got {clause(value)}")
    return value


def _alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    names = ("table", "first_seed", "seeds", "budget", "training")
    return all(one.get(name) == other.get(name) for name in names)


def _means_again(
    name: str, means: Mapping[str, Any], shipped: Mapping[str, Any]
) -> Iterable[Again]:
    for competitor, numbers in means.items():
        for metric in TESTED:
            old = shipped.get(competitor, {}).get(metric)
            if old is not None and metric in numbers:
                yield Again(
                    name,
                    competitor,
                    metric,
                    numbers[metric]["mean"],
                    old["mean"],
                    old["low"],
                    old["high"],
                )

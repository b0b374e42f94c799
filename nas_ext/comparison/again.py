"""Whether a study that was run again finds what was shipped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nas_ext.comparison.outcome import TESTED
from nas_ext.files import naming, read_json

__all__ = ["FORMAT", "Again", "against_shipped"]

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


def against_shipped(
    results: Mapping[str, Mapping[str, Any]], folder: str | Path | None
) -> list[Again]:
    """Compare the tested means with the intervals in the JSON files of a folder.

    Only the same experiment counts: table, budget, seeds, training and competitor alike. Raises
    ValueError for a folder that is not there.
    """
    if folder is None:
        return []
    if not Path(folder).is_dir():
        raise ValueError(f"against must be a folder with earlier results, got {folder}")
    found = []
    for file in sorted(Path(folder).glob("*.json")):
        shipped = read_json(file)
        if not isinstance(shipped, Mapping) or shipped.get("format") != FORMAT:
            continue
        with naming(file):
            for name, old in shipped["experiments"].items():
                if name in results and _alike(results[name]["experiment"], old["experiment"]):
                    found += list(_means_again(name, results[name]["means"], old["means"]))
    return found


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

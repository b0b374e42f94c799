"""Run again what made a folder, and compare."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nas_ext.agreement import Check
from nas_ext.field_types import clause
from nas_ext.files import read_json, write_json
from nas_ext.manifest import changes, manifest
from nas_ext.reproduce_measured import again_bench, again_comparison, again_ground_truth
from nas_ext.reproduce_searches import again_search
from nas_ext.reproduce_trainings import again_final, again_fit

__all__ = ["FILE", "FORMAT", "Reproduction", "content_of", "manifest_of", "reproduce"]

FORMAT = "nas-ext/reproduction-1"
FILE = "reproduction.json"
"""What a reproduction leaves in its folder when it has ended."""

MOST_THREADS = 10_000
"""No machine has more processors; torch would try to start them."""

Again = Callable[..., list[Check]]

KINDS: Mapping[str, tuple[str, Again]] = {
    "search.json": ("search", again_search),
    "comparison.json": ("comparison", again_comparison),
    "ground-truth.json": ("ground truth", again_ground_truth),
    "final.json": ("final training", again_final),
    "fit.json": ("fit", again_fit),
}
"""The file that tells what a folder holds, what that is called, and who runs it again."""

BENCH = ("bench", again_bench)


@dataclass(frozen=True)
class Reproduction:
    """Hold what came out the same when something was run again, and what did not.

    `changes` are the differences between the manifest and this machine, with which the last bits
    may differ.
    """

    kind: str
    folder: Path
    out: Path
    changes: tuple[str, ...]
    checks: tuple[Check, ...]

    @property
    def same(self) -> bool:
        """Say whether everything agrees, within what was allowed."""
        return all(check.same for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """Return the reproduction as JSON values."""
        return {
            "format": FORMAT,
            "kind": self.kind,
            "folder": str(self.folder),
            "out": str(self.out),
            "same": self.same,
            "changes": list(self.changes),
            "checks": [check.to_json() for check in self.checks],
        }


def reproduce(
    folder: str | Path,
    *,
    out: str | Path | None = None,
    source: str | None = None,
    within: float = 0.0,
    workers: int = 1,
    say: Callable[[str], None] = lambda text: None,
) -> Reproduction:
    """Run a search, fit, final training, comparison, ground truth or bench again, and compare.

    `folder` is what one of these left, or the file that `bench --json` printed; a demonstration
    is reproduced search by search. `out` is a new folder, by default beside the old one with
    "-again" to its name; it receives the run and `reproduction.json`. `source` says where the
    images are now; they must be the same ones. Numbers may differ by `within`. A training has
    the number of threads that the manifest says. `workers` are processes for a comparison and a
    ground truth, whose numbers do not depend on them. What a manifest says otherwise than this
    machine is said first; then the last bits may differ.

    Raises ValueError for a folder that holds none of these, that lacks what is needed to run it
    again, whose images are not there or others, and for an `out` that is not new.
    """
    place = Path(folder)
    kind, again, values = _found(place)
    known = manifest_of(values, place)
    fresh = _new(place, out)
    now = manifest(seeds=(), data=None, threads=known.get("threads"))
    found = changes(known, now)
    for line in found:
        say(f"not as it was: {line}")
    if found:
        say("so the last bits may differ: the largest difference is said")
    say(f"running the {kind} of {place} again, in {fresh}")
    with _threads(known.get("threads")):
        checks = again(
            place, fresh, values, source=source, within=within, workers=workers, say=say
        )
    made = Reproduction(kind, place, fresh, tuple(found), tuple(checks))
    write_json(fresh / FILE, made.to_json())
    return made


def _found(place: Path) -> tuple[str, Again, dict[str, Any]]:
    """Return what a folder holds, who runs it again, and the content of its file."""
    if place.is_file():
        values = content_of(place)
        if "scores" not in values or "table" not in values:
            raise ValueError(f"{place} must be a folder, or what `nas-ext bench --json` printed")
        return *BENCH, values
    held = [name for name in KINDS if (place / name).is_file()]
    if not held:
        raise ValueError(
            f"folder must hold one of {', '.join(KINDS)} to be run again, {place} holds none"
        )
    return *KINDS[held[0]], content_of(place / held[0])


def content_of(file: Path) -> dict[str, Any]:
    """Return the object of a JSON file; ValueError, with its name, for anything else."""
    values = read_json(file)
    if not isinstance(values, dict):
        raise ValueError(f"{file} must hold an object, got {type(values).__name__}")
    return values


def manifest_of(values: Mapping[str, Any], source: Path) -> Mapping[str, Any]:
    """Return the manifest of a result; older ones say some of it themselves."""
    known = values.get("manifest", values)
    if not isinstance(known, Mapping):
        raise ValueError(f"manifest of {source} must be an object, got {type(known).__name__}")
    threads = known.get("threads")
    if threads is not None and not (type(threads) is int and 1 <= threads <= MOST_THREADS):
        raise ValueError(
            f"threads of the manifest of {source} must be a number from 1 to {MOST_THREADS:,}, "
            f"got {clause(threads)}"
        )
    names = ("versions", "cpu", "threads", "git", "platform", "settings", "accelerators")
    whole = "manifest" in values
    return {name: known.get(name) for name in names if whole or name in names[:3]}


def _new(place: Path, out: str | Path | None) -> Path:
    """Return the folder of the second run; ValueError for one that holds something."""
    fresh = place.with_name(f"{place.stem if place.is_file() else place.name}-again")
    fresh = fresh if out is None else Path(out)
    if fresh.exists() and not fresh.is_dir():
        raise ValueError(f"out must be a folder, got the file {fresh}")
    if fresh.exists() and any(fresh.iterdir()):
        raise ValueError(f"out must be a new folder, {fresh} is not empty: name another one")
    fresh.mkdir(parents=True, exist_ok=True)
    return fresh


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(before if count is None else count)
        yield
    finally:
        torch.set_num_threads(before)

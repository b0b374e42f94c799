"""The settings of a run, in its folder from the beginning: what a resumed search needs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas_ext.field_types import clause
from nas_ext.files import check_format, read_json, write_json

__all__ = ["FORMAT", "RUN", "differences", "read_run", "unfinished", "write_run"]

RUN = "run.json"
"""The file of a run that holds the settings it was begun with."""

FORMAT = "nas-ext/run-1"

_PARTS = ("space", "arguments", "strategy", "settings", "training", "data")


def write_run(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write the settings of a run that begins; ValueError for what JSON cannot hold."""
    write_json(folder / RUN, {"format": FORMAT, **settings})


def read_run(folder: Path) -> dict[str, Any]:
    """Return the settings that a run was begun with.

    Raises ValueError for a folder without any, and for a file that is no whole one.
    """
    file = folder / RUN
    if not file.is_file():
        raise ValueError(f"out must hold a search to go on with, {folder} has no {RUN}")
    values = dict(check_format(read_json(file), FORMAT, file))
    for name in _PARTS:
        wanted = str if name in ("space", "strategy") else dict
        if not isinstance(values.get(name), wanted):
            kind = "a text" if wanted is str else "an object"
            raise ValueError(f"{name} of {file} must be {kind}, got {clause(values.get(name))}")
    typed = values.get("command", [])
    if not isinstance(typed, list) or not all(isinstance(word, str) for word in typed):
        raise ValueError(f"command of {file} must be texts, got {clause(typed)}")
    return values


def unfinished(folder: Path) -> bool:
    """Say whether a folder holds a search that was begun and has no result."""
    return (folder / RUN).exists() and not (folder / "search.json").exists()


def differences(known: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """Name the settings that are not those a run was begun with: "steps must be 5, got 6".

    Images may have moved: their digest says which they are.
    """
    found = []
    for name in _PARTS:
        old, new = known[name], given[name]
        if not isinstance(old, Mapping):
            old, new = {name: old}, {name: new}
        for key in dict.fromkeys((*old, *new)):
            if key != "source" and old.get(key) != new.get(key):
                found.append(f"{key} must be {clause(old.get(key))}, got {clause(new.get(key))}")
    return found

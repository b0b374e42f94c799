"""What one search learned, read from files for another: the part that trees and mixtures share."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from nas_ext.architecture import SearchSpace
from nas_ext.files import read_json, wrong_format
from nas_ext.results import FORMAT as SEARCH_FORMAT

__all__ = ["Source", "check_space", "document", "read_document", "source_setting"]

Source: TypeAlias = str | os.PathLike[str] | Mapping[str, Any]
"""A file, the folder or `search.json` of a search, or what these hold."""


def document(state: Mapping[str, Any], space: SearchSpace, *, form: str) -> dict[str, Any]:
    """Return a state as JSON values, with its format and the name and size of its space."""
    return {
        "format": form,
        "space": {"name": space.name, "size": space.size},
        "state": dict(state),
    }


def read_document(source: Source, *, form: str, kind: str) -> dict[str, Any]:
    """Return the document of a format; that of a search is under `kind` in its result.

    Raises ValueError when there is no such file, when it is of another format, and for a search
    that left nothing of this kind. The state is not looked into.
    """
    if isinstance(source, Mapping):
        found, name = source, kind
    elif not isinstance(source, str | os.PathLike):
        raise ValueError(f"{kind} must be a file, a folder or what they hold, got {source!r}")
    else:
        path = Path(source) / "search.json" if Path(source).is_dir() else Path(source)
        found, name = read_json(path), str(path)
    given = found.get("format") if isinstance(found, Mapping) else None
    if given not in (form, SEARCH_FORMAT):
        raise ValueError(wrong_format(given, (form, SEARCH_FORMAT), name))
    space = found.get("space")
    state = found.get("state" if given == form else kind)
    if given == SEARCH_FORMAT and state is None:
        raise ValueError(
            f"{name} must come from a search with a {kind}, {found.get('strategy')} has none"
        )
    if not (isinstance(space, Mapping) and {"name", "size"} <= set(space)):
        raise ValueError(f"space of {name} must have a name and a size, got {space!r}")
    if not isinstance(state, Mapping):
        raise ValueError(f"{name} must hold the state of a {kind}, got {type(state).__name__}")
    return {
        "format": form,
        "space": {"name": space["name"], "size": space["size"]},
        "state": dict(state),
    }


def check_space(saved: Mapping[str, Any], space: SearchSpace, *, kind: str) -> None:
    """Raise ValueError unless a document is of a space: name and size are compared."""
    known = saved["space"]
    if (known["name"], known["size"]) != (space.name, space.size):
        raise ValueError(
            f"{kind} must be of space {space.name!r} with {space.size:,} architectures, "
            f"got one of {known['name']!r} with {known['size']}"
        )


def source_setting(source: Source | None, saved: Mapping[str, Any] | None) -> str | None:
    """Return how a strategy's settings name a source: a file by its path, else by a digest."""
    if source is None or not isinstance(source, Mapping):
        return None if source is None else str(source)
    text = json.dumps(saved, sort_keys=True)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"

"""The file that a training goes on from."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from nas_ext.field_types import check_fields, clause
from nas_ext.files import naming, write_bytes
from nas_ext.retrain.distributed import Ranks
from nas_ext.retrain.result import Epoch
from nas_ext.retrain.training import Training
from nas_ext.tensor_files import load_plain


def save(
    path: Path,
    training: Training,
    identity: Mapping[str, Any],
    history: Sequence[Epoch],
    ranks: Ranks,
) -> None:
    """Write all that a continuation needs; the first of several processes does, for all."""
    state = {
        "identity": dict(identity),
        "history": [asdict(epoch) for epoch in history],
        "training": training.state_dict(),
    }
    if ranks.first:
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_bytes(path, buffer.getvalue())


def restore(
    path: Path, training: Training, identity: Mapping[str, Any], ranks: Ranks
) -> list[Epoch]:
    """Give a training its saved state back, and return the epochs it had; none without a file.

    Raises ValueError, with the file's name, for a broken file and for one of another training.
    """
    content = ranks.from_first(_content(path) if ranks.first else None)
    if content is None:
        return []
    try:
        state = load_plain(content)
    except ValueError as error:
        raise ValueError(f"{path} is not a readable checkpoint: {error}") from error
    if not isinstance(state, Mapping) or not isinstance(state.get("identity"), Mapping):
        raise ValueError(f"{path} is not a readable checkpoint: it says not of which training")
    try:
        with naming(f"checkpoint {path}"):
            _check_identity(state["identity"], identity, path)
            history = _epochs(state["history"], identity["recipe"]["epochs"])
            training.load_state_dict(state["training"])
    except RuntimeError as error:
        raise ValueError(f"checkpoint {path} does not fit the network: {error}") from error
    return history


def _check_identity(saved: Mapping[str, Any], identity: Mapping[str, Any], path: Path) -> None:
    for name, value in identity.items():
        if name not in saved or not _same(saved[name], value):
            raise ValueError(
                f"checkpoint {path} belongs to another training: {name} was "
                f"{clause(saved.get(name), 2000)}, is now {value}"
            )


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)


def _epochs(rows: Sequence[Mapping[str, Any]], most: int) -> list[Epoch]:
    """Return the epochs of a checkpoint; ValueError unless they are the first ones."""
    history = [Epoch(**row) for row in rows]
    for epoch in history:
        check_fields(epoch, of=" of an epoch")
    numbers = [epoch.epoch for epoch in history]
    if not 1 <= len(history) <= most or numbers != list(range(len(history))):
        raise ValueError(f"epochs must be the first of {most}, got {clause(numbers)}")
    if len(history) == most and None in (history[-1].accuracy, history[-1].loss):
        raise ValueError("accuracy and loss of the last epoch must be numbers, got None")
    return history


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes() if path.exists() else None
    except OSError as error:
        raise ValueError(f"{path} is not a readable checkpoint: {error}") from error

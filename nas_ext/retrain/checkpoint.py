"""The file that a training goes on from."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from nas_ext.files import write_bytes
from nas_ext.retrain.distributed import Ranks
from nas_ext.retrain.result import Epoch
from nas_ext.retrain.training import Training


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

    Raises ValueError for a broken file and for one of another training.
    """
    content = ranks.from_first(_content(path) if ranks.first else None)
    if content is None:
        return []
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        saved = state["identity"]
    except (
        *(EOFError, RuntimeError, pickle.UnpicklingError, ValueError),  # torch.load's
        *(KeyError, TypeError),  # not one of ours
    ) as error:
        raise ValueError(f"{path} is not a readable checkpoint: {error}") from error
    for name, value in identity.items():
        if saved.get(name) != value:
            raise ValueError(
                f"checkpoint {path} belongs to another training: {name} was {saved.get(name)}, "
                f"is now {value}"
            )
    try:
        training.load_state_dict(state["training"])
    except RuntimeError as error:
        raise ValueError(f"checkpoint {path} does not fit the network: {error}") from error
    return [Epoch(**epoch) for epoch in state["history"]]


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes() if path.exists() else None
    except OSError as error:
        raise ValueError(f"{path} is not a readable checkpoint: {error}") from error

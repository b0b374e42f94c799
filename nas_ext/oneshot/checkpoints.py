"""What a checkpoint of a search says of itself, and the last one of an interrupted run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas_ext.oneshot import differentiable_module, module
from nas_ext.oneshot.resuming import WholeFiles

__all__ = ["Position", "last_checkpoint", "position"]


@dataclass(frozen=True)
class Position:
    """Say how far a search had come: step, of how many where that is known, in which phase."""

    step: int
    steps: int | None
    phase: str

    def __str__(self) -> str:
        of = "" if self.steps is None else f" of {self.steps}"
        return f"step {self.step}{of}, in phase {self.phase!r}"


def position(path: str | Path) -> Position:
    """Return how far the search of a checkpoint had come.

    Raises ValueError for a file that is damaged, or no checkpoint of a search.
    """
    loaded = WholeFiles().load_checkpoint(path)
    try:
        if module.STATE_KEY in loaded:
            return _of_search(loaded[module.STATE_KEY])
        if differentiable_module.STATE_KEY in loaded:
            steps = int(loaded[differentiable_module.STATE_KEY]["steps"])
            return Position(steps, None, "mixture")
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f"checkpoint {path} must be whole, got {error!r}") from error
    raise ValueError(f"checkpoint {path} must come from a search of nas-ext")


def _of_search(state: dict[str, Any]) -> Position:
    phases, at = state["phases"], max(int(state["search"]["phase"]), 0)
    before = sum(int(steps) for _, steps in phases[:at])
    step = before + int(state["search"]["step_of_phase"])
    return Position(step, sum(int(steps) for _, steps in phases), str(phases[at][0]))


def last_checkpoint(folder: str | Path) -> Path | None:
    """Return the newest checkpoint of a search below a folder, None where there is none.

    For what NNI's experiments and Lightning's `ModelCheckpoint` leave when they are interrupted:
    pass it on as `fit_kwargs={"ckpt_path": ...}` of NNI's `Lightning`, with the same strategy,
    trainer and loaders, in a new experiment. NNI's own resume begins at the first step again.
    Files that were not finished, and others' checkpoints, are passed over.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ValueError(f"folder must exist, got {root}")
    files = sorted(root.rglob("*.ckpt"), key=lambda file: file.stat().st_mtime_ns, reverse=True)
    for file in files:
        try:
            position(file)
        except ValueError:
            continue
        return file
    return None

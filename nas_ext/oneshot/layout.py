"""In which order the weights of convolutions lie in memory, which decides how fast they are."""

from __future__ import annotations

import copy
import statistics
import time
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

__all__ = ["MemoryFormat", "arrange", "check_memory_format", "faster_layout"]

MemoryFormat: TypeAlias = Literal["channels_last", "contiguous"]
"""Channels behind the pixels, or torch's own order with the pixels behind the channels."""

ROUNDS = 3


def check_memory_format(memory_format: str) -> None:
    """Raise ValueError unless there is such a layout, or it is to be measured."""
    known = (*get_args(MemoryFormat), "measure")
    if memory_format not in known:
        raise ValueError(f"memory_format must be one of {list(known)}, got {memory_format!r}")


def arrange(model: nn.Module, memory_format: MemoryFormat) -> None:
    """Lay out the weights of two-dimensional convolutions, in place; the parameters stay.

    A convolution computes in the layout of its weights, whatever that of its inputs, and passes
    it on, so that nothing else has to be converted. Values stay the same; what the two layouts
    compute differs in the last bits.
    """
    last = memory_format == "channels_last"
    wanted = torch.channels_last if last else torch.contiguous_format
    for parameter in model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=wanted)


def faster_layout(model: nn.Module, inputs: Any) -> tuple[MemoryFormat, float]:
    """Return the layout in which training passes take less time, and how many times less.

    The median ratio of a few forward and backward passes of copies of the model, in turn, in the
    wall's time; the model and torch's generators stay as they are.
    """
    last, plain = copy.deepcopy(model), copy.deepcopy(model)
    arrange(last, "channels_last")
    arrange(plain, "contiguous")
    with torch.random.fork_rng():
        pairs = [(_seconds(last, inputs), _seconds(plain, inputs)) for _ in range(ROUNDS + 1)]
    ratio = statistics.median(slow / fast for fast, slow in pairs[1:])  # the first ones warm up
    return ("channels_last", ratio) if ratio >= 1 else ("contiguous", 1 / ratio)


def _seconds(model: nn.Module, inputs: Any) -> float:
    """Return how long one forward and backward pass takes."""
    _wait()
    start = time.perf_counter()
    with torch.enable_grad():
        outputs = [leaf for leaf in tree_leaves(model(inputs)) if isinstance(leaf, Tensor)]
        torch.autograd.backward([leaf.float().sum() for leaf in outputs])
    _wait()
    model.zero_grad()
    return time.perf_counter() - start


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()

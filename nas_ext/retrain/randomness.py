"""Random numbers of a training's own: seeded inside, the process's left as they were."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


@contextmanager
def kept_randomness(device: torch.device) -> Iterator[None]:
    """Give the global generators of Python, NumPy, torch and the device their state back."""
    state = random_state(device)
    try:
        yield
    finally:
        set_random_state(state, device)


@contextmanager
def own_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the global generators inside, and give them their state back at the end.

    Raises ValueError for a seed that is negative or has more than 32 bits.
    """
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must be at least 0 and below 2**32, got {seed}")
    with kept_randomness(device):
        seed_generators(seed, device)
        yield


def seed_generators(seed: int, device: torch.device, *, rank: int = 0) -> None:
    """Seed the global generators; those of another rank draw other numbers."""
    own = derived_seed(seed, rank)
    random.seed(own)
    np.random.seed(own)  # noqa: NPY002  (timm and networks draw from it)
    torch.default_generator.manual_seed(own)  # not manual_seed: it reseeds every GPU too
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(own)


def derived_seed(seed: int, rank: int) -> int:
    """Return the seed of one of several processes; the first one's is the seed itself."""
    if rank == 0:
        return seed
    return int(np.random.SeedSequence([seed, rank]).generate_state(1)[0])


def random_state(device: torch.device) -> dict[str, Any]:
    """Return the state of the global generators as tensors and plain values."""
    name, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002
    return {
        "python": random.getstate(),
        "numpy": (name, [int(key) for key in keys], *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def set_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Give the global generators a state from `random_state`."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], device)

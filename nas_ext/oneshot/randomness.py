"""What training draws from, kept in a checkpoint: the epochs after it are then the same ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

__all__ = ["Randomness", "generators"]


class Randomness:
    """Save and restore torch's global generators and those of the training loader.

    Lightning keeps neither, so that a resumed run shuffles and drops out anew. `watch` hands over
    the loader, before it is iterated. Python's and NumPy's global generators are not kept.
    """

    def __init__(self) -> None:
        self._generators: list[torch.Generator] | None = None
        self._waiting: list[torch.Tensor] | None = None

    def watch(self, loader: Any) -> None:
        """Keep the generators of this loader from now on; restore them if they are waited for."""
        self._generators = generators(loader)
        if self._waiting is not None:
            self._restore(self._generators, self._waiting)
            self._waiting = None

    def state_dict(self) -> dict[str, Any]:
        """Return the states as tensors."""
        return {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "loader": [generator.get_state() for generator in self._generators or []],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises ValueError when the training loader has another number of generators.
        """
        torch.set_rng_state(state["torch"].cpu())
        if state["cuda"] and torch.cuda.device_count() == len(state["cuda"]):
            torch.cuda.set_rng_state_all([one.cpu() for one in state["cuda"]])
        if self._generators is None:  # a data module makes its loader later
            self._waiting = state["loader"]
        else:
            self._restore(self._generators, state["loader"])

    def _restore(self, generators: list[torch.Generator], states: list[torch.Tensor]) -> None:
        if len(generators) != len(states):
            raise ValueError(
                f"training loader must have the {len(states)} generators of the checkpoint, "
                f"got {len(generators)}"
            )
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state.cpu())


def generators(loader: Any) -> list[torch.Generator]:
    """Return the generators of a loader, or of a structure of loaders, each once."""
    return list({id(generator): generator for generator in _all(loader)}.values())


def _all(loader: Any) -> Iterator[torch.Generator]:
    if isinstance(loader, dict | list | tuple):
        for one in loader.values() if isinstance(loader, dict) else loader:
            yield from _all(one)
        return
    samplers = [getattr(loader, name, None) for name in ("sampler", "batch_sampler")]
    inner = [getattr(sampler, "sampler", None) for sampler in samplers]
    for part in (loader, getattr(loader, "dataset", None), *samplers, *inner):
        generator = getattr(part, "generator", None)
        if isinstance(generator, torch.Generator):
            yield generator

"""What training draws from, kept in a checkpoint: the batches after it are then the same ones."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from nas_ext.oneshot.ordered import OrderedLoader

__all__ = ["Randomness", "generators"]


class Randomness:
    """Save and restore the global generators, the training loader's, and its place in the epoch.

    Lightning keeps none of them, so that a resumed run shuffles and drops out anew. `watch` hands
    over the loader, before it is iterated; `ordered` the one that Lightning iterates. The global
    generators are torch's, Python's and NumPy's.
    """

    def __init__(self) -> None:
        self._generators: list[torch.Generator] | None = None
        self._loader: OrderedLoader | None = None
        self._waiting: dict[str, Any] | None = None

    def watch(self, loader: Any) -> None:
        """Keep the generators of this loader from now on; restore them if they are waited for."""
        self._generators = generators(loader)
        if self._waiting is not None:
            self._restore(self._generators, self._waiting["loader"])

    def ordered(self, loader: Any) -> OrderedLoader:
        """Return a loader of the same batches that can go on inside an epoch."""
        self._loader = OrderedLoader(loader, states=self._states, restore=self._load)
        if self._waiting is not None:
            self._go_on(self._loader, self._waiting)
            self._waiting = None
        return self._loader

    def _states(self) -> dict[str, Any]:
        """Return the states of all generators as numbers and tensors."""
        version, words, gauss = random.getstate()
        numpy: Any = np.random.get_state(legacy=False)  # noqa: NPY002 - what users' loaders draw
        return {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "python": [version, torch.tensor(words), gauss],
            "numpy": {
                "bit_generator": str(numpy["bit_generator"]),
                "key": torch.from_numpy(numpy["state"]["key"].astype(np.int64)),
                "pos": int(numpy["state"]["pos"]),
                "has_gauss": int(numpy["has_gauss"]),
                "gauss": float(numpy["gauss"]),
            },
            "loader": [generator.get_state() for generator in self._generators or []],
        }

    def state_dict(self, trained: int = 0, *, ended: bool = False) -> dict[str, Any]:
        """Return the states, and the place in the epoch after so many `trained` batches.

        There is none where everything has `ended`.
        """
        loader = None if ended else self._loader
        return {**self._states(), "place": None if loader is None else loader.place(trained)}

    def load_state_dict(self, state: dict[str, Any], *, place: bool = True) -> None:
        """Restore what `state_dict` returned; without `place`, the generators alone.

        Raises ValueError when the training loader has another number of generators.
        """
        self._load_global(state)
        if self._generators is None:  # a data module makes its loader later
            self._waiting = state
            return
        self._restore(self._generators, state["loader"])
        if place and self._loader is not None:
            self._go_on(self._loader, state)

    def _go_on(self, loader: OrderedLoader, state: dict[str, Any]) -> None:
        if state.get("place") is not None:  # older checkpoints have none
            now = {name: value for name, value in state.items() if name != "place"}
            loader.go_on(state["place"], now)

    def _load(self, states: dict[str, Any]) -> None:
        self._load_global(states)
        self._restore(self._generators or [], states["loader"])

    def _load_global(self, states: dict[str, Any]) -> None:
        torch.set_rng_state(states["torch"].cpu())
        if states["cuda"] and torch.cuda.device_count() == len(states["cuda"]):
            torch.cuda.set_rng_state_all([one.cpu() for one in states["cuda"]])
        if "python" not in states:  # older checkpoints
            return
        version, words, gauss = states["python"]
        random.setstate((version, tuple(words.tolist()), gauss))
        known = dict(states["numpy"])
        inner = {"key": known.pop("key").cpu().numpy().astype(np.uint32), "pos": known.pop("pos")}
        np.random.set_state({**known, "state": inner})  # noqa: NPY002

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

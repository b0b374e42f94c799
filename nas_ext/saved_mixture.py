"""Mixtures in files: how one search shared architectures out among supernets, for another."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nas_ext.architecture import SearchSpace
from nas_ext.estimation import FloatArray
from nas_ext.field_types import clause
from nas_ext.files import naming, write_json
from nas_ext.saved import Source, check_space, document, read_document

__all__ = [
    "FORMAT",
    "MixtureSource",
    "SavedMixture",
    "load_mixture",
    "read_mixture",
    "save_mixture",
]

FORMAT = "nas-ext/mixture-1"

MixtureSource: TypeAlias = Source
"""A file of `save_mixture`, the folder or `search.json` of a search, or what these hold."""


@dataclass(frozen=True)
class SavedMixture:
    """Hold a mixture of M supernets over C architectures, in the order of their space.

    `probabilities` `[C, M]` are p(m|c), `members` `[C]` the supernet that each architecture was
    evaluated in, from 0. `values` `[C, M]` are the running rewards a_cm, the initial value where
    `visits` `[C, M]` are 0. `prices` `[M]` are the column potentials of the fitting at
    `inverse_temperature`, p(m|c) ~ exp(s (a_cm - price_m)); both None where nothing was fitted.
    """

    models: int
    probabilities: FloatArray
    members: NDArray[np.int64]
    values: FloatArray
    visits: NDArray[np.int64]
    prices: FloatArray | None
    inverse_temperature: float | None


def save_mixture(
    path: str | os.PathLike[str], learned: Mapping[str, Any], space: SearchSpace
) -> None:
    """Write what `MixtureSampler.learned` returned, over the base space; whole or not at all."""
    write_json(path, document(learned, space, form=FORMAT))


def read_mixture(source: MixtureSource) -> dict[str, Any]:
    """Return the document of a mixture.

    Raises ValueError when there is no such file, when it is of another format, and for a search
    without a mixture. Whether the mixture fits a space, `load_mixture` says.
    """
    saved = read_document(source, form=FORMAT, kind="mixture")
    models = saved["state"].get("models")
    if type(models) is not int or models < 1:
        of = "" if isinstance(source, Mapping) else f" in {source}"
        raise ValueError(
            f"models of a mixture{of} must be a positive integer, got {clause(models)}"
        )
    return saved


def load_mixture(source: MixtureSource, space: SearchSpace) -> SavedMixture:
    """Return a saved mixture over a space, which is known by its name and its size.

    Raises ValueError for a mixture of another space and for a broken one.
    """
    saved = read_mixture(source)
    with naming("mixture" if isinstance(source, Mapping) else source):
        return _mixture(saved, space)


def _mixture(saved: Mapping[str, Any], space: SearchSpace) -> SavedMixture:
    check_space(saved, space, kind="mixture")
    state = saved["state"]
    shape = (space.size, int(state["models"]))
    prices = state.get("prices")
    inverse = state.get("inverse_temperature")
    law = _array(state, "probabilities", shape)
    if not ((law >= 0).all() and np.allclose(law.sum(axis=1), 1.0)):
        raise ValueError("probabilities of a mixture must sum to 1 for each architecture")
    members = _counts(state, "members", shape[:1])
    if not (members < shape[1]).all():
        raise ValueError(f"members of a mixture must lie in [0, {shape[1]})")
    return SavedMixture(
        models=shape[1],
        probabilities=law,
        members=members,
        values=_array(state, "values", shape),
        visits=_counts(state, "visits", shape),
        prices=None if prices is None else _array(state, "prices", shape[1:]),
        inverse_temperature=None if inverse is None else float(inverse),
    )


def _counts(state: Mapping[str, Any], name: str, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Return a field of a mixture; ValueError unless it is whole numbers from 0 of a shape."""
    found = _array(state, name, shape)
    if not ((found >= 0) & (found < 2**53) & (found == np.floor(found))).all():
        raise ValueError(f"{name} of a mixture must be whole numbers from 0")
    return found.astype(np.int64)


def _array(state: Mapping[str, Any], name: str, shape: tuple[int, ...]) -> FloatArray:
    """Return a field of a mixture; ValueError unless it is finite numbers of a shape."""
    try:
        found = np.asarray(state.get(name), dtype=np.float64)
    except (OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"{name} of a mixture must be numbers: {error}") from error
    if found.shape != shape or not np.isfinite(found).all():
        raise ValueError(
            f"{name} of a mixture must be finite numbers {list(shape)}, got {list(found.shape)}"
        )
    return found

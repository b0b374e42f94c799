"""The search space of any NNI model space."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from itertools import combinations
from typing import Any

from nas_ext.architecture import Architecture, Choice, SearchSpace
from nas_ext.nni import Categorical, CategoricalMultiple, Cell, ModelSpace

__all__ = ["search_space"]

MOST_OPTIONS = 2_000
"""The most ways to choose several of many that are listed as the options of one choice."""


def search_space(model_space: ModelSpace) -> SearchSpace:
    """Return the search space of a model space that has not become a supernet yet.

    A model space with a `search_space` of its own (those of `nas_ext.spaces`) says it itself.
    Any other is the free product of its labelled choices, in the order NNI lists them: of layers,
    inputs, depths, and arguments of layers. A choice of k out of n is one choice among all sets
    of k. Options that a smaller depth leaves unused are listed too, as NNI does. Raises TypeError
    for a mutable that is neither, for a choice of any number of inputs, which NNI's supernets
    cannot make, and for NNI's `Cell`s whose supernet is another network than their architectures.
    """
    own = getattr(model_space, "search_space", None)
    if isinstance(own, SearchSpace):
        return own
    _check_cells(model_space)
    choices, several = [], set()
    for label, mutable in model_space.simplify().items():
        if isinstance(mutable, Categorical):
            choices.append(Choice(label, tuple(mutable.values)))
        elif isinstance(mutable, CategoricalMultiple):
            choices.append(Choice(label, _sets(label, mutable.values, mutable.n_chosen)))
            several.add(label)
        else:
            raise TypeError(
                f"mutable {label!r} must be a plain choice, got {type(mutable).__name__}"
            )
    if not choices:
        raise TypeError(f"model_space must have a choice, {type(model_space).__name__} has none")
    return _ModelSearchSpace(type(model_space).__name__, choices, several=several)


def _check_cells(model_space: ModelSpace) -> None:
    """Raise TypeError for cells that a supernet joins in another way, or freezes anew."""
    for name, module in model_space.named_modules():
        if isinstance(module, Cell) and (
            module.op_candidates_factory is not None or module.merge_op == "loose_end"
        ):
            raise TypeError(
                f"{name} must be no NNI Cell with loose ends or made by factories: a supernet "
                "merges all its nodes, a frozen one does not and has fresh weights"
            )


class _ModelSearchSpace(SearchSpace):
    """Be a free product that knows which of its options NNI writes as lists."""

    def __init__(self, name: str, choices: Sequence[Choice], *, several: Collection[str]) -> None:
        super().__init__(name, choices)
        self._several = frozenset(several)

    def decode(self, architecture: Architecture) -> dict[str, Any]:
        """Return the sample, several chosen values as a list."""
        sample = super().decode(architecture)
        return {k: list(v) if k in self._several else v for k, v in sample.items()}


def _sets(label: str, values: Sequence[Any], chosen: int | None) -> tuple[tuple[Any, ...], ...]:
    """Return every set of so many values, in their order."""
    if chosen is None:
        raise TypeError(
            f"mutable {label!r} must choose a fixed number of {len(values)} values, "
            "got n_chosen=None"
        )
    count = math.comb(len(values), chosen)
    if count > MOST_OPTIONS:
        raise TypeError(
            f"mutable {label!r} must have at most {MOST_OPTIONS:,} options, got the {count:,} "
            f"sets of {chosen} out of {len(values)} values"
        )
    return tuple(combinations(values, chosen))

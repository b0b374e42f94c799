"""Which strategies can search which spaces, before anything is trained."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import nn

from nas_ext.architecture import ENUMERABLE, SearchSpace
from nas_ext.nni import LayerChoice, MutableModule
from nas_ext.oneshot import DifferentiableStrategy, SampledStrategy
from nas_ext.oneshot.option_parameters import option_parameters
from nas_ext.product_law import MOST_STATES
from nas_ext.strategies.independent import Independent
from nas_ext.strategies.iterative_mcts import IterativeMCTS
from nas_ext.strategies.pada import PADA
from nas_ext.strategies.prototype_density import PrototypeDensity
from nas_ext.strategies.strict_fairness import StrictFairness

__all__ = ["misfit"]


def misfit(
    strategy: SampledStrategy | DifferentiableStrategy,
    space: SearchSpace,
    model: nn.Module | None = None,
) -> str | None:
    """Return why a strategy, as it is set, cannot search a space; None where it can.

    With the `model` space, not yet a supernet, its kinds of choices are looked at too. What the
    strategy itself would refuse once it runs is found without running it.
    """
    for check in _CHECKS:
        try:
            check(strategy, space, model)
        except ValueError as error:
            return str(error)
    return None


def _size(strategy: Any, space: SearchSpace, model: nn.Module | None) -> None:
    """Check the limit of methods that compare all architectures."""
    limit = getattr(strategy, "max_architectures", None)
    if limit is not None and getattr(strategy, "subset", None) is None:
        space.check_enumerable(limit)


def _leaves(strategy: Any, space: SearchSpace, model: nn.Module | None) -> None:
    """Check that what is ranked for a tree is a part of a large space."""
    if isinstance(strategy, IterativeMCTS) and strategy.rank_subset is None:
        _check_rankable("rank_subset", space)


def _ranking(strategy: Any, space: SearchSpace, model: nn.Module | None) -> None:
    """Check that what is ranked at the end is a part of a large space."""
    if isinstance(strategy, SampledStrategy) and strategy.candidates is None:
        _check_rankable("candidates", space)


def _check_rankable(setting: str, space: SearchSpace) -> None:
    if space.size > ENUMERABLE:
        raise ValueError(
            f"{setting} must be a number where more than {ENUMERABLE:,} architectures "
            f"would be ranked, got {space.size:,}"
        )


def _prototypes(strategy: Any, space: SearchSpace, model: nn.Module | None) -> None:
    if isinstance(strategy, PrototypeDensity) and space.size < strategy.prototypes:
        raise ValueError(
            f"prototypes must be at most the {space.size} architectures, got {strategy.prototypes}"
        )


def _fairness(strategy: Any, space: SearchSpace, model: nn.Module | None) -> None:
    if isinstance(strategy, StrictFairness):
        strategy.passes_per_step(space)


def _law(strategy: Any, space: SearchSpace, model: nn.Module | None) -> None:
    """Check that a law of one law per choice can be summed."""
    if isinstance(strategy, Independent) or (
        isinstance(strategy, PADA) and strategy.path_sampling
    ):
        space.check_states(MOST_STATES)


def _paths(strategy: Any, space: SearchSpace, model: nn.Module | None) -> None:
    """Check that options have parameters whose gradients can be read."""
    if model is not None and isinstance(strategy, PADA) and strategy.path_sampling:
        option_parameters(model, space)


def _mixture(strategy: Any, space: SearchSpace, model: nn.Module | None) -> None:
    """Check that the options of a layer can be mixed, each layer by itself."""
    if not isinstance(strategy, DifferentiableStrategy):
        return
    if space.size != math.prod(len(choice.options) for choice in space.choices):
        raise ValueError("space must be a plain product of choices, here one limits another")
    if model is None:
        return
    mutable = [m for m in model.modules() if isinstance(m, MutableModule) and m is not model]
    others = sorted({type(m).__name__ for m in mutable if not isinstance(m, LayerChoice)})
    labels = {m.choice.label for m in mutable if isinstance(m, LayerChoice)}
    if others or labels != {choice.label for choice in space.choices}:
        raise ValueError(f"choices must all be between layers, got also {others}")


_CHECKS: tuple[Callable[[Any, SearchSpace, nn.Module | None], None], ...] = (
    _size,
    _leaves,
    _ranking,
    _prototypes,
    _fairness,
    _law,
    _paths,
    _mixture,
)

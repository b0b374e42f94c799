"""What a search has to beat on a table: random search, regularised evolution, Optuna's TPE."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from nas_ext.architecture import SearchSpace
from nas_ext.benchmarks.evolution import EvolutionSampler, neighbours
from nas_ext.benchmarks.tpe import TPESampler
from nas_ext.samplers import UniformSampler
from nas_ext.search import Phase

__all__ = [
    "BASELINES",
    "EvolutionSampler",
    "TPESampler",
    "neighbours",
    "random_search",
    "regularised_evolution",
    "tpe",
]

Phases: TypeAlias = tuple[Phase, ...]


def random_search(steps: int) -> Phases:
    """Return the phase that draws uniformly and holds the highest mean reward best."""
    return (Phase("random search", steps, lambda s: UniformSampler(s.space, s.rng)),)


def regularised_evolution(steps: int, *, population: int = 100, tournament: int = 25) -> Phases:
    """Return the phase of `EvolutionSampler`."""

    def build(space: SearchSpace, rng: np.random.Generator) -> EvolutionSampler:
        return EvolutionSampler(space, rng, population=population, tournament=tournament)

    return (Phase("evolution", steps, lambda s: build(s.space, s.rng)),)


def tpe(steps: int) -> Phases:
    """Return the phase of `TPESampler`."""
    return (Phase("tpe", steps, lambda s: TPESampler(s.space, s.rng)),)


BASELINES: Mapping[str, Callable[[int], Phases]] = MappingProxyType(
    {"random-search": random_search, "regularised-evolution": regularised_evolution, "tpe": tpe}
)
"""Phases for a number of single-batch evaluations, by the name that the bench prints."""

"""What a search has to beat on a table: random search, regularised evolution, Optuna's TPE."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import combinations, product
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from nas_ext.architecture import Architecture, SearchSpace
from nas_ext.samplers import Sampler, UniformSampler
from nas_ext.search import Phase

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import TPESampler as OptunaTPE
    from optuna.study import Study
    from optuna.trial import Trial

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


class _Averaging(Sampler):
    """Hold the architectures of the highest mean reward best, as random search does.

    Evolution and TPE would name the highest single reward. Under the noise of a batch that is
    the luckiest draw; the mean is the kinder answer to compare with.
    """

    def __init__(self, space: SearchSpace, rng: np.random.Generator) -> None:
        super().__init__(space, rng)
        self._told: list[tuple[Architecture, float]] = []

    def _update(self, architecture: Architecture, reward: float) -> None:
        self._told.append((architecture, reward))

    def candidates(self, count: int) -> tuple[Architecture, ...]:
        """Return the highest mean rewards, ties in the space's order; with none told, draws."""
        if not self._told:
            return super().candidates(count)
        rewards: dict[Architecture, list[float]] = {}
        for architecture, reward in self._told:
            rewards.setdefault(architecture, []).append(reward)
        means = {a: math.fsum(told) / len(told) for a, told in rewards.items()}
        return tuple(sorted(means, key=lambda a: (-means[a], a))[:count])

    def _state(self) -> dict[str, Any]:
        return {"told": [[list(a), reward] for a, reward in self._told]}

    def _load_state(self, state: dict[str, Any]) -> None:
        self._told = [(tuple(a), float(reward)) for a, reward in state["told"]]


class EvolutionSampler(_Averaging):
    """Mutate the best of a tournament, and let the oldest die, not the worst.

    The first `population` draws are uniform; then `tournament` members are drawn with
    replacement, and a uniform neighbour of the one with the highest reward is trained and joins.
    Source: Real et al. 2019, "Regularized Evolution for Image Classifier Architecture Search",
    with its population of 100 and sample of 25. Departures: the mutation always changes the
    architecture, and it changes as few choices as the space allows (`neighbours`).
    """

    def __init__(
        self,
        space: SearchSpace,
        rng: np.random.Generator,
        *,
        population: int = 100,
        tournament: int = 25,
    ) -> None:
        super().__init__(space, rng)
        for name, value in (("population", population), ("tournament", tournament)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.population: deque[tuple[Architecture, float]] = deque(maxlen=population)
        self.size = population
        self.tournament = tournament
        self._near: dict[Architecture, tuple[Architecture, ...]] = {}

    def ask(self) -> tuple[Architecture, ...]:
        if len(self.population) < self.size:
            return (self.space.draw(self.rng),)
        drawn = self.rng.integers(len(self.population), size=self.tournament).tolist()
        parent, _ = max((self.population[i] for i in drawn), key=lambda member: member[1])
        if parent not in self._near:
            self._near[parent] = neighbours(self.space, parent)
        near = self._near[parent]
        return (near[int(self.rng.integers(len(near)))],)

    def _update(self, architecture: Architecture, reward: float) -> None:
        super()._update(architecture, reward)
        self.population.append((architecture, reward))

    def _load_state(self, state: dict[str, Any]) -> None:
        super()._load_state(state)
        self.population = deque(self._told, maxlen=self.size)


def neighbours(space: SearchSpace, architecture: Architecture) -> tuple[Architecture, ...]:
    """Return the other architectures that differ in the fewest choices, in the space's order.

    One choice in a plain product; two where a pooling moves. Raises ValueError in a space of one
    architecture, which has none.
    """
    space.check(architecture)
    for changes in range(1, len(architecture) + 1):
        found = []
        for places in combinations(range(len(architecture)), changes):
            others = [
                [o for o in range(len(space.choices[p].options)) if o != architecture[p]]
                for p in places
            ]
            for options in product(*others):
                changed = list(architecture)
                for place, option in zip(places, options, strict=True):
                    changed[place] = option
                found.append(tuple(changed))
        if existing := sorted(a for a in found if a in space):
            return tuple(existing)
    raise ValueError(f"space {space.name!r} must have another architecture, it has {space.size}")


class TPESampler(_Averaging):
    """Ask Optuna's tree-structured Parzen estimator with its defaults.

    A plain product has one categorical parameter a choice, modelled jointly. Where a rule couples
    the choices, which Optuna cannot express, the architecture is one categorical parameter, as
    in the model space of the poolings. The seed of each draw comes from the search's generator.
    """

    def __init__(self, space: SearchSpace, rng: np.random.Generator) -> None:
        super().__init__(space, rng)
        options = [tuple(range(len(choice.options))) for choice in space.choices]
        self._product = space.size == math.prod(map(len, options))
        if not self._product:
            space.check_enumerable()
            options = [tuple(range(space.size))]
        self._names = [f"choice{i}" for i in range(len(options))]
        self._distributions = _categorical(dict(zip(self._names, options, strict=True)))
        self._seeded = _seeded(self._distributions)
        self._study = _study()
        self._open: tuple[Architecture, Trial] | None = None

    def ask(self) -> tuple[Architecture, ...]:
        self._abandon()
        self._study.sampler = self._seeded(int(self.rng.integers(2**32)))
        trial = self._study.ask(self._distributions)
        values = [int(trial.params[name]) for name in self._names]
        chosen = tuple(values) if self._product else self.space.at(values[0])
        self._open = chosen, trial
        return (chosen,)

    def _abandon(self) -> None:
        """Close a trial that was never rewarded: Optuna would wait for it for ever."""
        if self._open is not None:
            from optuna.trial import TrialState

            self._study.tell(self._open[1], state=TrialState.FAIL)
            self._open = None

    def _update(self, architecture: Architecture, reward: float) -> None:
        super()._update(architecture, reward)
        if self._open is not None and self._open[0] == architecture:
            self._study.tell(self._open[1], reward)
            self._open = None
            return
        self._abandon()
        self._add(architecture, reward)

    def _add(self, architecture: Architecture, reward: float) -> None:
        from optuna.trial import create_trial

        values = architecture if self._product else (self.space.index(architecture),)
        params = dict(zip(self._names, values, strict=True))
        trial = create_trial(params=params, distributions=self._distributions, value=reward)
        self._study.add_trial(trial)

    def _load_state(self, state: dict[str, Any]) -> None:
        super()._load_state(state)
        self._study = _study()
        self._open = None
        for architecture, reward in self._told:
            self._add(architecture, reward)


def _categorical(options: Mapping[str, tuple[int, ...]]) -> dict[str, BaseDistribution]:
    from optuna.distributions import CategoricalDistribution

    return {name: CategoricalDistribution(values) for name, values in options.items()}


def _study() -> Study:
    """Return an empty study in memory, without the line that Optuna logs."""
    import optuna

    with _silent():
        return optuna.create_study(direction="maximize")


@contextmanager
def _silent() -> Iterator[None]:
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(max(before, optuna.logging.WARNING))
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def _seeded(distributions: dict[str, BaseDistribution]) -> Callable[[int], OptunaTPE]:
    """Return a function from a seed to Optuna's sampler that draws these parameters together.

    Optuna would look for them in every past trial; here all trials have the same. One trial runs
    at a time, so none has to be assumed bad while it runs (`constant_liar`).
    """
    from optuna.samplers import TPESampler as Tpe
    from optuna.trial import FrozenTrial

    class Joint(Tpe):
        def infer_relative_search_space(
            self, study: Study, trial: FrozenTrial
        ) -> dict[str, BaseDistribution]:
            return distributions

    return lambda seed: Joint(seed=seed, constant_liar=False)

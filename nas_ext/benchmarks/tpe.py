"""Optuna's tree-structured Parzen estimator as a sampler."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from nas_ext.architecture import Architecture, SearchSpace
from nas_ext.benchmarks.mean_rewards import MeanRewardSampler

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import TPESampler as OptunaTPE
    from optuna.study import Study
    from optuna.trial import Trial

__all__ = ["TPESampler"]


class TPESampler(MeanRewardSampler):
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

"""Optuna's TPE with draws that depend on the seed and the trial alone, not on restarts."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState


class SeededTPE(BaseSampler):
    """Draw with a `TPESampler(group=True)` built anew for every trial, from seed and trial.

    Optuna's own sampler with a seed repeats its first draws when a study is continued by a new
    process. Here the draws of a trial follow from the seed, the trial's place in the sequence
    and the trials finished before, so a study may stop and go on at any trial. A retry of an
    interrupted trial (Optuna's `retry_history`) takes no place of its own. With several workers
    the draws still depend on who finishes first. `group=True` models parameters that only some
    trials have, such as the learning rate of one of two optimizers.
    """

    def __init__(self, seed: int) -> None:
        if seed < 0:
            raise ValueError(f"seed must not be negative, got {seed}")
        self._seed = seed
        self._running: dict[int, TPESampler] = {}

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Build the trial's own sampler."""
        # a retry draws what was left to draw in the place of the trial it repeats
        first = trial.system_attrs.get("retry_history", [trial.number])[0]
        trials = study.get_trials(deepcopy=False)
        retries = sum("retry_history" in t.system_attrs for t in trials if t.number < first)
        sequence = np.random.SeedSequence([self._seed, first - retries])
        seed = int(sequence.generate_state(1)[0])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*group", ExperimentalWarning)
            self._running[trial.number] = TPESampler(seed=seed, multivariate=True, group=True)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the parameters that are drawn together."""
        return self._running[trial.number].infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw the parameters that are drawn together."""
        return self._running[trial.number].sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Draw a parameter on its own."""
        sampler = self._running[trial.number]
        return sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Let go of the trial's sampler, if it is one of this process."""
        if (sampler := self._running.pop(trial.number, None)) is not None:
            sampler.after_trial(study, trial, state, values)

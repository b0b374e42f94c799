"""Searches led by a sampler, on weights that stay as they are."""

from __future__ import annotations

import numpy as np

from nas_ext.architecture import SearchSpace
from nas_ext.estimation import PerformanceEstimator
from nas_ext.samplers.base import Sampler
from nas_ext.samplers.boltzmann import BoltzmannSampler
from nas_ext.schedule import linear
from nas_ext.search import Ranked
from nas_ext.selection.ranking import rank

__all__ = ["boltzmann", "explore"]


def explore(
    sampler: Sampler, estimator: PerformanceEstimator, *, steps: int, top: int = 10
) -> tuple[Ranked, ...]:
    """Let a sampler draw and learn for so many steps, then rank its best `top` candidates.

    The recursion of a search without its training: each draw is worth one validation batch, each
    candidate the whole validation set.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    if top < 1:
        raise ValueError(f"top must be at least 1, got {top}")
    for _ in range(steps):
        for architecture in sampler.ask():
            sampler.tell(architecture, estimator.reward(architecture))
    return rank(estimator, sampler.candidates(top))


def boltzmann(
    space: SearchSpace,
    estimator: PerformanceEstimator,
    *,
    rng: np.random.Generator,
    steps: int = 2000,
    top: int = 10,
    temperature: float = 0.02,
    final_temperature: float = 0.0025,
    decay: float = 0.95,
    initial: float | None = 1.0,
) -> tuple[Ranked, ...]:
    """Rank what Boltzmann exploration found: p(a) = softmax(eps_a / T), T falling linearly.

    `steps` single-batch rewards; then the `top` architectures of the highest moving average among
    those visited are evaluated in full. With an `initial` value of 1, which no reward beats, the
    search first goes once through a space of no more than a few hundred. Budget and `top` are
    ours, since the source is silent: 2,000 for the pooling spaces, 10,000 and a `temperature` of
    .01 for NAS-Bench-Macro. Section 2.3, as chapter 5 uses it.
    """
    if not 0 < final_temperature <= temperature:
        raise ValueError(
            f"final_temperature must be positive and at most the temperature {temperature}, "
            f"got {final_temperature}"
        )
    sampler = BoltzmannSampler(
        space,
        rng,
        temperature=linear(temperature, final_temperature, steps),
        decay=decay,
        initial=initial,
    )
    return explore(sampler, estimator, steps=steps, top=top)

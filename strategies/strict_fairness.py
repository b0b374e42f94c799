"""Strict fairness (FairNAS): every option gets the same number of updates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nas_ext.architecture import SearchSpace
from nas_ext.oneshot import SampledStrategy
from nas_ext.samplers.strict_fair import StrictFairSampler
from nas_ext.search import Phase

__all__ = ["StrictFairness"]


@dataclass(kw_only=True, eq=False)
class StrictFairness(SampledStrategy):
    """Train m architectures on each batch that together use every option equally often.

    m is the largest number of options of a choice (3 on NAS-Bench-Macro, 5 on NAS-Bench-201); on
    a pooling space the number of positions, 9 for the published one, each pooled equally often.
    The gradients of the m architectures are summed, not averaged, and one optimizer step is made:
    published code keeps the learning rate and clips the gradient's norm at 5, which is
    `gradient_clip_val=5` of the trainer.

    A step is an optimizer step and costs m forward and backward passes. The source compares at
    equal passes: give the trainer 1/m of the steps of a strategy that trains one architecture a
    step, `passes_per_step(space)` says m. A schedule of the learning rate by steps then ends with
    them. `candidates` None ranks the whole space; a number ranks so many uniform draws. No
    rewards.

    Source: section 4.2. A published baseline never clears its list of permutations within an
    epoch and trains the same m architectures throughout: not mirrored. Departures: the pooling
    space, where the method cannot be stated literally, takes a random Hamiltonian cycle of
    positions; choices with fewer options go on with a permutation in the next step.
    """

    asks_rewards: ClassVar[bool] = False

    candidates: int | None = None

    def phases(self, steps: int) -> tuple[Phase, ...]:
        return (Phase("strict fairness", steps, lambda s: StrictFairSampler(s.space, s.rng)),)

    def passes_per_step(self, space: SearchSpace) -> int:
        """Return m; ValueError for a space on which strict fairness is not defined."""
        return StrictFairSampler.passes_per_step(space)

"""Importance sampling of each choice by itself."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nas_ext.samplers.independent import IndependentSampler
from nas_ext.schedule import Schedule
from nas_ext.search import Setting
from nas_ext.strategies.annealed import AnnealedStrategy

__all__ = ["Independent"]


@dataclass(kw_only=True, eq=False)
class Independent(AnnealedStrategy):
    """Learn what each option of each choice is worth, whatever the other choices are.

    A reward moves the value of every option that the architecture took; draws are a product of
    softmaxes, conditioned exactly on the architecture's existence (on the pooling space,
    rejection would accept 7 % of fair coins). The `candidates` are the best option of each choice,
    or the most probable architecture where those do not go together, and draws at the final
    temperature. `exploration` adds the visit bonus of the trees; the source has none.

    Source: section 3.1, which does not say whether its probabilities come from averaged rewards or
    from learned logits: averages and softmax here, the machinery of the rows beside it.
    Temperatures and the split of the steps are those of `MCTS`.
    """

    exploration: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.exploration < math.inf:
            raise ValueError(f"exploration must not be negative, got {self.exploration}")

    def sampler(self, setting: Setting, temperature: Schedule | None) -> IndependentSampler:
        before = setting.previous
        return IndependentSampler(
            setting.space,
            setting.rng,
            temperature=temperature,
            final_temperature=self.final_temperature,
            decay=self.decay,
            initial=self.initial_value,
            exploration=self.exploration,
            relative=self.shaping(setting),
            after=before if isinstance(before, IndependentSampler) else None,
        )

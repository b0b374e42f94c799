"""Uniform sampling: single path one-shot (SPOS)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nas_ext.oneshot import SampledStrategy
from nas_ext.samplers import UniformSampler
from nas_ext.search import Phase

__all__ = ["Uniform"]


@dataclass(kw_only=True, eq=False)
class Uniform(SampledStrategy):
    """Train architectures drawn uniformly, then rank them on the validation set.

    `candidates` None ranks the whole space, the thesis's choice for small ones; a number ranks so
    many uniform draws, as its other methods do on large ones (50 there). One phase, no rewards.

    Source: section 2.1 (SPOS), equations 2.1 and 5.1; the sum there has one term too many.
    Uniform over encodings where encodings of one network repeat, as in the thesis.
    """

    asks_rewards: ClassVar[bool] = False

    candidates: int | None = None

    def phases(self, steps: int) -> tuple[Phase, ...]:
        return (Phase("uniform", steps, lambda s: UniformSampler(s.space, s.rng)),)

"""Boltzmann exploration over whole architectures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nas_ext.samplers.boltzmann import BoltzmannSampler
from nas_ext.schedule import Schedule, linear
from nas_ext.search import Setting
from nas_ext.strategies.annealed import AnnealedStrategy

__all__ = ["Boltzmann"]


@dataclass(kw_only=True, eq=False)
class Boltzmann(AnnealedStrategy):
    """Draw architectures by a softmax of their own averaged rewards: no tree, no sharing.

    `schedule` is "temperature", whose T falls linearly (chapter 3), or "inverse", whose 1/T
    rises linearly between the same ends. Chapter 2 rises from 1 without a uniform phase; its end
    is not printed, 100 is ours: `Boltzmann(schedule="inverse", temperature=1.0,
    final_temperature=0.01, shares=(1,))`. The `candidates` are the visited architectures of
    highest value.

    An architecture nobody visited stands at `initial_value`: at 1 and a low temperature, the
    rest of the space is visited before anything is exploited, which a large space never ends.

    Source: section 2.3, equation 2.6, there BSE or SBE; chapter 2 calls the inverse temperature
    tau. Temperatures and the split of the steps are those of `MCTS`, so that both compare.
    """

    schedule: Literal["temperature", "inverse"] = "temperature"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.schedule not in ("temperature", "inverse"):
            raise ValueError(f"schedule must be temperature or inverse, got {self.schedule!r}")

    def cooling(self, steps: int) -> Schedule:
        if self.schedule == "temperature":
            return super().cooling(steps)
        rising = linear(1 / self.temperature, 1 / self.final_temperature, steps)
        return lambda step: 1 / rising(step)

    def sampler(self, setting: Setting, temperature: Schedule | None) -> BoltzmannSampler:
        before = setting.previous
        return BoltzmannSampler(
            setting.space,
            setting.rng,
            temperature=temperature,
            decay=self.decay,
            initial=self.initial_value,
            relative=self.shaping(setting),
            after=before if isinstance(before, BoltzmannSampler) else None,
        )

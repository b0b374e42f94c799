"""Settings and phases of the strategies that sharpen a law while the temperature falls."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

from nas_ext.samplers import Sampler
from nas_ext.schedule import Schedule, linear, split
from nas_ext.search import Phase, Setting
from nas_ext.strategies.rewarded import RewardedStrategy

__all__ = ["AnnealedStrategy"]


@dataclass(kw_only=True, eq=False)
class AnnealedStrategy(RewardedStrategy):
    """A strategy of uniform draws that fill a table of values, then of draws by those values.

    The temperature falls linearly from `temperature` to `final_temperature` over the last phase.
    `decay` is the beta of the moving averages, `initial_value` what a value starts from: 1, or
    None for its first reward. `shares` divide the steps between the two phases, 65 to 35 like the
    trees'; one share alone, as (1,), leaves the uniform phase out.
    """

    temperature: float = 0.02
    final_temperature: float = 0.0025
    initial_value: float | None = 1.0
    shares: tuple[float, ...] = (0.65, 0.35)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("temperature", "final_temperature"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.final_temperature > self.temperature:
            raise ValueError(
                f"final_temperature must not exceed temperature {self.temperature}, "
                f"got {self.final_temperature}"
            )
        if self.initial_value is not None and not 0 <= self.initial_value <= 1:
            raise ValueError(f"initial_value must lie in [0, 1] or be None: {self.initial_value}")
        if len(self.shares) not in (1, 2) or not all(0 < s < math.inf for s in self.shares):
            raise ValueError(f"shares must be 1 or 2 positive numbers, got {list(self.shares)}")

    def phases(self, steps: int) -> tuple[Phase, ...]:
        *warm, search = split(steps, self.shares)
        cooling = self.cooling(search)
        return (
            *(Phase("warm-up", part, lambda s: self.sampler(s, None)) for part in warm),
            Phase("search", search, lambda s: self.sampler(s, cooling)),
        )

    def cooling(self, steps: int) -> Schedule:
        """Return the temperature at each step of the last phase."""
        return linear(self.temperature, self.final_temperature, steps)

    @abstractmethod
    def sampler(self, setting: Setting, temperature: Schedule | None) -> Sampler:
        """Return the sampler of a phase: uniform without a temperature, knowing what the one
        before knew.
        """

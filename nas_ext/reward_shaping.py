"""Rewards that say how an architecture does beside the others, not how well it does."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from nas_ext.estimation import check_reward

__all__ = ["Quantity", "RelativeReward"]

Quantity: TypeAlias = Literal["accuracy", "loss"]
"""What the mean is taken of: the reward, or the loss L whose reward is exp(-L)."""

SMALLEST = 1e-300
"""Rewards are clamped here before a logarithm: a loss is at most 690."""


class RelativeReward:
    """Put each reward against the running mean of all rewards before it and its own.

    The mean moves as mean <- decay mean + (1 - decay) x, from the first x; x is the reward, or
    with `of="loss"` the loss -log(reward). The published relative rewards are the ratios
    q = x / mean of an accuracy and q = mean / x of a loss, which have no upper bound. Returned is
    q / (1 + q), that is x / (x + mean) or mean / (x + mean): a share in [0, 1] in the same order,
    0.5 for an average architecture. A difference near the mean is a quarter of that of q, so a
    quarter of a temperature and of an exploration constant tuned for q fit. Where reward and mean
    are 0 the share is 0.5. Section 1.3, after Su et al. 2021, whose form is recalled, not quoted.
    """

    def __init__(self, *, of: Quantity = "accuracy", decay: float = 0.95) -> None:
        if of not in ("accuracy", "loss"):
            raise ValueError(f"of must be 'accuracy' or 'loss', got {of!r}")
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay must lie in [0, 1), got {decay}")
        self.of: Quantity = of
        self.decay = decay
        self.mean: float | None = None

    def __call__(self, reward: float) -> float:
        """Move the mean by a reward in [0, 1] and return its relative share."""
        value = check_reward(reward)
        if self.of == "loss":
            value = -math.log(max(value, SMALLEST))
        if self.mean is None:
            self.mean = value
        self.mean = self.decay * self.mean + (1 - self.decay) * value
        if value + self.mean == 0.0:
            return 0.5
        better = value if self.of == "accuracy" else self.mean
        return better / (value + self.mean)

    def state_dict(self) -> dict[str, Any]:
        """Return the mean, None before any reward."""
        return {"mean": self.mean}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.mean = None if state["mean"] is None else float(state["mean"])

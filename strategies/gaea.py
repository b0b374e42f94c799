"""GAEA: exponentiated gradients on the simplex of each layer's options."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nas_ext.architecture import SearchSpace
from nas_ext.oneshot.differentiable import DifferentiableStrategy
from nas_ext.oneshot.mixed import ArchitectureWeights

__all__ = ["GAEA", "SimplexWeights"]


class SimplexWeights(ArchitectureWeights):
    """Weigh the options by theta itself, a point of the simplex that starts in its middle.

    theta <- theta exp(-eta g) / Z, in the log domain and float64. What falls below `floor`, from
    where it could not come back, is set to it before the sum is made 1 again. Raises ValueError
    for a floor that the middle is below.
    """

    def __init__(self, space: SearchSpace, *, learning_rate: float, floor: float) -> None:
        most = max(len(choice.options) for choice in space.choices)
        if floor >= 1 / most:
            raise ValueError(f"floor must be below 1/{most} for {most} options, got {floor}")
        super().__init__(space, start=lambda options: 1.0 / options)
        self.learning_rate = learning_rate
        self.floor = floor

    def relax(self, values: Sequence[Tensor]) -> list[Tensor]:
        return list(values)

    def update(self, gradients: Sequence[Tensor]) -> None:
        for value, gradient in zip(self.values, gradients, strict=True):
            theta = value.detach().cpu().double()
            logits = theta.log() - self.learning_rate * gradient.detach().cpu().double()
            moved = torch.softmax(logits, dim=-1).clamp(min=self.floor)
            value.data.copy_(moved / moved.sum())


@dataclass(kw_only=True, eq=False)
class GAEA(DifferentiableStrategy):
    """Mix the options of each layer by points of the simplex, moved by exponentiated gradients.

    As `ResolutionDARTS` but for the architecture's step: no softmax, no Adam, no weight decay.
    `learning_rate` is eta, which the thesis leaves open: .1 is ours. `floor` is the least weight
    an option keeps, 1e-12, ours too.

    Source: chapter 2, section on multi-scale blocks, after Li et al., "Geometry-Aware Gradient
    Algorithms for Neural Architecture Search" (2021).
    """

    learning_rate: float = 0.1
    floor: float = 1e-12

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")
        if not 0 < self.floor < 0.5:
            raise ValueError(f"floor must lie in (0, 0.5), got {self.floor}")

    def relax(self, space: SearchSpace) -> SimplexWeights:
        return SimplexWeights(space, learning_rate=self.learning_rate, floor=self.floor)

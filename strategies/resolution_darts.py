"""DARTS, first order, on the resolutions of multi-scale blocks."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nas_ext.architecture import SearchSpace
from nas_ext.oneshot.differentiable import DifferentiableStrategy
from nas_ext.oneshot.mixed import ArchitectureWeights

__all__ = ["ResolutionDARTS", "SoftmaxWeights"]


class SoftmaxWeights(ArchitectureWeights):
    """Weigh the options by a softmax over alpha, which starts at ones and is moved by Adam."""

    def __init__(self, space: SearchSpace, *, learning_rate: float, weight_decay: float) -> None:
        super().__init__(space, start=lambda options: 1.0)
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self._adam: torch.optim.Adam | None = None
        self._kept: dict[str, Any] | None = None

    def relax(self, values: Sequence[Tensor]) -> list[Tensor]:
        return [torch.softmax(value, dim=-1) for value in values]

    def update(self, gradients: Sequence[Tensor]) -> None:
        adam = self._optimizer()
        for value, gradient in zip(self.values, gradients, strict=True):
            value.grad = gradient
        adam.step()
        adam.zero_grad()

    def _optimizer(self) -> torch.optim.Adam:
        """Return Adam, made when first needed: the values are on their device by then."""
        if self._adam is None:
            self._adam = self._fresh()
            if self._kept is not None:
                self._adam.load_state_dict(self._kept)
        return self._adam

    def _fresh(self) -> torch.optim.Adam:
        return torch.optim.Adam(self.values, lr=self.learning_rate, weight_decay=self.weight_decay)

    def get_extra_state(self) -> dict[str, Any]:
        """Return the moments of Adam, which go into checkpoints with the values."""
        return {"moments": self._kept if self._adam is None else self._adam.state_dict()["state"]}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore what `get_extra_state` returned."""
        self._adam = None
        if state["moments"] is None:
            self._kept = None
            return
        groups = self._fresh().state_dict()["param_groups"]
        # a copy: Adam would go on in the very tensors of the other's state
        self._kept = {"state": copy.deepcopy(state["moments"]), "param_groups": groups}


@dataclass(kw_only=True, eq=False)
class ResolutionDARTS(DifferentiableStrategy):
    """Mix the options of each layer by a softmax and learn its logits on validation batches.

    Meant for `ResolutionResNet`, whose blocks mix the resolutions that they compute at; serves
    any plain product of layer choices. First order: a step of the weights on a training batch,
    then one of Adam on alpha with `learning_rate` and `weight_decay`. The published weights are
    trained by SGD from .1 to 1e-5 by a cosine, momentum .9, weight decay 1e-4, batches of 256
    and 800 epochs, which is the evaluator's part (`SupernetTraining` goes to 0).

    Source: chapter 2, equations 2.4 and 2.5, and the published example's settings. Readings
    taken: alpha stands for the logits, the softmax for the weights, where the text writes alpha
    for both; resolutions begin at 0, see `ResolutionResNet`; networks with weights of their own
    for each resolution have as many as there are resolutions, 3, where the text counts 4.
    Departure: the found network is tested on a whole set, not on one batch.
    """

    learning_rate: float = 1e-2
    weight_decay: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay must not be negative, got {self.weight_decay}")

    def relax(self, space: SearchSpace) -> SoftmaxWeights:
        return SoftmaxWeights(
            space, learning_rate=self.learning_rate, weight_decay=self.weight_decay
        )

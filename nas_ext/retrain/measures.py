"""What is measured of a network beside its training: costs, limits on them, and objectives."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nas_ext.retrain.recipe import Recipe

Measure = Callable[[nn.Module, Recipe], float]
"""Measure an untrained network in evaluation mode, built for a recipe: its latency, say."""

Limit = float | tuple[Measure, float]
"""The largest value allowed of macs or parameters, or of a measure of one's own."""

Direction = Literal["minimize", "maximize"]

COUNTED = ("macs", "parameters")
TRAINED: Mapping[str, Direction] = {
    "accuracy": "maximize",
    "loss": "minimize",
    "seconds": "minimize",
}


@dataclass(frozen=True)
class Goals:
    """Say what a study optimises and which costs it limits.

    `objectives` are `"accuracy"` (to maximise) and, to minimise, `"loss"`, `"seconds"` (of the
    training), `"macs"`, `"parameters"` and the names of `constraints` with a measure.

    Raises ValueError for unknown names, an objective twice, and limits that are not finite.
    """

    objectives: tuple[str, ...]
    constraints: Mapping[str, Limit]

    def __post_init__(self) -> None:
        for name, limit in self.constraints.items():
            if name in TRAINED or (isinstance(limit, tuple) and name in COUNTED):
                raise ValueError(
                    f"constraints must not give a measure named {name!r}, which has its meaning"
                )
            if not isinstance(limit, tuple) and name not in COUNTED:
                raise ValueError(
                    f"constraints must be limits of {', '.join(COUNTED)} or pairs of a measure "
                    f"and its limit, got {name!r}: {limit!r}"
                )
            bound = limit[1] if isinstance(limit, tuple) else limit
            if not math.isfinite(bound):
                raise ValueError(f"the limit of {name} must be finite, got {bound}")
        known = [*TRAINED, *COUNTED, *(n for n in self.constraints if n not in COUNTED)]
        wrong = [name for name in self.objectives if name not in known]
        if wrong or not self.objectives or len(set(self.objectives)) < len(self.objectives):
            raise ValueError(
                f"objectives must be different ones of {', '.join(known)}, at least one, "
                f"got {list(self.objectives)}"
            )

    @property
    def directions(self) -> list[Direction]:
        """Return Optuna's direction of each objective."""
        return [TRAINED.get(name, "minimize") for name in self.objectives]

    @property
    def several(self) -> bool:
        """Say whether there is more than one objective."""
        return len(self.objectives) > 1

    def fingerprint(self) -> dict[str, Any]:
        """Return what a study must go on with; None stands for the defaults."""
        limits = {
            name: limit[1] if isinstance(limit, tuple) else limit
            for name, limit in self.constraints.items()
        }
        plain = self.objectives == ("accuracy",)
        return {
            "objectives": None if plain else list(self.objectives),
            "constraints": limits or None,
        }

    def measure(
        self, network: nn.Module, recipe: Recipe, input_size: Sequence[int]
    ) -> dict[str, float]:
        """Return macs, parameters and the values of the constraints' own measures.

        Raises ValueError for a measured value that is not finite.
        """
        network.eval()
        values: dict[str, float] = {
            "macs": count_macs(network, input_size),
            "parameters": sum(p.numel() for p in network.parameters() if p.requires_grad),
        }
        for name, limit in self.constraints.items():
            if isinstance(limit, tuple):
                values[name] = float(limit[0](network, recipe))
                if not math.isfinite(values[name]):
                    raise ValueError(f"the measured {name} must be finite, got {values[name]}")
        return values

    def excess(self, measured: Mapping[str, float]) -> dict[str, float]:
        """Return by how much each limited cost exceeds its limit; at most 0 is allowed."""
        limits = {n: x[1] if isinstance(x, tuple) else x for n, x in self.constraints.items()}
        return {name: measured[name] - limit for name, limit in limits.items()}


def count_macs(network: nn.Module, input_size: Sequence[int]) -> int:
    """Count the multiply-accumulates of one image through a network on the CPU.

    Convolutions and matrix products are counted, as torch's own counter does.
    """
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, *input_size))
    return int(counter.get_total_flops()) // 2

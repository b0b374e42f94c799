"""Who takes part in a comparison, and what a step of theirs costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from nas_ext.data import ImageData
from nas_ext.field_types import check_fields
from nas_ext.oneshot import DifferentiableStrategy, MixedLayer
from nas_ext.spaces import create as create_space
from nas_ext.strategies.fits import misfit
from nas_ext.strategies.gaea import GAEA
from nas_ext.strategies.registry import STRATEGIES, AnyStrategy
from nas_ext.strategies.registry import create as create_strategy

__all__ = [
    "NNI_DARTS",
    "NNI_RANDOM",
    "RANDOM_SEARCH",
    "Competitor",
    "Equal",
    "passes_of_mixture",
    "steps_within",
]

NNI_RANDOM, NNI_DARTS = "nni-random-oneshot", "nni-darts"
RANDOM_SEARCH = "random-search"

OTHERS: Mapping[str, tuple[str, ...]] = {
    NNI_RANDOM: (),
    NNI_DARTS: ("arc_learning_rate",),
    RANDOM_SEARCH: ("trainings",),
}
"""Who takes part beside the registered strategies, and what can be set of them."""

Equal: TypeAlias = Literal["passes", "steps"]


@dataclass(frozen=True, kw_only=True)
class Competitor:
    """Name a strategy with its settings; `strategy` is the registry's name, or one of `OTHERS`.

    The budget of a comparison is spent in training passes of one architecture on one batch, or,
    with `equal` "steps", in optimizer steps whatever a step costs. `times` multiplies it: what a
    method of M supernets does with M budgets.
    """

    label: str
    strategy: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    equal: Equal = "passes"
    times: int = 1

    def __post_init__(self) -> None:
        check_fields(self, kinds_only=True)
        if self.equal not in ("passes", "steps"):
            raise ValueError(f"equal must be 'passes' or 'steps', got {self.equal!r}")
        if not isinstance(self.times, int) or self.times < 1:
            raise ValueError(f"times must be a whole number from 1, got {self.times!r}")
        if self.strategy not in OTHERS:
            self.build(0)
            return
        if self.strategy == RANDOM_SEARCH and self.equal != "passes":
            raise ValueError(f"equal must be 'passes' for {RANDOM_SEARCH}, got {self.equal!r}")
        known = OTHERS[self.strategy]
        if not known and self.settings:
            raise ValueError(f"settings of {self.strategy} must be none, got {self.settings}")
        for name, value in self.settings.items():
            if name not in known:
                raise ValueError(
                    f"setting of {self.strategy} must be one of {list(known)}, got {name!r}"
                )
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise ValueError(f"{name} of {self.strategy} must be positive, got {value!r}")
        if not isinstance(self.settings.get("trainings", 1), int):
            raise ValueError(f"trainings must be a whole number, got {self.settings}")

    @property
    def mixes(self) -> bool:
        """Say whether every step trains all options at once, and nothing is drawn."""
        if self.strategy == NNI_DARTS:
            return True
        entry = STRATEGIES.get(self.strategy)
        return entry is not None and issubclass(entry.strategy, DifferentiableStrategy)

    def build(self, seed: int) -> AnyStrategy:
        """Return the registered strategy with a seed."""
        return create_strategy(self.strategy, **{**self.settings, "seed": seed})

    def described(self) -> dict[str, Any]:
        """Return all that shapes a search, as JSON values; what is usual is left out."""
        values = asdict(self)
        usual = {"equal": "passes", "times": 1}
        del values["label"]
        return {name: value for name, value in values.items() if usual.get(name) != value}

    def misfit(self, space: Mapping[str, Any]) -> str | None:
        """Return why the competitor cannot search a space, of `create`'s arguments, or None."""
        if self.strategy in (NNI_RANDOM, RANDOM_SEARCH):
            return None
        strategy = GAEA() if self.strategy == NNI_DARTS else self.build(0)
        model = create_space(num_classes=2, in_chs=1, **space)
        found = misfit(strategy, model.search_space, model)
        return None if found is None else f"{self.label} cannot search {space['name']}: {found}"


def steps_within(
    competitor: Competitor,
    strategy: AnyStrategy | None,
    budget: int,
    *,
    space: Mapping[str, Any],
    data: ImageData,
) -> int:
    """Return how many optimizer steps fit into a budget of training passes.

    `strategy` is the one the competitor builds, None where it builds none. Raises ValueError
    where not even one step fits.
    """
    total = budget * competitor.times
    if competitor.equal == "steps":
        return total
    passes = 1.0
    if competitor.mixes:
        passes = passes_of_mixture(space, data)
    elif (count := getattr(strategy, "passes_per_step", None)) is not None:
        passes = float(count(_model(space, data).search_space))
    if total < passes:
        raise ValueError(
            f"budget must be at least the {passes:.1f} passes of one step of {competitor.label}, "
            f"got {total}"
        )
    return int(total / passes)


def passes_of_mixture(space: Mapping[str, Any], data: ImageData) -> float:
    """Return how many training passes of one architecture a step of a mixture costs.

    Twice the macs of all options together over the mean macs of the architectures: a step runs
    every option forward and backward, on a training batch for the weights and on a validation
    batch of the same size for the architecture. The macs of the mixture are counted by running
    it, those of the architectures are the space's closed form. `space` are arguments of `create`.
    """
    with torch.random.fork_rng(devices=[]):
        model = _model(space, data)
        costs = [model.macs(a, image_size=data.image_size) for a in model.search_space.enumerate()]
        mixture = GAEA().mutate_model(model)
        for layer in mixture.modules():
            if isinstance(layer, MixedLayer):
                layer.mix(torch.full((len(layer),), 1 / len(layer)))
        images = torch.zeros(2, data.in_chs, *data.image_size)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            mixture(images)
    total = float(counter.get_total_flops())  # two for each multiply-accumulate: both batches
    return total / len(images) / float(np.mean(costs))


def _model(space: Mapping[str, Any], data: ImageData) -> Any:
    return create_space(num_classes=data.num_classes, in_chs=data.in_chs, **space)

"""What a differentiable search is made of: mixed layers, their weights and expected costs."""

from __future__ import annotations

import heapq
import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from nni.nas.nn.pytorch import LayerChoice
from torch import Tensor, nn

from nas_ext.architecture import Architecture, SearchSpace
from nas_ext.nni import BaseSuperNetModule

__all__ = ["ArchitectureWeights", "ExpectedMacs", "MixedLayer", "most_probable"]

_CHECKED = 32
"""How many architectures are held against the sum of their options' macs."""


class MixedLayer(LayerChoice, BaseSuperNetModule):  # type: ignore[misc]  # NNI has no types
    """Stand for a `LayerChoice` and return the weighted sum of all candidates' outputs.

    Every candidate gets a copy of the input: one that begins with an in-place operation would
    otherwise change what the next ones see, and the sum would silently be another one.
    `resample(memo)` with the layer's label runs that candidate alone, without a weight; without
    the label it mixes again.
    """

    def __init__(self, candidates: dict[str, nn.Module] | list[nn.Module], label: str) -> None:
        super().__init__(candidates, label=label)
        self._weights: Tensor | None = None
        self._taken: Any = None

    def mix(self, weights: Tensor) -> None:
        """Weigh the candidates by `[K]` numbers from now on.

        Raises ValueError unless there is one for each candidate.
        """
        if tuple(weights.shape) != (len(self),):
            raise ValueError(
                f"weights of {self.choice.label!r} must be [{len(self)}], "
                f"got {list(weights.shape)}"
            )
        self._weights, self._taken = weights, None

    def resample(self, memo: dict[str, Any]) -> dict[str, Any]:
        """Run what the memo names, or mix. Nothing is drawn, so nothing new is returned.

        Raises NNI's SampleValidationError for a candidate that does not exist.
        """
        self._taken = self.choice.freeze(memo) if self.choice.label in memo else None
        return {}

    def export(self, memo: dict[str, Any]) -> dict[str, Any]:
        """Return the candidate of the largest weight, the first of equals."""
        if self.choice.label in memo:
            return {}
        return {self.choice.label: self.names[int(self._mixture().argmax())]}

    def export_probs(self, memo: dict[str, Any]) -> dict[str, dict[Any, float]]:
        """Return the weight of each candidate."""
        if self.choice.label in memo:
            return {}
        return {self.choice.label: dict(zip(self.names, self._mixture().tolist(), strict=True))}

    @classmethod
    def mutate(
        cls, module: nn.Module, name: str, memo: dict[str, Any], mutate_kwargs: dict[str, Any]
    ) -> MixedLayer | Literal[False]:
        """Replace a layer choice; leave every other module to the next hook."""
        given: Any = module
        return type(module) is LayerChoice and cls(given.candidates, given.label)

    def _mixture(self) -> Tensor:
        if self._weights is None:
            raise RuntimeError(
                f"mixed layer {self.choice.label!r} must have weights before its forward"
            )
        return self._weights

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the sum over candidates of weight times output, all of one shape.

        Raises ValueError when outputs are no tensors or differ in shape.
        """
        if self._taken is not None:
            return self[self._taken](*args, **kwargs)
        total: Tensor | None = None
        for weight, candidate in zip(self._mixture(), self, strict=True):
            output = candidate(*_copied(args), **_copied(kwargs))
            if not isinstance(output, Tensor) or (
                total is not None and output.shape != total.shape
            ):
                found = list(getattr(output, "shape", ())) or type(output).__name__
                raise ValueError(
                    f"candidates of {self.choice.label!r} must return tensors of one shape, "
                    f"got {found}" + ("" if total is None else f" after {list(total.shape)}")
                )
            part = weight.to(output.dtype) * output
            total = part if total is None else total + part
        return total


def _copied(value: Any) -> Any:
    """Return arguments with their tensors copied."""
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {name: _copied(one) for name, one in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_copied(one) for one in value)
    return value


class ArchitectureWeights(nn.Module):
    """Hold the parameters of a relaxed search space: `values[i]` are the `[K]` of choice i.

    A method says how values become weights that sum to 1 (`relax`) and how a gradient moves them
    (`update`). The values never require a gradient themselves, so that no optimizer of weights
    and no training batch moves them. `start` is where all of them begin, given the number of
    options.
    """

    def __init__(self, space: SearchSpace, start: Callable[[int], float]) -> None:
        super().__init__()
        self.space = space
        sizes = [len(choice.options) for choice in space.choices]
        self.values = nn.ParameterList(
            nn.Parameter(torch.full((size,), start(size)), requires_grad=False) for size in sizes
        )

    @abstractmethod
    def relax(self, values: Sequence[Tensor]) -> list[Tensor]:
        """Return the weights, a `[K]` for each choice, as a differentiable function of values."""

    @abstractmethod
    def update(self, gradients: Sequence[Tensor]) -> None:
        """Move the values by the gradients of a loss with respect to them."""

    def weights(self) -> list[Tensor]:
        """Return the weights as they stand, without a gradient and apart from the values."""
        with torch.no_grad():
            return self.relax([value.detach().clone() for value in self.values])

    def probabilities(self) -> list[list[float]]:
        """Return the weights as numbers in float64 that sum to 1 for each choice."""
        rows = [row.detach().cpu().double() for row in self.weights()]
        return [(row / row.sum()).tolist() for row in rows]


@dataclass(frozen=True)
class ExpectedMacs:
    """Know the macs that a mixture stands for: the expectation over independent choices.

    Exact where macs are a sum over the choices: `base` is the architecture of first options,
    `extra[i][k]` what option k of choice i costs beyond the first one.
    """

    base: int
    extra: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, space: SearchSpace, macs: Callable[[Architecture], int]) -> ExpectedMacs:
        """Take the costs from a closed form.

        Raises ValueError when macs are no sum over the choices, as some drawn architectures show.
        """
        first = (0,) * len(space.choices)
        base = macs(first)
        extra = tuple(
            tuple(
                macs((*first[:place], option, *first[place + 1 :])) - base
                for option in range(len(choice.options))
            )
            for place, choice in enumerate(space.choices)
        )
        found = cls(base, extra)
        rng = np.random.default_rng(0)
        for architecture in (space.draw(rng) for _ in range(_CHECKED)):
            total = base + sum(row[k] for row, k in zip(extra, architecture, strict=True))
            if total != macs(architecture):
                raise ValueError(
                    f"macs of space {space.name!r} must be a sum over its choices, got "
                    f"{macs(architecture)} for {architecture}, the sum is {total}"
                )
        return found

    @property
    def largest(self) -> int:
        """Return the macs of the most expensive architecture."""
        return self.base + sum(max(row) for row in self.extra)

    def share(self, weights: Sequence[Tensor]) -> Tensor:
        """Return the expected macs as a share of the largest, a differentiable number."""
        total = weights[0].new_tensor(self.base / self.largest)
        for row, extra in zip(weights, self.extra, strict=True):
            total = total + (row * row.new_tensor(extra)).sum() / self.largest
        return total


def most_probable(
    space: SearchSpace, probabilities: Sequence[Sequence[float]], count: int
) -> tuple[Architecture, ...]:
    """Return the `count` architectures with the largest product of probabilities, best first.

    `space` is a plain product, of any size: it is not listed. Of equals the lower options come
    first; there are fewer than `count` when the space is smaller.
    """
    costs = [[-math.log(p) if p > 0 else math.inf for p in row] for row in probabilities]
    orders = [[k for _, k in sorted((cost, k) for k, cost in enumerate(row))] for row in costs]

    def cost(ranks: tuple[int, ...]) -> float:
        return math.fsum(
            row[order[rank]] for row, order, rank in zip(costs, orders, ranks, strict=True)
        )

    start: tuple[int, ...] = (0,) * len(costs)
    heap: list[tuple[float, tuple[int, ...], int]] = [(cost(start), start, 0)]
    found: list[Architecture] = []
    while heap and len(found) < count:
        _, ranks, last = heapq.heappop(heap)
        found.append(tuple(order[rank] for order, rank in zip(orders, ranks, strict=True)))
        # each place may only be raised by those that raised none after it: no one comes twice
        for place in range(last, len(ranks)):
            if ranks[place] + 1 < len(orders[place]):
                raised = (*ranks[:place], ranks[place] + 1, *ranks[place + 1 :])
                heapq.heappush(heap, (cost(raised), raised, place))
    return tuple(space.check(architecture) for architecture in found)

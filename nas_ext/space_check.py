"""What is to know about a model space before anything is trained."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from nas_ext.additive_cost import AdditiveCost
from nas_ext.additive_counts import AdditiveCounts
from nas_ext.architecture import ENUMERABLE, Architecture, SearchSpace
from nas_ext.budget import BudgetedSpace
from nas_ext.spaces import SPACES, create
from nas_ext.strategies import STRATEGIES
from nas_ext.tree import Node

__all__ = ["CostRange", "Memory", "Share", "SpaceCheck", "check_space"]

BYTES = 4
"""Bytes of a weight, of its gradient and of its momentum."""


@dataclass(frozen=True)
class CostRange:
    """Hold least, median and largest cost of a space's architectures.

    `sampled` is the number of uniform draws that the median is of, None where it is exact;
    `exact_bounds` says that least and largest are exact, else they are those of the draws.
    """

    least: int
    median: float
    largest: int
    sampled: int | None
    exact_bounds: bool


@dataclass(frozen=True)
class Share:
    """Hold how much of a space lies inside a window of macs, of so many draws or exactly (None).

    `architectures` is their exact number, None where they were only sampled.
    """

    low: int
    high: int
    share: float
    architectures: int | None
    sampled: int | None


@dataclass(frozen=True)
class Memory:
    """Hold what is kept in memory, in bytes and about.

    `training` is weights, gradients and momenta of the supernet, without activations.
    `learned_tree` and `distances` belong to a tree over all architectures, None where there are
    more than such trees take; `layer_tree` is for each architecture that a walk first reaches.
    """

    parameters: int
    weights: int
    training: int
    learned_tree: int | None
    distances: int | None
    layer_tree: int


@dataclass(frozen=True)
class SpaceCheck:
    """Hold what is known of a space: sizes, costs, memory, and which strategies fit.

    `distinct` counts networks where several encodings stand for one; None was not counted.
    Costs are None where the space has no closed form. `misfits` has a reason for each strategy
    that cannot search the space with its usual settings; `fits` are all others.
    """

    name: str
    task: str
    image_size: tuple[int, int]
    choices: tuple[int, ...]
    size: int
    distinct: int | None
    macs: CostRange | None
    parameters: CostRange | None
    inside: Share | None
    memory: Memory
    fits: tuple[str, ...]
    misfits: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return {**asdict(self), "misfits": dict(self.misfits)}


def check_space(
    name: str,
    *,
    image_size: tuple[int, int] | None = None,
    in_chs: int | None = None,
    num_classes: int | None = None,
    macs: tuple[int, int] | None = None,
    samples: int = 1000,
    seed: int = 0,
    arguments: Mapping[str, Any] | None = None,
) -> SpaceCheck:
    """Return what is known of a registered space, without building its weights.

    Image size, channels and classes are the space's usual ones unless given; `macs`, (low, high),
    is a window whose share is asked. Up to 20,000 architectures are listed; above that, costs that
    are sums have exact bounds and shares, and the rest is of `samples` uniform draws by `seed`.
    """
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    with torch.device("meta"):
        model: Any = create(
            name,
            num_classes=_usual(name, "num_classes", num_classes),
            in_chs=_usual(name, "in_chs", in_chs),
            **dict(arguments or {}),
        )
    size = _usual(name, "image_size", image_size)
    model.check_image_size(size)
    space: SearchSpace = model.search_space
    listed = tuple(space) if space.size <= ENUMERABLE else None
    rng = np.random.default_rng(seed)
    drawn = listed or tuple(space.draw(rng) for _ in range(samples))
    macs_of = _cost(model, "macs_table", size) or (lambda a: model.macs(a, image_size=size))
    weights_of = _cost(model, "parameter_table") or getattr(model, "parameter_count", None)
    reasons = {key: entry.misfit(space, model) for key, entry in STRATEGIES.items()}
    return SpaceCheck(
        name=name,
        task=SPACES[name].task,
        image_size=size,
        choices=tuple(len(choice.options) for choice in space.choices),
        size=space.size,
        distinct=len({space.canonical(a) for a in listed}) if listed else None,
        macs=_range(space, macs_of, drawn, listed is not None),
        parameters=(
            None if weights_of is None else _range(space, weights_of, drawn, listed is not None)
        ),
        inside=None if macs is None else _share(space, macs_of, drawn, macs),
        memory=_memory(model, space),
        fits=tuple(key for key, reason in reasons.items() if reason is None),
        misfits={key: reason for key, reason in reasons.items() if reason is not None},
    )


def _usual(name: str, what: str, given: Any) -> Any:
    """Return the given value, else the space's own; ValueError for an unknown space."""
    if name not in SPACES:
        raise ValueError(f"name must be one of {sorted(SPACES)}, got {name!r}")
    return getattr(SPACES[name], what) if given is None else given


_Cost = Callable[[Architecture], int]


def _cost(model: Any, table: str, *inputs: Any) -> AdditiveCost | None:
    """Return the table of a cost that is a sum, None where the model space has none."""
    made = getattr(model, table, None)
    found: AdditiveCost | None = None if made is None else made(*inputs)
    return found


def _range(
    space: SearchSpace, cost: _Cost, drawn: tuple[Architecture, ...], whole: bool
) -> CostRange:
    values = [cost(a) for a in drawn]
    least, largest = min(values), max(values)
    exact, median = whole, float(np.median(values))
    if not whole and isinstance(cost, AdditiveCost) and not isinstance(space, BudgetedSpace):
        (least, largest), exact = cost.bounds(space), True
    return CostRange(least, median, largest, None if whole else len(drawn), exact)


def _share(
    space: SearchSpace, cost: _Cost, drawn: tuple[Architecture, ...], window: tuple[int, int]
) -> Share:
    low, high = window
    if low > high:
        raise ValueError(f"macs must be a window from low to high, got {low:,} to {high:,}")
    if isinstance(cost, AdditiveCost):
        counts = AdditiveCounts(space, cost, low, high)
        inside = counts.count(0, counts.start())
        return Share(low, high, inside / space.size, inside, None)
    inside = sum(low <= cost(a) <= high for a in drawn)
    if len(drawn) == space.size:
        return Share(low, high, inside / space.size, inside, None)
    return Share(low, high, inside / len(drawn), None, len(drawn))


def _memory(model: nn.Module, space: SearchSpace) -> Memory:
    parameters = sum(parameter.numel() for parameter in model.parameters())
    node, whole = _node_bytes(space), space.size <= ENUMERABLE
    options = sum(len(choice.options) for choice in space.choices)
    return Memory(
        parameters=parameters,
        weights=BYTES * parameters,
        training=3 * BYTES * parameters,
        learned_tree=(2 * space.size - 1) * node if whole else None,
        distances=8 * (space.size * (space.size - 1) // 2) if whole else None,
        layer_tree=options * node,
    )


def _node_bytes(space: SearchSpace) -> int:
    """Return what Python takes for a node of a tree: itself, two numbers, children, prefix."""
    node = Node(architecture=(0,) * len(space.choices))
    parts = (node, node.value, node.height, (node, node), node.architecture)
    return sum(map(sys.getsizeof, parts))

"""The choice between accuracy and cost: what no other architecture beats in both."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from nas_ext.architecture import Architecture
from nas_ext.results import RankedArchitecture, SearchResult

__all__ = ["COSTS", "front", "hypervolume", "pareto_front"]

COSTS = ("macs", "parameters")
"""The costs that a ranking itself may know."""


def pareto_front(accuracies: Sequence[float], costs: Sequence[float]) -> tuple[int, ...]:
    """Return the places of the points that no other point dominates, cheapest first.

    A point dominates another with an accuracy no lower and a cost no higher, one of them
    strictly. Points that are equal in both do not dominate each other: all of them are returned,
    in their order. O(N log N). Raises ValueError for numbers that are not finite, and for
    different lengths.
    """
    if len(accuracies) != len(costs):
        raise ValueError(
            f"costs must be as many as the {len(accuracies)} accuracies, got {len(costs)}"
        )
    for name, values in (("accuracies", accuracies), ("costs", costs)):
        if not all(map(math.isfinite, values)):
            raise ValueError(f"{name} must be finite, got {list(values)}")
    kept: list[int] = []
    for place in sorted(range(len(costs)), key=lambda i: (costs[i], -accuracies[i])):
        if kept:
            last = kept[-1]
            same = costs[place] == costs[last] and accuracies[place] == accuracies[last]
            if accuracies[place] <= accuracies[last] and not same:
                continue
        kept.append(place)
    return tuple(kept)


def hypervolume(
    accuracies: Sequence[float], costs: Sequence[float], *, worst_cost: float
) -> float:
    """Return the area that the points dominate, up to accuracy 0 and the `worst_cost`.

    In units of cost; points that cost more than `worst_cost` add nothing. Larger is better, and
    no set of dominated points changes it.
    """
    if not 0.0 < worst_cost < math.inf:
        raise ValueError(f"worst_cost must be positive, got {worst_cost}")
    area, height = 0.0, 0.0
    for place in pareto_front(accuracies, costs):
        if costs[place] < worst_cost and accuracies[place] > height:
            area += (accuracies[place] - height) * (worst_cost - costs[place])
            height = accuracies[place]
    return area


def front(
    found: SearchResult | Iterable[RankedArchitecture],
    *,
    cost: str | Callable[[Architecture], float] = "macs",
) -> tuple[RankedArchitecture, ...]:
    """Return the non-dominated architectures of a ranking, cheapest first.

    By validation accuracy and macs, parameters, or a function of the architecture such as a
    table of latencies. Several with the same accuracy and cost all stay, in the ranking's order.
    Raises ValueError for an empty ranking and for one that does not know the cost.
    """
    ranking = found.ranking if isinstance(found, SearchResult) else tuple(found)
    if not ranking:
        raise ValueError("ranking must not be empty, got []")
    costs = [_cost_of(line, cost) for line in ranking]
    return tuple(ranking[i] for i in pareto_front([line.accuracy for line in ranking], costs))


def _cost_of(line: RankedArchitecture, cost: str | Callable[[Architecture], float]) -> float:
    if callable(cost):
        return float(cost(line.architecture))
    if cost not in COSTS:
        raise ValueError(f"cost must be one of {list(COSTS)} or a function, got {cost!r}")
    value = line.macs if cost == "macs" else line.parameters
    if value is None:
        raise ValueError(f"ranking must know the {cost} of every architecture, not of {line.name}")
    return float(value)

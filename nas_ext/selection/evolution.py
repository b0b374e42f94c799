"""Evolution over architectures, whatever scores them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from nas_ext.architecture import ENUMERABLE, Architecture, SearchSpace
from nas_ext.estimation import PerformanceEstimator, check_reward
from nas_ext.search import Ranked
from nas_ext.selection.ranking import rank

__all__ = ["Allowed", "Evolution", "Score", "evolution", "evolve"]

Score: TypeAlias = Callable[[Sequence[Architecture]], Sequence[float]]
"""From the different architectures of one generation to their shares in [0, 1]."""

Allowed: TypeAlias = Callable[[Architecture], bool]
"""Whether an architecture of the space may be proposed: a limit on its macs, say."""

ATTEMPTS = 10
"""How often a child is tried for, and a thousandfold: how often a first legal architecture is."""


@dataclass(frozen=True, kw_only=True)
class Evolution:
    """Say how many are evaluated, and how the next generation comes from the best so far.

    `evaluations` in all, `population` a generation, the first of them random: the published 20
    generations of 50. Of each later one `mutations` are a parent whose options are replaced by
    uniform ones with probability `mutation_rate` each, `crossovers` take every option from one of
    two parents, and the rest is random. Parents are the best `parents` of all generations.
    Section 4.4.
    """

    evaluations: int = 1000
    population: int = 50
    parents: int = 10
    mutations: int = 25
    crossovers: int = 25
    mutation_rate: float = 0.1

    def __post_init__(self) -> None:
        for name in ("evaluations", "population", "parents"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("mutations", "crossovers"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.mutations + self.crossovers > self.population:
            raise ValueError(
                f"mutations and crossovers must not exceed the population {self.population}, "
                f"got {self.mutations} and {self.crossovers}"
            )
        if not 0.0 < self.mutation_rate <= 1.0:
            raise ValueError(f"mutation_rate must lie in (0, 1], got {self.mutation_rate}")


def evolution(
    space: SearchSpace,
    estimator: PerformanceEstimator,
    *,
    rng: np.random.Generator,
    settings: Evolution | None = None,
    allowed: Allowed | None = None,
    batches: int | None = None,
    top: int = 10,
) -> tuple[Ranked, ...]:
    """Rank what evolution found on weights that stay as they are.

    No architecture is evaluated twice: its accuracy would be the same. Scores are the accuracy
    on the whole validation set and everything evaluated is ranked; or, with `batches`, on so many
    of its first batches, and the best `top` are then ranked on all. Raises ValueError when
    nothing of the space is `allowed`. Section 4.4 without the supernet shifting.
    """
    if top < 1:
        raise ValueError(f"top must be at least 1, got {top}")

    def score(generation: Sequence[Architecture]) -> list[float]:
        return [float(value) for value in estimator.accuracies(generation, batches=batches)]

    scores = evolve(space, score, rng, settings=settings or Evolution(), allowed=allowed)
    if batches is not None:
        return rank(estimator, _best(scores, top))
    return tuple(Ranked(a, scores[a]) for a in _best(scores, len(scores)))


def evolve(
    space: SearchSpace,
    score: Score,
    rng: np.random.Generator,
    *,
    settings: Evolution,
    allowed: Allowed | None = None,
    again: bool = False,
) -> dict[Architecture, float]:
    """Return the last score of every architecture that was evaluated, oldest first.

    `again` lets a later generation evaluate an architecture anew, for scores that change; within
    one generation nobody is evaluated twice. Ends early when there is nobody left to propose.
    A score that is no share in [0, 1] raises ValueError.
    """
    breeder = _Breeder(space, rng, settings, allowed or (lambda architecture: True))
    scores: dict[Architecture, float] = {}
    spent = 0
    while spent < settings.evaluations:
        known = set() if again else set(scores)
        wanted = min(settings.population, settings.evaluations - spent)
        generation = breeder.generation(_best(scores, settings.parents), known, wanted)
        if not generation:
            break
        found = score(generation)
        for architecture, value in zip(generation, found, strict=True):
            scores[architecture] = check_reward(value)
        spent += len(generation)
    return scores


def _best(scores: dict[Architecture, float], count: int) -> list[Architecture]:
    """Return the highest scores, ties in the order of evaluation."""
    return sorted(scores, key=lambda architecture: -scores[architecture])[:count]


class _Breeder:
    """Propose the architectures of a generation."""

    def __init__(
        self, space: SearchSpace, rng: np.random.Generator, settings: Evolution, allowed: Allowed
    ) -> None:
        self.space = space
        self.rng = rng
        self.settings = settings
        self.allowed = allowed

    def generation(
        self, parents: list[Architecture], known: set[Architecture], wanted: int
    ) -> tuple[Architecture, ...]:
        """Return up to `wanted` architectures that are not known."""
        new: dict[Architecture, None] = {}
        if parents:
            self._add(new, known, min(self.settings.mutations, wanted), self._mutant(parents))
            crossed = min(len(new) + self.settings.crossovers, wanted)
            self._add(new, known, crossed, self._crossing(parents))
        self._add(new, known, wanted, lambda: self.space.draw(self.rng))
        if len(new) < wanted and self.space.size <= ENUMERABLE:
            self._complete(new, known, wanted)
        if not new and not parents:
            self._find_one(new)
        return tuple(new)

    def _add(
        self,
        new: dict[Architecture, None],
        known: set[Architecture],
        until: int,
        propose: Callable[[], Architecture],
    ) -> None:
        """Propose until there are enough, ten times as often as needed at most."""
        for _ in range(ATTEMPTS * max(0, until - len(new))):
            if len(new) >= until:
                return
            child = propose()
            if child not in new and child not in known and self._legal(child):
                new[child] = None

    def _legal(self, architecture: Architecture) -> bool:
        return architecture in self.space and self.allowed(architecture)

    def _complete(
        self, new: dict[Architecture, None], known: set[Architecture], wanted: int
    ) -> None:
        """Take the rest from what is left of a small space, in random order."""
        left = [a for a in self.space if a not in new and a not in known and self.allowed(a)]
        for place in self.rng.permutation(len(left))[: wanted - len(new)]:
            new[left[place]] = None

    def _find_one(self, new: dict[Architecture, None]) -> None:
        """Draw a first legal architecture of a large space, or give up with an error.

        The published code goes on drawing for ever when the limit cannot be met.
        """
        tries = 1000 * ATTEMPTS
        if self.space.size > ENUMERABLE:
            for _ in range(tries):
                if self.allowed(drawn := self.space.draw(self.rng)):
                    new[drawn] = None
                    return
        raise ValueError(
            f"allowed must admit an architecture of space {self.space.name!r}, it admitted none "
            + (f"of {tries:,} draws" if self.space.size > ENUMERABLE else "at all")
        )

    def _mutant(self, parents: list[Architecture]) -> Callable[[], Architecture]:
        sizes = [len(choice.options) for choice in self.space.choices]

        def propose() -> Architecture:
            parent = parents[int(self.rng.integers(len(parents)))]
            changed = self.rng.random(len(sizes)) < self.settings.mutation_rate
            drawn = self.rng.integers(sizes)
            triples = zip(parent, changed, drawn, strict=True)
            return tuple(int(new) if change else old for old, change, new in triples)

        return propose

    def _crossing(self, parents: list[Architecture]) -> Callable[[], Architecture]:
        def propose() -> Architecture:
            places = self.rng.integers(len(parents), size=2)
            first, second = (parents[place] for place in places)
            sides = self.rng.integers(2, size=len(first))
            return tuple(b if side else a for a, b, side in zip(first, second, sides, strict=True))

        return propose

"""Write a sampler of one's own and run it as a strategy: here, keep what did well so far."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

import numpy as np

from nas_ext.architecture import Architecture, SearchSpace
from nas_ext.benchmarks import pooling_table, run
from nas_ext.oneshot import SampledStrategy
from nas_ext.samplers import Sampler
from nas_ext.search import Phase


class Greedy(Sampler):
    """Draw the best architecture so far, or with some probability any other."""

    def __init__(self, space: SearchSpace, rng: np.random.Generator, curiosity: float) -> None:
        super().__init__(space, rng)
        self.curiosity = curiosity
        self.best: tuple[float, Architecture] | None = None

    def ask(self) -> tuple[Architecture, ...]:
        if self.best is None or self.rng.random() < self.curiosity:
            return (self.space.draw(self.rng),)
        return (self.best[1],)

    def _update(self, architecture: Architecture, reward: float) -> None:
        if self.best is None or reward > self.best[0] or architecture == self.best[1]:
            self.best = (reward, architecture)

    def _state(self) -> dict[str, Any]:
        return {"best": None if self.best is None else [self.best[0], list(self.best[1])]}

    def _load_state(self, state: dict[str, Any]) -> None:
        best = state["best"]
        self.best = None if best is None else (best[0], tuple(best[1]))


@dataclass(kw_only=True, eq=False)
class GreedyStrategy(SampledStrategy):
    """Run `Greedy` as a drop-in strategy of NNI."""

    curiosity: float = 0.2

    def phases(self, steps: int) -> tuple[Phase, ...]:
        return (Phase("greedy", steps, lambda s: Greedy(s.space, s.rng, self.curiosity)),)


def main() -> None:
    """Print what it draws most against the pooling table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fast", action="store_true", help="fewer steps")
    steps = 200 if parser.parse_args().fast else 2000
    result = run(GreedyStrategy(curiosity=0.3).phases(steps), pooling_table(), seed=0)
    drawn = [draw.architecture for draw in result.search.draws]
    favourite = max(set(drawn), key=drawn.count)
    print(f"drawn most of {steps}: {pooling_table().space.describe(favourite)}")


if __name__ == "__main__":
    main()

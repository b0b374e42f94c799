"""The study of the mini benchmarks: what is compared, why, on which seeds and with what budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

__all__ = ["EXPERIMENTS", "PUBLISHED", "Experiment"]

PUBLISHED = "nothing: the published settings, or the defaults where none are published"
"""What an experiment says of settings that no seed was used to choose."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Ask one question of a table.

    `competitors` are as `nas-ext compare --strategies` takes them; `reference` is the label of
    one of them. Seeds are `first_seed` and the following, `seeds` of them. `budget` are training
    passes; `training` are other fields of `Training`, those of `nas-ext compare` where left out.
    `table` is the name of a shipped table, or the CSV of a ground truth with its manifest.
    `chosen_on` says which settings were chosen, and on which seeds: results stand on others.
    """

    name: str
    question: str
    table: str
    competitors: tuple[str, ...]
    reference: str = "uniform"
    first_seed: int = 100
    seeds: int = 12
    budget: int = 800
    training: Mapping[str, Any] = field(default_factory=dict)
    chosen_on: str = PUBLISHED

    def __post_init__(self) -> None:
        if not self.name.replace("-", "").isalnum():
            raise ValueError(f"name must be letters, digits and hyphens, got {self.name!r}")
        if not self.question or not self.chosen_on:
            raise ValueError(f"question and chosen_on of {self.name} must not be empty")
        labels = [text.replace(":", " ") for text in self.competitors]
        if self.reference not in labels:
            raise ValueError(f"reference must be one of {labels}, got {self.reference!r}")
        if self.seeds < 2 or self.first_seed < 0 or self.budget < 1:
            raise ValueError(
                "seeds must be at least 2, first_seed 0 and budget 1, "
                f"got {self.seeds}, {self.first_seed} and {self.budget}"
            )
        if "steps" in self.training:
            raise ValueError(
                f"training must not have steps beside the budget, got {self.training}"
            )
        object.__setattr__(self, "training", MappingProxyType(dict(self.training)))

    def to_json(self) -> dict[str, Any]:
        """Return the experiment as JSON values."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**values, "competitors": list(self.competitors), "training": dict(self.training)}


CHOSEN = (
    "on mini-pooling, 800 passes, seeds 200 to 204: balance=leaves, distance=cosine, "
    "exploration=0.1 and reinitialise=false of the trees, perplexity=0.9 of density-aware"
)
"""What was chosen before, and on which seeds: none of them is reported on."""

_LEARNED = "learned-tree:balance=leaves,distance=cosine,exploration=0.1,reinitialise=false"
_LEARNED_PUBLISHED = "learned-tree:balance=branches,distance=kl,exploration=0.5,reinitialise=true"
_MCTS = "mcts:balance=leaves,exploration=0.1"
_MCTS_PUBLISHED = "mcts:balance=branches,exploration=0.5"
_DENSITY = "density-aware:mode=perplexity,perplexity=0.9"

EXPERIMENTS: tuple[Experiment, ...] = (
    Experiment(
        name="strategies",
        question="Which strategy ranks and picks best at 800 training passes?",
        table="mini-pooling",
        competitors=(
            "uniform",
            _MCTS_PUBLISHED,
            _MCTS,
            _LEARNED_PUBLISHED,
            _LEARNED,
            "iterative-mcts",
            "density-aware",
            _DENSITY,
            "prototype-density:prototypes=10",
            "balanced-mixture",
            "boltzmann",
            "independent",
            "strict-fairness",
            "pada",
            "nni-random-oneshot",
            "random-search",
        ),
        chosen_on=CHOSEN,
    ),
    Experiment(
        name="macro",
        question="On layer choices: do samplers, or mixtures of all options, do better?",
        table="mini-macro",
        competitors=(
            "uniform",
            _MCTS,
            _LEARNED,
            "iterative-mcts",
            "density-aware",
            "nni-random-oneshot",
            "nni-darts",
            "random-search",
        ),
        chosen_on=CHOSEN,
    ),
    Experiment(
        name="iterations",
        question="Do more iterations of the tree of ranks help?",
        table="mini-pooling",
        competitors=(
            "uniform",
            "iterative-mcts:iterations=1",
            "iterative-mcts:iterations=2",
            "iterative-mcts",
            "iterative-mcts:iterations=8",
        ),
    ),
    Experiment(
        name="supernets",
        question="Do more supernets help, at equal passes and with passes for each of them?",
        table="mini-pooling",
        competitors=(
            "uniform",
            "balanced-mixture:models=2",
            "balanced-mixture",
            "balanced-mixture:models=4,times=4",
        ),
    ),
    Experiment(
        name="confirm",
        question="Is what prototypes gained more than luck among so many competitors?",
        table="mini-pooling",
        competitors=("uniform", "prototype-density:prototypes=10"),
        first_seed=300,
        seeds=24,
        chosen_on="the strategy, on mini-pooling, seeds 100 to 111: experiment `strategies`",
    ),
    Experiment(
        name="narrow",
        question="Does the order hold where there are more placements, and a deeper network?",
        table="narrow-pooling",
        competitors=(
            "uniform",
            _MCTS,
            _LEARNED,
            "prototype-density:prototypes=10",
        ),
        chosen_on=CHOSEN,
    ),
    Experiment(
        name="longer",
        question="Do trees or prototypes gain more where training lasts three times as long?",
        table="mini-pooling",
        competitors=(
            "uniform",
            _LEARNED_PUBLISHED,
            _LEARNED,
            "prototype-density:prototypes=10",
        ),
        budget=2400,
        chosen_on=CHOSEN,
    ),
)
"""The study, in the order it is run and written up."""

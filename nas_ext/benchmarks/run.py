"""Run the phases of a strategy against a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from nas_ext.architecture import Architecture
from nas_ext.benchmarks.table import Table, TabularEstimator
from nas_ext.search import Phase, Search, Setting

__all__ = ["NAMED", "TableRun", "TooFewEvaluations", "run", "steps_within"]

NAMED = 10
"""How many candidates every search names at its end, if it can."""


class TooFewEvaluations(ValueError):
    """Raised when a method spends more evaluations than allowed before it takes a step."""


@dataclass(frozen=True)
class TableRun:
    """Say what a search against a table found, by the ground truth it never saw whole.

    `ranking` are up to `NAMED` distinct networks, best guess first, and `found` the first of
    them. `accuracy` and the regrets are shares: `regret` is that of `found`, `regret_of_top5` and
    `regret_of_top10` that of the best among so many. `rank` counts from 1 among distinct
    networks. `top_share` is the share of the last phase's draws that fell on the true top 5,
    `draws_in_top10` the share of all draws on the true top 10. `evaluations` counts the
    single-batch evaluations that were spent before the candidates were compared.
    """

    seed: int
    found: Architecture
    name: str
    accuracy: float
    regret: float
    rank: int
    top_share: float
    evaluations: int
    search: Search
    ranking: tuple[Architecture, ...]
    regret_of_top5: float
    regret_of_top10: float
    draws_in_top10: float

    @property
    def in_top5(self) -> bool:
        """Say whether what was found is one of the true top 5."""
        return self.rank <= 5


def run(
    phases: Sequence[Phase],
    table: Table,
    *,
    seed: int = 0,
    batch_size: int = 256,
    candidates: int = 1,
    validation_size: int = 10_000,
) -> TableRun:
    """Search a table with single-batch rewards, and look up what was found.

    Every step tells a reward, to samplers that need none as well: all strategies then see the
    same number of evaluations, and a uniform sampler becomes random search. With one candidate
    the answer is what the sampler itself holds best; more are compared on `validation_size`
    images. Where that leaves the ranking short of `NAMED` networks, further candidates, compared
    in the same way, follow below. Rewards come from the ground truth with binomial noise: an
    oracle, see `TabularEstimator`. Sampler and noise draw from two generators made from `seed`.
    """
    search, estimator = _searched(phases, table, seed, batch_size, validation_size)
    evaluations = estimator.evaluations
    ranking = _ranking(search, table, candidates)
    last = [d.architecture for d in search.draws if d.phase == len(search.phases) - 1]
    top5, top10 = table.top(5), table.top(10)
    found = ranking[0]
    return TableRun(
        seed=seed,
        found=found,
        name=table.space.describe(found),
        accuracy=table.accuracies[found],
        regret=table.regret(found),
        rank=table.ranks()[found],
        top_share=sum(a in top5 for a in last) / len(last),
        evaluations=evaluations,
        search=search,
        ranking=ranking,
        regret_of_top5=min(map(table.regret, ranking[:5])),
        regret_of_top10=min(map(table.regret, ranking[:10])),
        draws_in_top10=sum(d.architecture in top10 for d in search.draws) / len(search.draws),
    )


def steps_within(
    phases: Callable[[int], Sequence[Phase]],
    table: Table,
    evaluations: int,
    *,
    batch_size: int = 256,
    validation_size: int = 10_000,
) -> int:
    """Return the most steps, nearly, for which a method spends at most so many evaluations.

    Most methods spend one a step. Some train several architectures in one, and some evaluate many
    at once when a phase begins; they get fewer steps. Found by dry runs: the second kind of cost
    is taken from the first run, the first kind is proportional. Raises TooFewEvaluations when the
    costs at the beginning of phases alone are more than allowed.
    """
    steps = evaluations
    while True:
        search, estimator = _searched(phases(steps), table, 0, batch_size, validation_size)
        if estimator.evaluations <= evaluations:
            return steps
        rewards = len(search.draws)
        fixed = estimator.evaluations - rewards
        if fixed >= evaluations:
            raise TooFewEvaluations(
                f"evaluations must be more than the {fixed:,} that the phases spend when they "
                f"begin on table {table.name!r}, got {evaluations:,}"
            )
        steps = min(steps - 1, steps * (evaluations - fixed) // rewards)


def _searched(
    phases: Sequence[Phase], table: Table, seed: int, batch_size: int, validation_size: int
) -> tuple[Search, TabularEstimator]:
    """Return a search that has had all its steps, and the estimator that rewarded it."""
    draws, noise = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(2))
    estimator = TabularEstimator(
        table, noise, batch_size=batch_size, validation_size=validation_size
    )
    search = Search(phases, Setting(table.space, estimator, draws))
    for _ in range(search.steps):
        for architecture in search.ask():
            search.tell(architecture, estimator.reward(architecture))
    return search, estimator


def _ranking(search: Search, table: Table, candidates: int) -> tuple[Architecture, ...]:
    """Return up to `NAMED` distinct networks, or all candidates if these are more."""
    ranked = list(search.rank(candidates))
    if len({table.network[r.architecture] for r in ranked}) < NAMED:
        ranked += search.rank(NAMED)
    return tuple(dict.fromkeys(table.network[r.architecture] for r in ranked))[:NAMED]

"""Run the phases of a strategy against a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas_ext.architecture import Architecture
from nas_ext.benchmarks.table import Table, TabularEstimator
from nas_ext.search import Phase, Search, Setting

__all__ = ["TableRun", "run"]


@dataclass(frozen=True)
class TableRun:
    """Say what a search against a table found, by the ground truth it never saw whole.

    `accuracy` and `regret` are shares; `rank` counts from 1 among distinct networks;
    `top_share` is the share of the last phase's draws that fell on the true top 5;
    `evaluations` counts the single-batch rewards that were spent.
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
    images. Rewards come from the ground truth with binomial noise: an oracle, see
    `TabularEstimator`. Sampler and noise draw from two generators made from `seed`.
    """
    draws, noise = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(2))
    estimator = TabularEstimator(
        table, noise, batch_size=batch_size, validation_size=validation_size
    )
    search = Search(phases, Setting(table.space, estimator, draws))
    evaluations = 0
    for _ in range(search.steps):
        for architecture in search.ask():
            search.tell(architecture, estimator.reward(architecture))
            evaluations += 1
    found = search.rank(candidates)[0].architecture
    last = [d.architecture for d in search.draws if d.phase == len(search.phases) - 1]
    top = table.top(5)
    return TableRun(
        seed=seed,
        found=found,
        name=table.space.describe(found),
        accuracy=table.accuracies[found],
        regret=table.regret(found),
        rank=table.ranks()[found],
        top_share=sum(a in top for a in last) / len(last),
        evaluations=evaluations,
        search=search,
    )

"""Searches against the pooling table and a made-up space, for the figures to show."""

from __future__ import annotations

import numpy as np
import pytest

from nas_ext.architecture import Choice, SearchSpace
from nas_ext.benchmarks import TabularEstimator, pooling_table
from nas_ext.estimation import PerformanceEstimator
from nas_ext.results import Budget, RankedArchitecture, SearchResult
from nas_ext.samplers import TreeSampler, UniformSampler
from nas_ext.schedule import linear
from nas_ext.search import Draw, Phase, Search, Setting
from nas_ext.similarity import encoding
from nas_ext.testing import FakeSupernet
from nas_ext.tree import Tree, cluster_tree

TABLE = pooling_table()


def learned(setting: Setting) -> Tree:
    architectures = setting.space.enumerate()
    return cluster_tree(
        architectures, encoding(np.stack([setting.space.encoding(a) for a in architectures]))
    )


def phases() -> tuple[Phase, ...]:
    """Return the three phases of a learned tree, 400 steps."""

    def sampler(setting: Setting, walking: bool) -> TreeSampler:
        before = setting.previous
        tree = before.tree if isinstance(before, TreeSampler) else learned(setting)
        return TreeSampler(
            setting.space,
            setting.rng,
            tree=tree,
            temperature=linear(0.02, 0.0025, 80) if walking else None,
            final_temperature=0.0025,
            exploration=0.5,
            decay=0.95,
        )

    return (
        Phase("uniform", 200, lambda s: UniformSampler(s.space, s.rng)),
        Phase("tree warm-up", 120, lambda s: sampler(s, False)),
        Phase("search", 80, lambda s: sampler(s, True)),
    )


def searched(
    space: SearchSpace, estimator: PerformanceEstimator, *, candidates: int | None = 10
) -> SearchResult:
    """Run a search as a supernet does: rewards where the sampler needs them."""
    search = Search(phases(), Setting(space, estimator, np.random.default_rng(0)))
    for _ in range(search.steps):
        for architecture in search.ask():
            if search.sampler.needs_reward:
                search.tell(architecture, estimator.reward(architecture))
    assert isinstance(search.sampler, TreeSampler)
    return SearchResult(
        strategy="LearnedTree",
        settings={"distance": "kl", "linkage": "average"},
        seed=0,
        space={"name": space.name, "size": space.size, "arguments": None},
        phases=tuple((phase.name, phase.steps) for phase in search.phases),
        draws=tuple(search.draws),
        ranking=tuple(
            RankedArchitecture(
                architecture=r.architecture,
                name=space.describe(r.architecture),
                sample=space.decode(r.architecture),
                accuracy=r.accuracy,
                macs=TABLE.macs.get(r.architecture),
            )
            for r in search.rank(candidates)
        ),
        budget=Budget(400, 400, 200, 10, 36, 1.5),
        tree=search.sampler.tree.state_dict(),
    )


@pytest.fixture(scope="session")
def pooling() -> SearchResult:
    """A search of the pooling table's 36 architectures, 10 of them ranked."""
    return searched(TABLE.space, TabularEstimator(TABLE, np.random.default_rng(1)))


@pytest.fixture(scope="session")
def whole() -> SearchResult:
    """A search with the pooling table's accuracies, all 36 of them ranked."""
    return searched(TABLE.space, FakeSupernet(TABLE.space, TABLE.accuracies), candidates=None)


@pytest.fixture(scope="session")
def big_space() -> SearchSpace:
    """81 made-up architectures."""
    return SearchSpace("big", [Choice(f"layer{i}", ("conv3", "conv5", "skip")) for i in range(4)])


@pytest.fixture(scope="session")
def big(big_space: SearchSpace) -> SearchResult:
    """A search of the 81 architectures, 10 of them ranked."""
    values = {a: 0.5 + 0.1 * sum(option == 1 for option in a) for a in big_space}
    return searched(big_space, FakeSupernet(big_space, values))


@pytest.fixture
def one() -> SearchResult:
    """Four steps of a space with two architectures, without rewards, tree and macs."""
    line = RankedArchitecture((0,), "<first>", {"layer": "a"}, 0.75)
    return SearchResult(
        strategy="Uniform",
        settings={},
        seed=0,
        space={"name": "two", "size": 2},
        phases=(("uniform", 4),),
        draws=tuple(Draw(0, step, (step % 2,)) for step in range(4)),
        ranking=(line,),
        budget=Budget(4, 4, 0, 1, 0, 0.1),
    )

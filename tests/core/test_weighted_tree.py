"""The warm-up of a tree by a law that is given."""

from __future__ import annotations

import json

import numpy as np
import pytest

from nas_ext.samplers import Sampler, TreeSampler, WeightedSampler
from nas_ext.samplers.weighted_tree import WeightedTreeSampler
from nas_ext.sparsity import perplexity
from nas_ext.testing import SamplerContract, small_space
from nas_ext.tree import layer_tree

SPACE = small_space()
LAW = np.arange(1, 19) / 171  # 1 + 2 + ... + 18 = 171


def make(seed: int = 0) -> WeightedTreeSampler:
    return WeightedTreeSampler(
        SPACE,
        np.random.default_rng(seed),
        probabilities=LAW,
        tree=layer_tree(SPACE),
        final_temperature=0.1,
        exploration=0.5,
        decay=0.9,
    )


class TestWeightedWarmUp(SamplerContract):
    def make(self, rng: np.random.Generator) -> Sampler:
        return WeightedTreeSampler(
            self.space,
            rng,
            probabilities=LAW,
            tree=layer_tree(self.space),
            final_temperature=0.1,
            exploration=0.5,
            decay=0.9,
        )


def test_draws_are_those_of_the_law_alone() -> None:
    other = WeightedSampler(SPACE, np.random.default_rng(3), probabilities=LAW)
    sampler = make(3)
    for _ in range(50):
        assert sampler.ask() == other.ask()
        sampler.tell(SPACE.at(0), 1.0)  # rewards change nothing


def test_draws_follow_the_law_within_four_sigma() -> None:
    sampler = make()
    counts = np.zeros(18)
    for _ in range(4000):
        counts[SPACE.index(sampler.ask()[0])] += 1
    sigma = np.sqrt(4000 * LAW * (1 - LAW))
    assert (np.abs(counts - 4000 * LAW) < 4 * sigma).all()
    assert counts[0] < counts[17] / 4


def test_statistics_of_the_paths_are_kept() -> None:
    sampler = make()
    for _ in range(30):
        for architecture in sampler.ask():
            sampler.tell(architecture, 0.5)
    assert sampler.tree.root.visits == 30
    assert sampler.step == 30
    # one reward for all: beta = .9 from 1 gives .5 + .5 * .9^30 at the root
    assert sampler.tree.root.value == pytest.approx(0.5 + 0.5 * 0.9**30)
    assert sampler.candidates(3)


def test_the_law_is_in_state_and_diagnostics() -> None:
    sampler = make()
    state = json.loads(json.dumps(sampler.state_dict()))
    assert state["probabilities"] == LAW.tolist()
    assert sampler.diagnostics()["perplexity"] == perplexity(LAW)
    assert isinstance(sampler, TreeSampler)


def test_a_law_of_another_space_is_refused() -> None:
    with pytest.raises(ValueError, match="probabilities must be one for each of 18 architectures"):
        WeightedTreeSampler(
            SPACE,
            np.random.default_rng(0),
            probabilities=[0.5, 0.5],
            tree=layer_tree(SPACE),
            final_temperature=0.1,
            exploration=0.5,
            decay=0.9,
        )

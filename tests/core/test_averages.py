"""Moving averages of rewards that outlive the trees they were earned in."""

from __future__ import annotations

import numpy as np
import pytest

from nas_ext.samplers import Sampler
from nas_ext.samplers.averages import (
    AveragedTreeSampler,
    AveragedUniformSampler,
    RewardAverages,
)
from nas_ext.schedule import linear
from nas_ext.testing import SamplerContract, small_space
from nas_ext.tree import layer_tree

SPACE = small_space()


class TestAveragedUniform(SamplerContract):
    def make(self, rng: np.random.Generator) -> Sampler:
        return AveragedUniformSampler(self.space, rng, averages=RewardAverages(decay=0.9))


class TestAveragedTree(SamplerContract):
    def make(self, rng: np.random.Generator) -> Sampler:
        return AveragedTreeSampler(
            self.space,
            rng,
            averages=RewardAverages(decay=0.9),
            tree=layer_tree(self.space),
            temperature=linear(0.2, 0.05, 100),
            final_temperature=0.0025,
            exploration=0.5,
            decay=0.95,
        )


def test_an_average_begins_with_the_first_reward() -> None:
    # e <- .9 e + .1 r: .5, then .9 * .5 + .1 * .9 = .54
    averages = RewardAverages(decay=0.9)
    averages.add(SPACE.at(0), 0.5)
    averages.add(SPACE.at(0), 0.9)
    assert averages.of([SPACE.at(0)]) == pytest.approx([0.54])


def test_an_architecture_without_a_reward_stands_at_the_mean() -> None:
    averages = RewardAverages(decay=0.9)
    averages.add(SPACE.at(0), 0.2)
    averages.add(SPACE.at(1), 0.6)
    assert averages.of([SPACE.at(1), SPACE.at(2), SPACE.at(0)]) == pytest.approx([0.6, 0.4, 0.2])


def test_averages_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="a reward must have been told before averages"):
        RewardAverages(decay=0.9).of([SPACE.at(0)])
    with pytest.raises(ValueError, match=r"decay must lie in \[0, 1\), got 1.0"):
        RewardAverages(decay=1.0)

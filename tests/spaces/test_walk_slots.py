"""Walks that NNI draws, and samples that are none."""

from __future__ import annotations

from collections import Counter
from typing import Any

import nni
import numpy as np
import pytest
import torch
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.space import model_context
from nni.nas.strategy import DARTS, Proxyless, Random, RandomOneShot, RegularizedEvolution
from torch import nn

from nas_ext.nni import BaseSuperNetModule, RawFormatModelSpace, SampleValidationError
from nas_ext.spaces.autodeeplab import AutoDeepLabMacro
from nas_ext.spaces.walk_slots import PathSamplingWalkSlot, Walk, WalkSlot
from nas_ext.strategies import ResolutionDARTS
from nas_ext.trellis import RATES, TrellisSpace


def small(layers: int = 5) -> AutoDeepLabMacro:
    return AutoDeepLabMacro(
        layers=layers, filters=2, decoder_chs=4, low_level_chs=3, num_classes=4
    )


def supernet(space: AutoDeepLabMacro) -> AutoDeepLabMacro:
    mutated: AutoDeepLabMacro = RandomOneShot().mutate_model(space)
    return mutated


def resample(space: AutoDeepLabMacro) -> dict[str, int]:
    """Draw as NNI's RandomOneShot does."""
    memo: dict[str, int] = {}
    for module in space.modules():
        if isinstance(module, BaseSuperNetModule):
            memo.update(module.resample(memo=memo))
    return memo


def test_what_random_one_shot_draws_is_a_walk() -> None:
    space = supernet(small(12))
    for _ in range(100):
        sample = resample(space)
        assert space.search_space.encode(sample) in space.search_space
    images = torch.zeros(2, 3, 32, 32)
    assert space(images).shape == (2, 4, 32, 32)


def test_walks_drawn_layer_by_layer_are_uniform() -> None:
    space = TrellisSpace(layers=5)
    walk, rng = Walk(space), np.random.default_rng(0)
    drawn: Counter[tuple[int, ...]] = Counter()
    for _ in range(3400):
        sample: dict[str, int] = {}
        for position, choice in enumerate(space.choices):
            sample[choice.label] = walk.draw(sample, position, rng)
        drawn[space.encode(sample)] += 1
    # 34 walks, 100 draws each on average; chi-square with 33 degrees: mean 33, sigma 8.1
    assert sum((drawn[a] - 100) ** 2 / 100 for a in space) < 33 + 4 * 8.1


def test_the_shares_of_the_rates_are_those_of_all_walks() -> None:
    walk = Walk(TrellisSpace())
    # golden number 1
    ends = {4: 5_545, 8: 8_900, 16: 8_811, 32: 5_401}
    assert walk.shares(10) == {rate: count / 28_657 for rate, count in ends.items()}
    space = supernet(small())
    probabilities: dict[str, Any] = {}
    for module in space.modules():
        if isinstance(module, BaseSuperNetModule):
            probabilities.update(module.export_probs(probabilities))
    for position, (label, shares) in enumerate(probabilities.items()):
        assert label == f"layer{position + 2}"
        chosen = [RATES[architecture[position]] for architecture in space.search_space]
        assert shares == {rate: chosen.count(rate) / 34 for rate in set(chosen)}


def test_a_sample_that_is_no_walk_is_refused_everywhere() -> None:
    sample = {"layer2": 4, "layer3": 16, "layer4": 16, "layer5": 16}
    message = "at most, got 4 before 'layer3' and 16 there"
    space = small()
    assert not space.contains(sample)
    assert space.contains({**sample, "layer2": 8})
    with pytest.raises(SampleValidationError, match=message):
        space.freeze(sample)
    with pytest.raises(SampleValidationError, match=message), model_context(sample):
        small()
    mutated = supernet(space)
    slots = [m for m in mutated.modules() if isinstance(m, PathSamplingWalkSlot)]
    assert len(slots) == 5  # four layers and the pyramid
    with pytest.raises(SampleValidationError, match=message):
        slots[1].resample(sample)
    with pytest.raises(SampleValidationError, match="layer2"):
        slots[1].resample({"layer3": 8})


@pytest.mark.parametrize(
    "strategy",
    [RegularizedEvolution(population_size=3, sample_size=2), Random(seed=0)],
    ids=["evolution", "random"],
)
def test_strategies_that_draw_layer_by_layer_draw_again(strategy: Any) -> None:
    space = supernet(small())
    images = torch.randn(2, 3, 32, 32)
    seen: list[float] = []

    def score(network: nn.Module) -> None:
        seen.append(network(images).square().mean().item())
        nni.report_final_result(seen[-1])

    engine = SequentialExecutionEngine(max_model_count=5)
    strategy(RawFormatModelSpace(space, FunctionalEvaluator(score)), engine)
    models = list(strategy.list_models(limit=5))
    assert max(seen) == models[0].metric
    assert all(space.search_space.encode(model.sample) is not None for model in models)


@pytest.mark.parametrize("strategy", [DARTS(), Proxyless()], ids=["DARTS", "Proxyless"])
def test_differentiable_strategies_are_refused_by_name(strategy: Any) -> None:
    space = small()
    name = type(strategy).__name__
    with pytest.raises(TypeError, match=f"{name} relaxes each layer by itself"):
        strategy.mutate_model(space)
    assert sum(type(module) is WalkSlot for module in space.modules()) == 5


def test_our_differentiable_strategies_refuse_the_space_too() -> None:
    with pytest.raises(ValueError, match="must be a plain product of choices for ResolutionDARTS"):
        ResolutionDARTS().mutate_model(small())


def test_a_supernet_runs_nothing_before_an_architecture_is_sampled() -> None:
    with pytest.raises(RuntimeError, match="must be sampled before the supernet's forward"):
        supernet(small())(torch.zeros(2, 3, 32, 32))


def test_a_walk_with_a_free_first_layer_has_no_slots() -> None:
    with pytest.raises(ValueError, match="space must have its first layer fixed at rate 4"):
        Walk(TrellisSpace(layers=3, first="free"))

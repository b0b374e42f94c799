"""Mixed layers, the weights of options, expected macs and the most probable architectures."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from nni.mutable import SampleValidationError, frozen_context
from nni.nas.nn.pytorch import LayerChoice
from torch import Tensor, nn

from nas_ext.architecture import Choice, SearchSpace
from nas_ext.oneshot.mixed import ArchitectureWeights, ExpectedMacs, MixedLayer, most_probable


class Kept(ArchitectureWeights):
    """Weights that are the values themselves and never move."""

    def __init__(self, space: SearchSpace) -> None:
        super().__init__(space, start=lambda options: 1.0 / options)

    def relax(self, values: Sequence[Tensor]) -> list[Tensor]:
        return list(values)

    def update(self, gradients: Sequence[Tensor]) -> None:
        raise AssertionError("nothing updates these")


def space(*sizes: int) -> SearchSpace:
    return SearchSpace(
        "product", [Choice(f"c{at}", tuple(range(size))) for at, size in enumerate(sizes)]
    )


def made(candidates: Any) -> MixedLayer:
    """Build a layer outside of a model space, as NNI lets strategies do."""
    with frozen_context():
        layer: Any = MixedLayer(candidates, "here")
    assert isinstance(layer, MixedLayer)
    return layer


def mixed(*candidates: nn.Module, weights: Sequence[float] | None = None) -> MixedLayer:
    layer = made(list(candidates))
    if weights is not None:
        layer.mix(torch.tensor(weights))
    return layer


# The layer.


def test_a_mixture_is_the_weighted_sum_of_its_candidates() -> None:
    torch.manual_seed(0)
    candidates = [nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(2, 3, 1), nn.Conv2d(2, 3, 5, padding=2)]
    x = torch.randn(2, 2, 4, 4)
    weights = torch.tensor([0.2, 0.5, 0.3], requires_grad=True)
    layer = mixed(*candidates)
    layer.mix(weights)
    outputs = [candidate(x) for candidate in candidates]
    expected = 0.2 * outputs[0] + 0.5 * outputs[1] + 0.3 * outputs[2]
    assert torch.equal(layer(x), expected)
    (gradient,) = torch.autograd.grad(layer(x).sum(), weights)
    torch.testing.assert_close(gradient, torch.stack([output.sum() for output in outputs]))


@pytest.mark.parametrize("first", [0, 1])
def test_a_candidate_that_begins_in_place_changes_no_other(first: int) -> None:
    torch.manual_seed(0)
    candidates: list[nn.Module] = [nn.ReLU(inplace=True), nn.Linear(4, 4)]
    order = [candidates[first], candidates[1 - first]]
    x = torch.randn(3, 4, requires_grad=True)
    kept = x.detach().clone()
    y = mixed(*order, weights=[0.25, 0.75])(x * 1)
    expected = [candidate(kept.clone()) for candidate in order]
    torch.testing.assert_close(y, 0.25 * expected[0] + 0.75 * expected[1])
    y.sum().backward()  # the input that the linear layer saved is not modified
    outer = x.detach().clone()
    mixed(*order, weights=[0.25, 0.75])(outer)
    assert torch.equal(outer, kept)


def test_a_sampled_candidate_runs_alone_until_the_layer_mixes_again() -> None:
    torch.manual_seed(0)
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    layer, x = mixed(first, second, weights=[0.5, 0.5]), torch.randn(3, 2)
    mixture = layer(x)
    for option, candidate in enumerate((first, second)):
        assert layer.resample({"here": option, "elsewhere": 7}) == {}
        assert torch.equal(layer(x), candidate(x))
    assert layer.resample({}) == {}
    assert torch.equal(layer(x), mixture)
    layer.resample({"here": 1})
    layer.mix(torch.tensor([0.5, 0.5]))
    assert torch.equal(layer(x), mixture)
    with pytest.raises(SampleValidationError):
        layer.resample({"here": 2})


def test_a_mixture_exports_its_largest_weight_the_first_of_equals() -> None:
    layer = mixed(*(nn.Identity() for _ in range(3)), weights=[0.25, 0.5, 0.25])
    assert layer.export({}) == {"here": 1}
    assert layer.export_probs({}) == {"here": {0: 0.25, 1: 0.5, 2: 0.25}}
    assert layer.export({"here": 0}) == layer.export_probs({"here": 0}) == {}
    layer.mix(torch.tensor([0.25, 0.375, 0.375]))
    assert layer.export({}) == {"here": 1}


def test_named_candidates_and_several_arguments_are_mixed_too() -> None:
    class Add(nn.Module):
        def forward(self, parts: list[Tensor], *, scale: Tensor) -> Tensor:
            return (parts[0].add_(parts[1])).mul_(scale)

    named: dict[str, nn.Module] = {"one": Add(), "two": Add()}
    layer = made(named)
    layer.mix(torch.tensor([0.5, 0.5]))
    parts, scale = [torch.ones(2), torch.ones(2)], torch.tensor(3.0)
    assert torch.equal(layer(parts, scale=scale), torch.full((2,), 6.0))
    assert torch.equal(parts[0], torch.ones(2))
    assert layer.export({}) == {"here": "one"}


def test_outputs_that_cannot_be_summed_are_refused() -> None:
    class Both(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x

    x = torch.ones(2, 4)
    message = r"candidates of 'here' must return tensors of one shape, got \[2, 1\] after \[2, 4\]"
    with pytest.raises(ValueError, match=message):
        mixed(nn.Identity(), nn.Linear(4, 1), weights=[0.5, 0.5])(x)
    with pytest.raises(ValueError, match="must return tensors of one shape, got tuple"):
        mixed(Both(), Both(), weights=[0.5, 0.5])(x)


def test_weights_are_one_number_a_candidate_and_needed() -> None:
    layer = mixed(nn.Identity(), nn.Identity())
    with pytest.raises(ValueError, match=r"weights of 'here' must be \[2\], got \[3\]"):
        layer.mix(torch.ones(3))
    with pytest.raises(RuntimeError, match="'here' must have weights before its forward"):
        layer(torch.ones(1))


def test_only_layer_choices_are_replaced() -> None:
    with frozen_context():
        choice: Any = LayerChoice([nn.Linear(2, 2), nn.Identity()], label="there")
        layer = MixedLayer.mutate(choice, "name", {}, {})
    assert isinstance(layer, MixedLayer)
    assert layer[0] is choice[0]
    assert MixedLayer.mutate(layer, "name", {}, {}) is False
    assert MixedLayer.mutate(nn.Identity(), "name", {}, {}) is False


# The weights.


def test_architecture_weights_require_no_gradient_and_stand_apart_from_the_values() -> None:
    held = Kept(space(2, 3))
    assert [value.requires_grad for value in held.values] == [False, False]
    weights = held.weights()
    weights[0].zero_()
    assert held.probabilities()[0] == [0.5, 0.5]
    assert sum(held.probabilities()[1]) == pytest.approx(1.0, abs=1e-15)
    assert copy.deepcopy(held).probabilities() == held.probabilities()


# Expected macs.


def costs(architecture: tuple[int, ...]) -> int:
    """A sum over three choices: 1000 for the rest, then a table by hand."""
    table = ((5, 700, 20), (300, 1), (0, 40, 9))
    return 1000 + sum(row[option] for row, option in zip(table, architecture, strict=True))


def test_expected_macs_are_the_expectation_over_all_architectures() -> None:
    choices = space(3, 2, 3)
    macs = ExpectedMacs.of(choices, costs)
    assert macs.largest == 1000 + 700 + 300 + 40
    rng = np.random.default_rng(0)
    rows = [rng.dirichlet(np.ones(size)) for size in (3, 2, 3)]
    # definition: sum over architectures of their probability times their macs
    expected = sum(
        math.prod(row[option] for row, option in zip(rows, a, strict=True)) * costs(a)
        for a in choices
    )
    share = macs.share([torch.tensor(row) for row in rows])
    assert float(share) * macs.largest == pytest.approx(expected, rel=1e-12)


def test_the_gradient_of_the_expected_macs_agrees_with_finite_differences() -> None:
    macs = ExpectedMacs.of(space(3, 2, 3), costs)
    generator = torch.Generator().manual_seed(0)
    logits = [
        torch.randn(size, dtype=torch.float64, generator=generator, requires_grad=True)
        for size in (3, 2, 3)
    ]

    def share(*values: Tensor) -> Tensor:
        return macs.share([torch.softmax(value, dim=-1) for value in values])

    assert torch.autograd.gradcheck(share, logits)
    gradients = torch.autograd.grad(share(*logits), logits)
    assert all(float(gradient.abs().max()) > 0 for gradient in gradients)


def test_macs_that_are_no_sum_over_the_choices_are_refused() -> None:
    with pytest.raises(ValueError, match="macs of space 'product' must be a sum over its choices"):
        ExpectedMacs.of(space(3, 3), lambda a: 10 + a[0] * a[1])


# The most probable architectures.


@pytest.mark.parametrize("seed", range(5))
def test_the_most_probable_architectures_are_those_of_the_whole_list(seed: int) -> None:
    choices = space(3, 2, 4, 3)
    rng = np.random.default_rng(seed)
    rows = [rng.dirichlet(np.ones(size)).tolist() for size in (3, 2, 4, 3)]

    def product(architecture: tuple[int, ...]) -> float:
        factors = [row[option] for row, option in zip(rows, architecture, strict=True)]
        return float(math.prod(factors))

    whole = sorted(choices, key=product, reverse=True)
    for count in (1, 10, 72, 100):
        assert most_probable(choices, rows, count) == tuple(whole[:count])


def test_of_equally_probable_architectures_the_lower_options_come_first() -> None:
    choices = space(2, 3)
    rows = [[0.5, 0.5], [0.25, 0.25, 0.5]]
    assert most_probable(choices, rows, 6) == ((0, 2), (1, 2), (0, 0), (0, 1), (1, 0), (1, 1))


def test_options_of_probability_zero_come_last() -> None:
    found = most_probable(space(2, 2), [[0.0, 1.0], [0.4, 0.6]], 4)
    assert found[:2] == ((1, 1), (1, 0))
    assert set(found[2:]) == {(0, 0), (0, 1)}


def test_a_space_that_cannot_be_listed_is_no_obstacle() -> None:
    choices = space(*[3] * 40)
    rows: Any = [[0.5, 0.3, 0.2]] * 40
    found = most_probable(choices, rows, 42)
    # one second-best option, in each of 40 places, follows the best of all
    assert found[0] == (0,) * 40
    assert sorted(map(sum, found[1:41])) == [1] * 40
    assert len(set(found)) == 42
    assert list(itertools.accumulate(map(sum, found[:2]))) == [0, 1]

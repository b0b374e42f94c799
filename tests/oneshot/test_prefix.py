"""Common prefixes run once: the bits of one forward for each architecture, and fewer layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from nni.nas.nn.pytorch import LayerChoice
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nas_ext.architecture import Architecture
from nas_ext.nni import ModelSpace
from nas_ext.oneshot import SearchDiverged, Supernet, SupernetTraining, prefix
from nas_ext.oneshot.prefix import chain_of
from nas_ext.spaces import NASBenchMacro, PoolingResNet, ResolutionResNet
from nas_ext.strategies import BalancedMixture, Uniform

Make = Callable[..., Any]
Layers = Sequence[Sequence[nn.Module]]

BATCH = 6


class Chained(ModelSpace):  # type: ignore[misc]  # NNI has no types
    """A stem, one choice a layer, a head; what a test gives stands for the layers."""

    def __init__(self, stem: nn.Module, layers: Layers, head: nn.Module) -> None:
        super().__init__()
        self.stem = stem
        self.layers = nn.ModuleList(
            LayerChoice(list(options), label=f"layer{i}") for i, options in enumerate(layers)
        )
        self.head = head

    def forward(self, x: Tensor) -> Any:
        x = self.stem(x)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)

    def forward_chain(self) -> list[tuple[nn.Module, int]]:
        layers = [(layer, place) for place, layer in enumerate(self.layers, 1)]
        return [(self.stem, 0), *layers, (self.head, len(layers))]


def block() -> nn.Module:
    """Convolution, batch norm, ReLU in place."""
    return nn.Sequential(
        nn.Conv2d(4, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
    )


def images_space(*others: Callable[[], nn.Module], layers: int = 4, options: int = 2) -> Any:
    """Layers that choose between nothing, blocks, and others; 3 classes."""
    torch.manual_seed(0)
    stem = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4, affine=False))
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    made = [
        [nn.Identity(), *(block() for _ in range(options - 1)), *(other() for other in others)]
        for _ in range(layers)
    ]
    return Chained(stem, made, head)


def images(*, batches: int = 1, channels: int = 2, size: int = 6) -> Any:
    """Batches of random images with random labels."""
    generator = torch.Generator().manual_seed(1)
    count = BATCH * batches
    inputs = torch.randn(count, channels, size, size, generator=generator)
    labels = torch.randint(3, (count,), generator=generator)
    return DataLoader(TensorDataset(inputs, labels), batch_size=BATCH)


def supernet_of(search: Make, space: Any, *, strategy: Any = None, **settings: Any) -> Supernet:
    """The supernet of a strategy that has not run."""
    given = {"val": images(), **settings}
    made = search(strategy or Uniform(), run=False, space=space, **given)
    found: Supernet = made.oneshot_module.supernet
    return found


def one_by_one(supernet: Supernet, architectures: Sequence[Architecture]) -> Any:
    """Ask for one architecture at a time: then nothing is shared."""
    return np.asarray([supernet.outputs([architecture])[0] for architecture in architectures])


def assert_equal_bits(supernet: Supernet, architectures: Sequence[Architecture]) -> None:
    expected = one_by_one(supernet, architectures)
    before = supernet.layers["outputs"]
    for _ in range(3):  # layers are stacked from the third time on
        assert np.array_equal(supernet.outputs(architectures), expected)
    chain = chain_of(supernet.module.model)
    assert chain is not None
    assert supernet.layers["outputs"] - before < 3 * len(chain) * len(architectures)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_outputs_have_the_bits_of_one_forward_each(layout: Any, search: Make) -> None:
    space = images_space(lambda: nn.Sequential(block(), nn.MaxPool2d(1)))
    supernet = supernet_of(search, space.to(memory_format=layout))
    assert_equal_bits(supernet, supernet.space.enumerate())


def test_outputs_have_the_same_bits_in_mixed_precision(search: Make) -> None:
    supernet = supernet_of(search, images_space())
    supernet.precision = lambda: torch.autocast("cpu", dtype=torch.bfloat16)
    assert_equal_bits(supernet, supernet.space.enumerate())


def test_stacked_layers_are_called_less_often_than_they_are_evaluated(search: Make) -> None:
    space = images_space(layers=5)
    supernet = supernet_of(search, space)
    architectures = supernet.space.enumerate()
    for _ in range(2):
        supernet.outputs(architectures)
    sizes: list[int] = []
    convolution: Any = space.layers[4][1][0]
    run = convolution.forward

    def counted(x: Tensor) -> Any:
        sizes.append(len(x))
        return run(x)

    convolution.forward = counted
    supernet.outputs(architectures)
    # the first architecture runs alone and does not take it; all others are one group
    assert sizes == [16 * BATCH]


def test_any_selection_in_any_order_keeps_its_places(search: Make) -> None:
    supernet = supernet_of(search, images_space())
    rng = np.random.default_rng(0)
    every = supernet.space.enumerate()
    chosen = [every[i] for i in rng.integers(len(every), size=12)]
    assert len(set(chosen)) < len(chosen)
    assert_equal_bits(supernet, chosen)


def test_accuracies_are_those_of_one_architecture_at_a_time(search: Make) -> None:
    for strategy in (Uniform(), Uniform(reward="val_acc")):
        space, val = images_space(), images(batches=3)
        supernet = supernet_of(search, space, strategy=strategy, val=val)
        architectures = supernet.space.enumerate()
        expected = [supernet.accuracies([architecture])[0] for architecture in architectures]
        assert supernet.accuracies(architectures).tolist() == expected
        assert len(set(expected)) > 1
        assert supernet.passes["accuracies"] == 2 * 3 * len(architectures)


class Counting(nn.Module):
    """Add to a count whenever it runs."""

    def __init__(self, calls: list[int]) -> None:
        super().__init__()
        self.calls = calls

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append(1)
        return x


def test_all_of_three_options_in_eight_layers_take_9840_layers(
    search: Make, val: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    # specs of NAS-Bench-Macro: stages of 2, 3 and 3 layers; an identity is free except in a
    # stage's first layer; sum of 3^l for l = 1 to 8, and without the free ones 6,813
    monkeypatch.setattr(prefix, "WIDTH", 0)
    calls: list[int] = []
    layers = [
        [Counting(calls) if first else nn.Identity(), Counting(calls), Counting(calls)]
        for first in (True, False, True, False, False, True, False, False)
    ]
    supernet = supernet_of(search, Chained(nn.Identity(), layers, nn.Identity()), val=val())
    architectures = supernet.space.enumerate()
    supernet.outputs(architectures)
    assert len(architectures) == 6_561
    assert supernet.layers["outputs"] == 9_840 + 1 + 6_561  # with stem and head
    assert len(calls) == 6_813 + 3  # the first one's forward is run beside its chain


def test_all_pooling_architectures_take_164_layers_of_360(search: Make) -> None:
    space = PoolingResNet.resnet20(width=2, in_chs=2, num_classes=3)
    supernet = supernet_of(search, space)
    architectures = supernet.space.enumerate()
    expected = one_by_one(supernet, architectures)
    assert np.array_equal(supernet.outputs(architectures), expected)
    assert len(architectures) == 36
    assert supernet.layers["outputs"] == 164 + 36  # with heads


def macro() -> Any:
    return NASBenchMacro(stem=8, widths=(8, 16), layers=(2, 2), head=8, in_chs=2, num_classes=3)


def resolutions() -> Any:
    return ResolutionResNet(widths=(3, 3, 4), resolutions=2, in_chs=2, num_classes=3)


@pytest.mark.parametrize("make", [macro, resolutions])
def test_spaces_of_this_package_share_prefixes(make: Callable[[], Any], search: Make) -> None:
    torch.manual_seed(0)
    supernet = supernet_of(search, make())
    assert_equal_bits(supernet, supernet.space.enumerate())


def test_layers_that_write_to_their_input_spoil_no_other_architecture(search: Make) -> None:
    supernet = supernet_of(search, images_space(lambda: nn.ReLU(inplace=True)))
    assert_equal_bits(supernet, supernet.space.enumerate())


class Centred(nn.Module):
    """A layer of a user that mixes the samples of a batch."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(dim=0)


def test_layers_that_mix_samples_are_found_out(search: Make) -> None:
    supernet = supernet_of(search, images_space(Centred))
    assert_equal_bits(supernet, supernet.space.enumerate())


class Halving(nn.Module):
    """A layer whose two options differ in the form of their output."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.max_pool2d(x, 2, ceil_mode=True)


def test_options_of_different_forms_are_kept_apart(search: Make) -> None:
    supernet = supernet_of(search, images_space(Halving))
    assert_equal_bits(supernet, supernet.space.enumerate())


class Normalising(SupernetTraining):
    """A user's module that makes new inputs at each call, and runs the model twice."""

    def forward(self, images: Tensor) -> Any:
        scaled = (images - 0.5) / 2
        return self.model(scaled) + self.model(scaled.flip(-1)).mul_(2)


def test_the_users_forward_stays_in_charge(search: Make) -> None:
    supernet = supernet_of(search, images_space(), module=Normalising())
    architectures = supernet.space.enumerate()
    expected = one_by_one(supernet, architectures)
    assert np.array_equal(supernet.outputs(architectures), expected)
    shared = 2 * (sum(2**i for i in range(5)) + 16)  # stem, prefixes and heads, for both inputs
    assert supernet.layers["outputs"] < 2 * shared < 2 * 6 * len(architectures)


class Noisy(SupernetTraining):
    """A user's module that never gives the model the same inputs."""

    def forward(self, images: Tensor) -> Any:
        return self.model(images + torch.rand(1))


def test_inputs_that_change_are_not_mistaken_for_each_other(search: Make) -> None:
    supernet = supernet_of(search, images_space(), module=Noisy())
    supernet.check()  # a loader draws from the global generator when it is iterated
    architectures = supernet.space.enumerate()
    with torch.random.fork_rng():
        torch.manual_seed(3)
        expected = one_by_one(supernet, architectures)
        torch.manual_seed(3)
        assert np.array_equal(supernet.outputs(architectures), expected)
    assert supernet.layers["outputs"] == 6 * len(architectures)


def differentiating(module: Any, batch: Any) -> float:
    """Be a reward that needs gradients with respect to the inputs."""
    with torch.enable_grad():
        inputs = batch[0].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(module(inputs).square().sum(), inputs)
    return float(gradient.abs().sum().tanh())


def test_a_reward_that_differentiates_gets_the_models_own_forward(search: Make) -> None:
    supernet = supernet_of(search, images_space(), strategy=Uniform(reward=differentiating))
    architectures = supernet.space.enumerate()
    expected = [supernet.accuracies([architecture])[0] for architecture in architectures]
    assert supernet.accuracies(architectures).tolist() == expected
    assert supernet.layers["accuracies"] == 0


def test_hooks_see_one_architecture_at_a_time(search: Make) -> None:
    space = images_space()
    sizes: list[int] = []
    space.layers[2][1].register_forward_hook(lambda *call: sizes.append(len(call[1][0])))
    supernet = supernet_of(search, space)
    assert_equal_bits(supernet, supernet.space.enumerate())
    assert set(sizes) == {BATCH}


def test_the_model_has_its_own_forward_back_even_after_an_error(search: Make) -> None:
    space = images_space()
    supernet = supernet_of(search, space)
    supernet.outputs(supernet.space.enumerate())
    assert "forward" not in vars(space)
    space.head = nn.Flatten(0)
    with pytest.raises(ValueError, match=r"outputs must be \[S, C\]"):
        supernet.outputs(supernet.space.enumerate())
    assert "forward" not in vars(space)


def test_a_chain_that_is_not_the_forward_is_refused(search: Make) -> None:
    class Wrong(Chained):
        def forward_chain(self) -> list[tuple[nn.Module, int]]:
            return [*super().forward_chain(), (nn.Softmax(dim=1), 1)]

    torch.manual_seed(0)
    layers = [[nn.Linear(6, 6), nn.Linear(6, 6)]]
    supernet = supernet_of(search, Wrong(nn.Identity(), layers, nn.Linear(6, 3)), val=vectors())
    with pytest.raises(ValueError, match="forward_chain of Wrong must compose to its forward"):
        supernet.outputs([(0,), (1,)])


def vectors() -> Any:
    inputs = torch.randn(BATCH, 6, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(inputs, torch.zeros(BATCH)), batch_size=BATCH)


def test_a_subclass_with_a_forward_of_its_own_does_not_use_the_chain(search: Make) -> None:
    class Doubled(Chained):
        def forward(self, x: Tensor) -> Any:
            return 2 * super().forward(x)

    torch.manual_seed(0)
    layers = [[nn.Linear(6, 6), nn.Linear(6, 6)]]
    supernet = supernet_of(search, Doubled(nn.Identity(), layers, nn.Linear(6, 3)), val=vectors())
    expected = one_by_one(supernet, [(0,), (1,)])
    assert np.array_equal(supernet.outputs([(0,), (1,)]), expected)
    assert supernet.layers["outputs"] == 0


def test_supernets_of_a_mixture_share_each_within_itself(search: Make) -> None:
    space = PoolingResNet(widths=(2, 3, 4, 4), poolings=2, in_chs=2, num_classes=3)
    supernet = supernet_of(search, space, strategy=BalancedMixture(models=2))
    architectures = supernet.space.enumerate()
    expected = one_by_one(supernet, architectures)
    assert np.array_equal(supernet.outputs(architectures), expected)
    # 1 stem, 2 + 3 + 3 prefixes of the 3 architectures, 3 heads: 12 of 15, in both
    assert supernet.layers["outputs"] == 2 * 12


def test_outputs_that_are_no_numbers_are_named_on_a_shared_walk_too(search: Make) -> None:
    space = images_space()
    space.head[2].bias.data.fill_(float("nan"))
    supernet = supernet_of(search, space)
    for _ in range(3):
        with pytest.raises(SearchDiverged, match="outputs on validation data"):
            supernet.outputs(supernet.space.enumerate())

"""Running statistics that are measured anew."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.layers.drop import DropPath
from torch import Tensor, nn

from nas_ext.recalibration import recalibrate
from nas_ext.spaces import PoolingResNet


def norms(module: nn.Module) -> list[nn.BatchNorm2d]:
    return [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]


def images(count: int, size: int = 8) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(size, 3, 6, 6, generator=generator) * (at + 1) for at in range(count)]


def test_statistics_are_the_means_over_all_batches_of_theirs() -> None:
    norm = nn.BatchNorm2d(3)
    norm(torch.randn(4, 3, 2, 2) + 100)  # what came before is forgotten
    batches = images(5)
    assert recalibrate(norm, batches) == 5
    means = torch.stack([batch.mean((0, 2, 3)) for batch in batches])
    variances = torch.stack([batch.var((0, 2, 3), unbiased=True) for batch in batches])
    torch.testing.assert_close(norm.running_mean, means.mean(0))
    torch.testing.assert_close(norm.running_var, variances.mean(0))
    assert norm.num_batches_tracked == 5


def test_a_later_layer_sees_what_the_earlier_one_makes_of_the_batch_itself() -> None:
    torch.manual_seed(0)
    first, second = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    conv = nn.Conv2d(3, 3, 1)
    batches = images(4)
    recalibrate(nn.Sequential(first, conv, second), batches)
    with torch.no_grad():
        seen = [conv(nn.functional.batch_norm(b, None, None, training=True)) for b in batches]
    expected = torch.stack([batch.mean((0, 2, 3)) for batch in seen]).mean(0)
    torch.testing.assert_close(second.running_mean, expected)


def test_batches_may_carry_labels() -> None:
    one, other = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    recalibrate(one, images(2))
    recalibrate(other, [(batch, torch.zeros(8)) for batch in images(2)])
    assert torch.equal(one.running_mean, other.running_mean)  # type: ignore[arg-type]


def test_modes_momenta_weights_and_randomness_are_put_back() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3, momentum=0.3), nn.Dropout(0.5), DropPath(0.5))
    network[1].eval()
    weights = [parameter.clone() for parameter in network.parameters()]
    state = torch.get_rng_state()
    recalibrate(network, images(2))
    assert torch.equal(torch.get_rng_state(), state)  # no dropout while statistics are taken
    assert [module.training for module in network] == [True, False, True]
    assert network[0].momentum == 0.3
    pairs = zip(network.parameters(), weights, strict=True)
    assert all(torch.equal(now, before) for now, before in pairs)


def test_norms_that_no_batch_reached_keep_their_statistics() -> None:
    class OnePath(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.paths = nn.ModuleList([nn.BatchNorm2d(3), nn.BatchNorm2d(3)])
            self.active = 0

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.paths[self.active](x)
            return found

    network = OnePath()
    network(images(1)[0])
    network.active = 1
    kept = network.paths[0].running_mean.clone()  # type: ignore[operator]
    recalibrate(network, images(3))
    assert torch.equal(network.paths[0].running_mean, kept)  # type: ignore[arg-type]
    assert network.paths[0].num_batches_tracked == 1
    assert network.paths[1].num_batches_tracked == 3


def test_a_networks_eval_mode_then_agrees_with_the_batch_it_was_calibrated_on() -> None:
    # One large batch: its own statistics and the running ones differ by n / (n - 1) only.
    torch.manual_seed(0)
    space = PoolingResNet.mini()
    network = space.network(space.search_space.at(3))
    batch = torch.randn(512, 1, 8, 8)
    with torch.no_grad():
        expected = network.train()(batch)
        before = network.eval()(batch)
        recalibrate(network, [batch])
        after = network.eval()(batch)
    assert (before - expected).abs().max() > 0.1
    torch.testing.assert_close(after, expected, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    ("network", "batches", "message"),
    [
        (nn.Conv2d(3, 3, 1), images(1), "batch norm that tracks"),
        (nn.BatchNorm2d(3, track_running_stats=False), images(1), "batch norm that tracks"),
        (nn.BatchNorm2d(3), [], "batches must not be empty"),
        (nn.BatchNorm2d(3), ["x"], "batches must be tensors or begin with one, got str"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(
    network: nn.Module, batches: list[Any], message: str
) -> None:
    before = [buffer.clone() for buffer in network.buffers()]
    with pytest.raises(ValueError, match=message):
        recalibrate(network, batches)
    pairs = zip(network.buffers(), before, strict=True)
    assert all(torch.equal(now, then) for now, then in pairs)
    assert [norm.training for norm in norms(network)] == [True] * len(norms(network))

"""Trimmed kernels against torch's own convolution, to the bit."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nas_ext.oneshot.layout import MemoryFormat, arrange
from nas_ext.oneshot.trimming import trim_kernels
from nas_ext.spaces import NASBenchMacro
from nas_ext.strategies import Uniform

LAYOUTS: tuple[MemoryFormat, ...] = ("contiguous", "channels_last")


def depthwise(channels: int, size: int, **arguments: object) -> nn.Conv2d:
    settings: dict[str, object] = {"padding": size // 2, "groups": channels, "bias": False}
    return nn.Conv2d(channels, channels, size, **{**settings, **arguments})  # type: ignore[arg-type]


def passed(model: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    """Return outputs and all gradients of a pass forward and backward."""
    given = images.clone(memory_format=torch.preserve_format).requires_grad_()
    outputs = model(given)
    weights = torch.arange(outputs.numel()).reshape(outputs.shape).sin()
    (outputs * weights).sum().backward()
    assert given.grad is not None
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    return [outputs.detach(), given.grad, *grads]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [5, 7])
@pytest.mark.parametrize("pixels", [(1, 1), (2, 2), (2, 1), (3, 3), (2, 3), (4, 4), (6, 5)])
def test_outputs_and_gradients_are_those_of_the_whole_kernel(
    layout: MemoryFormat, size: int, pixels: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    whole = depthwise(48, size)
    arrange(whole, layout)
    trimmed = copy.deepcopy(whole)
    assert trim_kernels(trimmed) == 1
    last = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    images = torch.randn(16, 48, *pixels).contiguous(memory_format=last)
    pairs = zip(passed(whole, images), passed(trimmed, images), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_a_5_by_5_kernel_costs_nine_products_a_pixel_on_2_by_2_pixels() -> None:
    convolution = depthwise(4, 5)
    trim_kernels(convolution)
    counts = {}
    for side in (2, 3):
        with FlopCounterMode(display=False) as counter:
            convolution(torch.zeros(1, 4, side, side))
        counts[side] = counter.get_total_flops()
    # two for each product: channels, pixels, 3 x 3 or 5 x 5
    assert counts == {2: 2 * 4 * 4 * 9, 3: 2 * 4 * 9 * 25}
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        convolution(torch.zeros(1, 4, 2, 2))
    assert counter.get_total_flops() == 2 * 4 * 4 * 25


@pytest.mark.parametrize(
    "other",
    [
        nn.Conv2d(8, 8, 5, padding=2),
        depthwise(8, 3),
        depthwise(8, 5, bias=True),
        depthwise(8, 5, stride=2),
        depthwise(8, 5, padding=1),
        depthwise(8, 5, padding="same"),
        depthwise(8, 5, dilation=2, padding=4),
        depthwise(8, 5, padding_mode="circular"),
        nn.Conv2d(8, 8, (5, 7), padding=(2, 3), groups=8),
        nn.ConvTranspose2d(8, 8, 5, padding=2, groups=8),
    ],
    ids=str,
)
def test_other_convolutions_are_left_alone(other: nn.Module) -> None:
    assert trim_kernels(other) == 0


def test_copies_and_pickled_modules_use_their_own_weights() -> None:
    first = depthwise(4, 5)
    trim_kernels(first)
    second = copy.deepcopy(first)
    file = io.BytesIO()
    torch.save(first, file)
    third = torch.load(io.BytesIO(file.getvalue()), weights_only=False)
    images = torch.ones(1, 4, 2, 2)
    before = first(images)
    with torch.no_grad():
        first.weight.zero_()
    assert torch.equal(second(images), before)
    assert torch.equal(third(images), before)


def test_supernets_are_trimmed_and_their_weights_keep_their_names() -> None:
    space = NASBenchMacro(stem=8, widths=(8, 16), layers=(2, 2), head=8)
    names = [name.rpartition(".")[2] for name in space.state_dict()]
    model: nn.Module = Uniform().mutate_model(space)
    # One of the three options of each of four layers has a 5 x 5 kernel; two layers halve the
    # resolution and keep theirs whole.
    assert sum("_conv_forward" in vars(module) for module in model.modules()) == 2
    assert [name.rpartition(".")[2] for name in model.state_dict()] == names

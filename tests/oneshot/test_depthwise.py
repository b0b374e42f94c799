"""Depthwise convolutions that cost less to train, against torch's own, to the bit."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from nas_ext.oneshot.depthwise import lighten_depthwise
from nas_ext.oneshot.layout import MemoryFormat, arrange
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
    assert lighten_depthwise(trimmed) == 1
    last = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    images = torch.randn(16, 48, *pixels).contiguous(memory_format=last)
    pairs = zip(passed(whole, images), passed(trimmed, images), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_a_5_by_5_kernel_costs_nine_products_a_pixel_on_2_by_2_pixels() -> None:
    convolution = depthwise(4, 5)
    lighten_depthwise(convolution)
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
        depthwise(8, 1),
        depthwise(8, 5, bias=True),
        depthwise(8, 5, stride=3),
        depthwise(8, 5, padding=1),
        depthwise(8, 5, padding="same"),
        depthwise(8, 5, dilation=2, padding=4),
        depthwise(8, 5, padding_mode="circular"),
        nn.Conv2d(8, 8, (5, 7), padding=(2, 3), groups=8),
        nn.Conv2d(8, 16, 5, padding=2, groups=8, bias=False),
        nn.Conv2d(8, 8, 5, padding=2, groups=4, bias=False),
        nn.ConvTranspose2d(8, 8, 5, padding=2, groups=8),
    ],
    ids=str,
)
def test_other_convolutions_are_left_alone(other: nn.Module) -> None:
    assert lighten_depthwise(other) == 0


def test_copies_and_pickled_modules_use_their_own_weights() -> None:
    first = depthwise(4, 5)
    lighten_depthwise(first)
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


def test_convolutions_of_supernets_are_changed_and_their_weights_keep_their_names() -> None:
    space = NASBenchMacro(stem=8, widths=(8, 16), layers=(2, 2), head=8)
    names = [name.rpartition(".")[2] for name in space.state_dict()]
    model: nn.Module = Uniform().mutate_model(space)
    # Two of the three options of each of four layers have a depthwise convolution; the stem none.
    assert sum("_conv_forward" in vars(module) for module in model.modules()) == 8
    assert [name.rpartition(".")[2] for name in model.state_dict()] == names


class Backward(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Note for each backward pass of a convolution how many channels it takes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.weights: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution_backward.default and args[-1][1]:
            self.weights.append(args[2].shape[0])
        return func(*args, **(kwargs or {}))


def changed(whole: nn.Module) -> nn.Module:
    lighter = copy.deepcopy(whole)
    assert lighten_depthwise(lighter)
    return lighter


def laid(*shape: int) -> torch.Tensor:
    return torch.randn(*shape).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("channels", "side", "size", "stride", "groups"),
    [
        (96, 4, 5, 1, [48, 48]),
        (112, 4, 5, 1, [48, 48, 16]),
        (192, 8, 5, 2, [48, 48, 48, 48]),
        (96, 7, 5, 2, [48, 48]),
        (384, 2, 3, 1, [128, 128, 128]),
        (384, 2, 5, 1, [128, 128, 128]),
        (288, 3, 7, 1, [48, 48, 48, 48, 48, 48]),
        (80, 4, 7, 1, [16, 16, 16, 16, 16]),
        (80, 4, 5, 1, [80]),
        (100, 4, 5, 1, [100]),
        (768, 4, 3, 1, [768]),
        (96, 5, 5, 1, [96]),
        (96, 9, 5, 2, [96]),
    ],
)
def test_weights_gradients_of_groups_of_channels_are_those_of_all(
    channels: int, side: int, size: int, stride: int, groups: list[int]
) -> None:
    torch.manual_seed(0)
    whole = nn.Sequential(depthwise(channels, size, stride=stride), nn.ReLU())
    arrange(whole, "channels_last")
    images = laid(64, channels, side, side)
    expected = passed(whole, images)
    with Backward() as backward:
        found = passed(changed(whole), images)
    assert backward.weights == groups
    assert all(torch.equal(one, other) for one, other in zip(expected, found, strict=True))


def _images(change: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    return change(laid(64, 96, 4, 4))


@pytest.mark.parametrize(
    "images",
    [
        _images(torch.Tensor.contiguous),
        _images(torch.Tensor.double),
        _images(lambda images: images[:8]),
        _images(lambda images: images[:, :, :1, :1].contiguous(memory_format=torch.channels_last)),
    ],
    ids=["contiguous", "double", "few", "one pixel"],
)
def test_all_channels_at_once_where_groups_would_not_help(images: torch.Tensor) -> None:
    whole = depthwise(96, 5).to(images.dtype)
    expected = passed(whole, images)
    with Backward() as backward:
        found = passed(changed(whole), images)
    assert backward.weights == [96]
    assert all(torch.equal(one, other) for one, other in zip(expected, found, strict=True))


def test_autocast_is_left_to_torch() -> None:
    with Backward() as backward, torch.autocast("cpu", torch.bfloat16):
        changed(depthwise(96, 5))(laid(64, 96, 4, 4)).sum().backward()
    assert backward.weights == [96]


def test_frozen_weights_get_no_gradient_and_images_do() -> None:
    whole = depthwise(96, 5).requires_grad_(requires_grad=False)
    arrange(whole, "channels_last")
    images = laid(64, 96, 4, 4)
    with Backward() as backward:
        found = passed(changed(whole), images)
    assert backward.weights == []
    assert all(torch.equal(a, b) for a, b in zip(passed(whole, images), found, strict=True))


def test_images_without_gradients_get_none() -> None:
    lighter = changed(depthwise(96, 5))
    arrange(lighter, "channels_last")
    with Backward() as backward:
        lighter(laid(64, 96, 4, 4)).sum().backward()
    assert backward.weights == [48, 48]


@pytest.mark.parametrize("pixels", [(2, 2), (6, 2)])
def test_an_image_without_a_batch_is_left_to_torch(pixels: tuple[int, int]) -> None:
    whole = depthwise(96, 5)
    image = torch.randn(96, *pixels)
    pairs = zip(passed(whole, image), passed(changed(whole), image), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_gradients_have_gradients() -> None:
    torch.manual_seed(0)
    whole = depthwise(96, 5)
    arrange(whole, "channels_last")
    images = laid(64, 96, 4, 4)

    def second(model: nn.Module) -> torch.Tensor:
        (weight,) = model.parameters()
        (gradient,) = torch.autograd.grad((model(images) ** 3).mean(), [weight], create_graph=True)
        (twice,) = torch.autograd.grad((gradient**2).sum(), [weight])
        return twice

    with Backward() as backward:
        found = second(changed(whole))
    assert backward.weights[:2] == [48, 48]
    torch.testing.assert_close(found, second(whole), rtol=1e-4, atol=1e-6)

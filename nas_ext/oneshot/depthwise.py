"""Depthwise convolutions that cost less to train, on small maps, and are equal to the bit."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, is_grad_enabled, nn

__all__ = ["lighten_depthwise"]

WEIGHTS = 1200
"""So many weights' gradients stay in the fastest cache while a batch is summed up."""

BLOCK = 16
"""Channels a processor takes at once: groups are made of whole blocks."""

MAP = 16
"""Above so many pixels of the output, groups of channels gain nothing."""

PRODUCTS = 2**16
"""Below so many numbers in the output, the work of making groups is more than they gain."""


def lighten_depthwise(model: nn.Module) -> int:
    """Let depthwise convolutions waste less in training, in place; return how many are changed.

    Two things are left out, on a processor and in passes with gradients; all else goes the usual
    way, and outputs and gradients are equal to the bit.

    The border of a kernel that only meets padding: on a map of H x W pixels, max(H, W) - 1 is as
    far as a pixel can see another one. A kernel of stride 1 that keeps the size and reaches
    further multiplies the rest by zeros: on 2 x 2 pixels nine weights of a 5 x 5 kernel are of
    use, and torch pays for all 25 in the backward pass. The weights stay as they are, and the
    border's gradients are zeros as before. Not below 3 x 3, where the bits differ.

    Waiting for memory: kernels of 5 x 5 and more, and those larger than their map, have no fast
    way to their weights' gradients in oneDNN, and the usual one goes through the gradients of
    all channels for each pixel. On outputs of up to 16 pixels, channels last, groups of channels
    are summed up one after the other.
    """
    planar = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    found = [module for module in planar if _is_plain(module)]
    for module in found:
        vars(module)["_conv_forward"] = partial(_convolved, module)
    return len(found)


def _is_plain(module: nn.Conv2d) -> bool:
    """Say whether it is depthwise, of odd sides from 3 x 3, and has nothing but weights."""
    if type(module)._conv_forward is not nn.Conv2d._conv_forward:
        return False
    size = module.weight.shape[2]
    return (
        module.groups == module.in_channels == module.out_channels > 1
        and module.bias is None
        and module.padding_mode == "zeros"
        and size >= 3
        and size % 2 == 1
        and tuple(module.weight.shape[2:]) == (size, size) == module.kernel_size
        and module.padding == (size // 2, size // 2)
        and module.stride in {(1, 1), (2, 2)}
        and module.dilation == (1, 1)
    )


def _convolved(module: nn.Conv2d, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if inputs.device.type != "cpu" or inputs.dim() != 4 or not is_grad_enabled():
        whole: Tensor = nn.Conv2d._conv_forward(module, inputs, weight, bias)
        return whole
    reach, (stride, _) = weight.shape[2] // 2, module.stride
    seen = max(1, *(side - 1 for side in inputs.shape[2:]))
    if stride == 1 and seen < reach:
        weight = weight[:, :, reach - seen : reach + seen + 1, reach - seen : reach + seen + 1]
        reach = seen
    if group := _group(inputs, weight, stride):
        grouped: Tensor = _Grouped.apply(inputs, weight, stride, reach, group)
        return grouped
    return nn.functional.conv2d(
        inputs, weight, bias, stride=stride, padding=reach, groups=module.groups
    )


def _group(inputs: Tensor, weight: Tensor, stride: int) -> int:
    """Return how many channels to take at once, or 0 where all of them are as fast."""
    channels, size = weight.shape[0], weight.shape[2]
    height, width = inputs.shape[2:]
    pixels = -(-height // stride) * -(-width // stride)
    group = WEIGHTS // (size * size) // BLOCK * BLOCK
    gains = (
        (size >= 5 or size > min(height, width))
        and pixels <= MAP
        and 2 * group <= channels
        and channels % BLOCK == 0
        and len(inputs) * channels * pixels >= PRODUCTS
    )
    laid = height * width > 1 and inputs.is_contiguous(memory_format=torch.channels_last)
    single = inputs.dtype == weight.dtype == torch.float32
    autocast = torch.is_autocast_enabled("cpu")
    return group if gains and laid and single and not autocast and weight.requires_grad else 0


class _Grouped(torch.autograd.Function):
    """Convolve depthwise; sum up the weights' gradients of a group of channels at a time."""

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, stride: int, padding: int, group: int
    ) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.stride, ctx.padding, ctx.group = stride, padding, group
        return nn.functional.conv2d(
            inputs, weight, stride=stride, padding=padding, groups=len(weight)
        )

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor, None, None, None]:
        inputs, weight = ctx.saved_tensors
        back = partial(_back, stride=ctx.stride, padding=ctx.padding)
        (given,) = grads
        to_inputs = None
        if ctx.needs_input_grad[0]:
            to_inputs = back(given, inputs, weight, wanted=0)
        groups = [part.split(ctx.group, dim=1) for part in (given, inputs)]
        parts = zip(*groups, weight.split(ctx.group), strict=True)
        to_weight = torch.cat([back(_laid(g), _laid(x), w, wanted=1) for g, x, w in parts])
        return to_inputs, to_weight, None, None, None


def _back(
    given: Tensor, inputs: Tensor, weight: Tensor, *, stride: int, padding: int, wanted: int
) -> Tensor:
    """Return one of the gradients of a convolution: of the inputs (0) or of the weights (1)."""
    mask = [wanted == 0, wanted == 1, False]
    sides = [stride] * 2, [padding] * 2, [1, 1]
    both = torch.ops.aten.convolution_backward(
        given, inputs, weight, None, *sides, False, [0, 0], len(weight), mask
    )
    gradient: Tensor = both[wanted]
    return gradient


def _laid(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)

"""Kernels whose border sees nothing but padding: on maps smaller than they are."""

from __future__ import annotations

from functools import partial

from torch import Tensor, is_grad_enabled, nn

__all__ = ["trim_kernels"]


def trim_kernels(model: nn.Module) -> int:
    """Let depthwise convolutions leave out what only meets padding, in place; return how many.

    On a map of H x W pixels, max(H, W) - 1 is as far as a pixel can see another one. A kernel of
    stride 1 that keeps the size and reaches further multiplies the rest by zeros: on 2 x 2 pixels
    nine weights of a 5 x 5 kernel are of use, and torch pays for all 25 in the backward pass. The
    weights stay as they are, and the border's gradients are zeros as before. On a processor,
    outputs and gradients are equal to the bit. That does not hold below 3 x 3, nor with a bias:
    both are left alone; passes without gradients, which gain nothing, and other devices go the
    usual way.
    """
    planar = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    found = [module for module in planar if _reaches_beyond_3(module)]
    for module in found:
        vars(module)["_conv_forward"] = partial(_trimmed, module)
    return len(found)


def _reaches_beyond_3(module: nn.Conv2d) -> bool:
    """Say whether it is a plain depthwise convolution of 5 x 5 or more that keeps the size."""
    if type(module)._conv_forward is not nn.Conv2d._conv_forward:
        return False
    size = module.weight.shape[2]
    return (
        module.groups == module.in_channels > 1
        and module.bias is None
        and module.padding_mode == "zeros"
        and size >= 5
        and size % 2 == 1
        and tuple(module.weight.shape[2:]) == (size, size) == module.kernel_size
        and module.padding == (size // 2, size // 2)
        and module.stride == module.dilation == (1, 1)
    )


def _trimmed(module: nn.Conv2d, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    reach = weight.shape[2] // 2
    seen = max(1, *(side - 1 for side in inputs.shape[2:]))
    if seen >= reach or inputs.device.type != "cpu" or not is_grad_enabled():
        whole: Tensor = nn.Conv2d._conv_forward(module, inputs, weight, bias)
        return whole
    inner = weight[:, :, reach - seen : reach + seen + 1, reach - seen : reach + seen + 1]
    return nn.functional.conv2d(inputs, inner, bias, padding=seen, groups=module.groups)

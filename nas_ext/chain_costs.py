"""What the chains of a plan cost, in closed form: a sum over their layers."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

from nas_ext.additive_cost import AdditiveCost
from nas_ext.chain import ChainPlan, Layer, LayerOption, check_positive

__all__ = ["macs_table", "parameter_table"]


def parameter_table(plan: ChainPlan, *, in_chs: int, num_classes: int) -> AdditiveCost:
    """Return the parameters of convolutions, affine norms and linear layer."""
    return _tables(plan, in_chs, num_classes, 1, 1)[0]


def macs_table(
    plan: ChainPlan, *, in_chs: int, num_classes: int, image_size: tuple[int, int]
) -> AdditiveCost:
    """Return the multiply-accumulates of convolutions and linear layer for one image.

    `image_size` is (H, W); strides keep the last odd row and column.
    """
    return _tables(plan, in_chs, num_classes, *image_size)[1]


class _Convolution(NamedTuple):
    """One convolution or linear layer: its weights, other parameters, and output pixels."""

    weights: int
    others: int
    pixels: int


@lru_cache(maxsize=64)
def _tables(
    plan: ChainPlan, in_chs: int, num_classes: int, height: int, width: int
) -> tuple[AdditiveCost, AdditiveCost]:
    """Return the parameters and the multiply-accumulates of every option."""
    check_positive(in_chs=in_chs, num_classes=num_classes, height=height, width=width)
    size = _strided((height, width), plan.stem_stride)
    fixed = [_normed(9 * in_chs, plan.stem, math.prod(size))]
    if plan.first is not None:
        fixed.append(_normed(9, plan.stem, math.prod(size)))
        fixed.append(_normed(plan.stem, plan.first, math.prod(size)))
    choices: list[list[list[_Convolution]]] = []
    for layer in plan.layers:
        before, size = math.prod(size), _strided(size, layer.stride)
        choices.append([_layer(layer, o, before, math.prod(size)) for o in plan.options])
    fixed.append(_normed(plan.layers[-1].out_chs, plan.head, math.prod(size)))
    fixed.append(_biased(plan.head, num_classes))
    parameters, macs = (
        AdditiveCost(cost(fixed), tuple(tuple(map(cost, row)) for row in choices))
        for cost in (_parameters, _macs)
    )
    return parameters, macs


def _parameters(convolutions: list[_Convolution]) -> int:
    return sum(found.weights + found.others for found in convolutions)


def _macs(convolutions: list[_Convolution]) -> int:
    return sum(found.weights * found.pixels for found in convolutions)


def _layer(
    layer: Layer, option: LayerOption, in_pixels: int, out_pixels: int
) -> list[_Convolution]:
    """Return the convolutions of an option: the stride is that of the depthwise one."""
    if option is None:
        return [] if layer.keeps_shape else [_normed(layer.in_chs, layer.out_chs, out_pixels)]
    hidden = option.expansion * layer.in_chs
    squeezed = hidden // 4
    gate = [_biased(hidden, squeezed), _biased(squeezed, hidden)]
    return [
        _normed(layer.in_chs, hidden, in_pixels),
        _normed(option.kernel**2, hidden, out_pixels),
        *(gate if option.squeeze_excite else []),
        _normed(hidden, layer.out_chs, out_pixels),
    ]


def _normed(fan_in: int, channels: int, pixels: int) -> _Convolution:
    """Return a convolution without bias and its affine norm."""
    return _Convolution(fan_in * channels, 2 * channels, pixels)


def _biased(fan_in: int, channels: int) -> _Convolution:
    """Return a linear layer, or a 1x1 convolution of a mean over the image."""
    return _Convolution(fan_in * channels, channels, 1)


def _strided(image_size: tuple[int, int], stride: int) -> tuple[int, int]:
    """Return the size behind a padded convolution with an odd kernel."""
    height, width = image_size
    return -(-height // stride), -(-width // stride)

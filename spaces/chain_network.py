"""Chains of inverted residual blocks in timm's layers, and one of them as a network."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, Literal, TypeAlias

from timm.layers.classifier import ClassifierHead
from timm.layers.conv_bn_act import ConvNormAct
from timm.models._efficientnet_blocks import (
    DepthwiseSeparableConv,
    InvertedResidual,
    SqueezeExcite,
)
from torch import Tensor, nn

from nas_ext.architecture import Architecture
from nas_ext.chain import ChainPlan, Layer, LayerOption
from nas_ext.spaces.blocks import NormLayer, skip
from nas_ext.spaces.checks import check_positive, check_share
from nas_ext.spaces.timm_network import TimmNetwork

__all__ = ["Activation", "ChainLayers", "ChainNetwork", "chain_layer"]

Activation: TypeAlias = Literal["relu", "relu6"]

squeeze_excite: Any = partial(SqueezeExcite, rd_ratio=0.25, force_act_layer=nn.ReLU)
"""A quarter of the hidden channels, ReLU, sigmoid: the thesis leaves all three open.

Any: timm takes a factory here, and says it is a class.
"""


def chain_layer(
    layer: Layer,
    option: LayerOption,
    *,
    activation: Activation,
    norm_layer: NormLayer,
    drop_path_rate: float = 0.0,
) -> nn.Module:
    """Return an option of a layer, in timm's blocks."""
    if option is None:
        return skip(layer.in_chs, layer.out_chs, stride=layer.stride, norm_layer=norm_layer)
    return InvertedResidual(
        layer.in_chs,
        layer.out_chs,
        option.kernel,
        layer.stride,
        exp_ratio=option.expansion,
        act_layer=activation,
        norm_layer=norm_layer,
        se_layer=squeeze_excite if option.squeeze_excite else None,
        drop_path_rate=drop_path_rate,
    )


class ChainLayers:
    """Give the model space and its networks the same module tree and the same forward.

    Weights then move between them by name: `stem`, `blocks` (the fixed block, where the plan has
    one, then the searched layers), `conv_head`, `head`. To be mixed into a module.
    """

    stem: ConvNormAct
    blocks: nn.ModuleList
    conv_head: nn.Module | None
    head: ClassifierHead

    def build(
        self,
        plan: ChainPlan,
        layers: Iterable[nn.Module],
        *,
        num_classes: int,
        in_chs: int,
        activation: Activation,
        norm_layer: NormLayer,
    ) -> None:
        convolution = partial(ConvNormAct, norm_layer=norm_layer, act_layer=activation)
        self.stem = convolution(in_chs, plan.stem, 3, plan.stem_stride)
        fixed = []
        if plan.first is not None:
            separable = partial(DepthwiseSeparableConv, norm_layer=norm_layer)
            fixed.append(separable(plan.stem, plan.first, act_layer=activation))
        self.blocks = nn.ModuleList([*fixed, *layers])
        self.conv_head = convolution(plan.layers[-1].out_chs, plan.head, 1)
        self.head = ClassifierHead(plan.head, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[B, num_classes]` of images `[B, in_chs, H, W]`."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        if self.conv_head is not None:
            x = self.conv_head(x)
        logits: Tensor = self.head(x)
        return logits


class ChainNetwork(TimmNetwork, ChainLayers):
    """Be one architecture of a chain: plain torch and timm layers, nothing of NNI's.

    Stochastic depth grows linearly from 0 at the first searched layer to `drop_path_rate` at the
    last; it drops residual branches only.
    """

    def __init__(
        self,
        plan: ChainPlan,
        architecture: Architecture,
        *,
        num_classes: int,
        in_chs: int,
        activation: Activation,
        norm_layer: NormLayer = nn.BatchNorm2d,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        known = range(len(plan.options))
        if len(architecture) != len(plan.layers) or not all(o in known for o in architecture):
            raise ValueError(
                f"architecture must be {len(plan.layers)} options below {len(known)}, "
                f"got {architecture}"
            )
        check_positive(num_classes=num_classes, in_chs=in_chs)
        check_share("drop_path_rate", drop_path_rate)
        last = max(len(plan.layers) - 1, 1)
        self.build(
            plan,
            (
                chain_layer(
                    layer,
                    plan.options[option],
                    activation=activation,
                    norm_layer=norm_layer,
                    drop_path_rate=drop_path_rate * place / last,
                )
                for place, (layer, option) in enumerate(
                    zip(plan.layers, architecture, strict=True)
                )
            ),
            num_classes=num_classes,
            in_chs=in_chs,
            activation=activation,
            norm_layer=norm_layer,
        )
        first = [] if plan.first is None else [plan.first]
        self.finish(
            channels=[plan.stem, *first, *(layer.out_chs for layer in plan.layers)],
            strides=[plan.stem_stride, *[1] * len(first), *(x.stride for x in plan.layers)],
            num_classes=num_classes,
            in_chs=in_chs,
        )

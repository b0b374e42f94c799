"""The MobileNetV2 space for ImageNet: 21 layers, each an identity or an inverted residual."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nas_ext.chain import ChainSpace
from nas_ext.mobilenet import (
    FIRST,
    HEAD,
    LAYERS,
    MOBILENET,
    STEM,
    STRIDES,
    WIDTHS,
    mobilenet_plan,
)
from nas_ext.spaces.chain_space import ChainModelSpace

__all__ = ["MobileNetV2Space"]


class MobileNetV2Space(ChainModelSpace):
    """Search 21 layers, each with 13 options, or 7 without squeeze-and-excitation.

    A stem of `stem` channels with stride 2, a depthwise separable block to `first` channels, the
    stages, a 1x1 convolution to `head` channels, average, linear layer; ReLU6. Every stage has a
    number in `widths`, `layers` and `strides`; the stride is that of its first layer. An option is
    an identity or an inverted residual block of expansion 3 or 6 and kernel 3, 5 or 7, with
    `squeeze_excite` also with that. Source: the thesis's appendix II, Table II-2: 13^21 networks.

    Where it is silent: an identity that has to change the shape is a 1x1 convolution with the
    stride and norm, as in NAS-Bench-Macro; squeeze-and-excitation has a quarter of the hidden
    channels, ReLU and a sigmoid.
    """

    if TYPE_CHECKING:
        # NNI's __new__ may return a fixed module instead, but not for model spaces.
        def __new__(cls, **arguments: Any) -> MobileNetV2Space: ...

    def __init__(
        self,
        *,
        squeeze_excite: bool = True,
        stem: int = STEM,
        first: int = FIRST,
        widths: Sequence[int] = WIDTHS,
        layers: Sequence[int] = LAYERS,
        strides: Sequence[int] = STRIDES,
        head: int = HEAD,
        num_classes: int = 1000,
        in_chs: int = 3,
    ) -> None:
        plan = mobilenet_plan(
            squeeze_excite=squeeze_excite,
            stem=stem,
            first=first,
            widths=widths,
            layers=layers,
            strides=strides,
            head=head,
        )
        self.squeeze_excite = squeeze_excite
        super().__init__(
            ChainSpace(MOBILENET, plan),
            activation="relu6",
            num_classes=num_classes,
            in_chs=in_chs,
        )

    @property
    def arguments(self) -> dict[str, Any]:
        """Return, for JSON, the arguments of `nas_ext.spaces.create` that rebuild the space."""
        return {
            **super().arguments,
            "squeeze_excite": self.squeeze_excite,
            "first": self.plan.first,
            "strides": [stage.stride for stage in self.plan.stages],
        }

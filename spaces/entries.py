"""The registered model spaces: how each is built, and what a table of spaces says of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from nas_ext import mobilenet, nasbench_macro
from nas_ext.cell import NASBENCH201, OPERATIONS
from nas_ext.spaces.autodeeplab import AUTODEEPLAB, AutoDeepLabMacro
from nas_ext.spaces.mobilenet import MobileNetV2Space
from nas_ext.spaces.nasbench201 import NASBench201
from nas_ext.spaces.nasbench_macro import NASBenchMacro
from nas_ext.spaces.pooling_resnet import GENERAL, MINI, RESNET20, PoolingResNet
from nas_ext.spaces.resolution_resnet import (
    RESOLUTION,
    RESOLUTION20,
    ResolutionResNet,
    Weights,
)
from nas_ext.spaces.strided_resnet import StridedResNet

__all__ = ["ENTRIES", "RegisteredSpace", "SpaceEntry"]

RegisteredSpace: TypeAlias = (
    PoolingResNet
    | StridedResNet
    | ResolutionResNet
    | NASBenchMacro
    | NASBench201
    | MobileNetV2Space
    | AutoDeepLabMacro
)
"""The classes of registered model spaces."""


@dataclass(frozen=True, kw_only=True)
class SpaceEntry:
    """Describe one space of the registry.

    `build` takes `num_classes`, `in_chs` and the space's own arguments, all by keyword. `source`
    says where the space is described; `status` says whether its results were published there.
    `image_size`, (H, W), `in_chs` and `num_classes` are the usual ones of its `task`. `example`
    gives values to arguments that have no default, for the sizes that a table of spaces shows.
    """

    name: str
    summary: str
    build: Callable[..., RegisteredSpace]
    source: str
    status: Literal["published", "ours"]
    image_size: tuple[int, int] = (32, 32)
    in_chs: int = 3
    num_classes: int = 10
    task: Literal["classification", "segmentation"] = "classification"
    example: Mapping[str, Any] = field(default_factory=dict)

    @property
    def parameters(self) -> tuple[inspect.Parameter, ...]:
        """Return the space's own arguments."""
        parameters = inspect.signature(self.build).parameters.values()
        return tuple(p for p in parameters if p.name not in ("num_classes", "in_chs"))


def _pooling_resnet(
    *, widths: Sequence[int], poolings: int, num_classes: int, in_chs: int
) -> PoolingResNet:
    """Give the general space a signature: NNI hides that of every model space."""
    return PoolingResNet(widths=widths, poolings=poolings, num_classes=num_classes, in_chs=in_chs)


def _resolution_resnet(
    *,
    widths: Sequence[int],
    resolutions: int = 3,
    weights: Weights = "shared",
    num_classes: int,
    in_chs: int,
) -> ResolutionResNet:
    """Give the general space of resolutions a signature."""
    return ResolutionResNet(
        widths=widths,
        resolutions=resolutions,
        weights=weights,
        num_classes=num_classes,
        in_chs=in_chs,
    )


def _nasbench_macro(
    *,
    stem: int = nasbench_macro.STEM,
    widths: Sequence[int] = nasbench_macro.WIDTHS,
    layers: Sequence[int] = nasbench_macro.LAYERS,
    head: int = nasbench_macro.HEAD,
    num_classes: int,
    in_chs: int,
) -> NASBenchMacro:
    """Give NAS-Bench-Macro a signature."""
    return NASBenchMacro(
        stem=stem,
        widths=widths,
        layers=layers,
        head=head,
        num_classes=num_classes,
        in_chs=in_chs,
    )


def _nasbench201(
    *,
    width: int = 16,
    cells: int = 5,
    operations: Sequence[str] = OPERATIONS,
    num_classes: int,
    in_chs: int,
) -> NASBench201:
    """Give NAS-Bench-201 a signature."""
    return NASBench201(
        width=width, cells=cells, operations=operations, num_classes=num_classes, in_chs=in_chs
    )


def _mobilenet(
    *,
    squeeze_excite: bool = True,
    stem: int = mobilenet.STEM,
    first: int = mobilenet.FIRST,
    widths: Sequence[int] = mobilenet.WIDTHS,
    layers: Sequence[int] = mobilenet.LAYERS,
    strides: Sequence[int] = mobilenet.STRIDES,
    head: int = mobilenet.HEAD,
    num_classes: int,
    in_chs: int,
) -> MobileNetV2Space:
    """Give the space of MobileNetV2 a signature."""
    return MobileNetV2Space(
        squeeze_excite=squeeze_excite,
        stem=stem,
        first=first,
        widths=widths,
        layers=layers,
        strides=strides,
        head=head,
        num_classes=num_classes,
        in_chs=in_chs,
    )


def _autodeeplab(
    *,
    layers: int = 12,
    filters: int = 32,
    decoder_chs: int = 256,
    low_level_chs: int = 48,
    num_classes: int,
    in_chs: int,
) -> AutoDeepLabMacro:
    """Give the trellis of Auto-DeepLab a signature."""
    return AutoDeepLabMacro(
        layers=layers,
        filters=filters,
        decoder_chs=decoder_chs,
        low_level_chs=low_level_chs,
        num_classes=num_classes,
        in_chs=in_chs,
    )


ENTRIES = (
    SpaceEntry(
        name=RESNET20,
        summary="ResNet20 with 2 poolings anywhere: 36 architectures",
        build=PoolingResNet.resnet20,
        source="chapter 2, Table 2.1",
        status="published",
    ),
    SpaceEntry(
        name="pooling-resnet18",
        summary="ResNet18 with 3 halvings anywhere: 56 architectures, 35 with ImageNet's stem",
        build=PoolingResNet.resnet18,
        source="chapter 2, section 2.2.1",
        status="published",
    ),
    SpaceEntry(
        name="pooling-resnet50",
        summary="ResNet50 with 3 halvings anywhere: 560 architectures, 455 with ImageNet's stem",
        build=PoolingResNet.resnet50,
        source="chapter 2, section 2.2.1",
        status="published",
        num_classes=100,
    ),
    SpaceEntry(
        name=MINI,
        summary="8 narrow layers with 2 poolings for tiny images: 21 architectures",
        build=PoolingResNet.mini,
        source="the laptop benchmark",
        status="ours",
        image_size=(16, 16),
        in_chs=1,
    ),
    SpaceEntry(
        name=GENERAL,
        summary="any widths, any number of poolings, up to 2,000 architectures",
        build=_pooling_resnet,
        source="chapter 2, section 2.2.1",
        status="ours",
        example={"widths": (16, 16, 32, 32, 64, 64), "poolings": 2},
    ),
    SpaceEntry(
        name=RESOLUTION20,
        summary="each of 9 blocks at one of 3 resolutions: 19,683 architectures",
        build=ResolutionResNet.resnet20,
        source="chapter 2, equations 2.4 and 2.5",
        status="published",
    ),
    SpaceEntry(
        name=RESOLUTION,
        summary="any widths, any number of resolutions a block",
        build=_resolution_resnet,
        source="chapter 2, equations 2.4 and 2.5",
        status="ours",
        example={"widths": (16, 16, 32, 64)},
    ),
    SpaceEntry(
        name=nasbench_macro.MACRO,
        summary="8 layers, each an identity or one of 2 inverted residuals: 6,561 architectures",
        build=_nasbench_macro,
        source="Su et al. 2021, NAS-Bench-Macro",
        status="published",
    ),
    SpaceEntry(
        name=NASBENCH201,
        summary="cells of 6 edges with one of 5 operations each: 15,625 architectures",
        build=_nasbench201,
        source="Dong and Yang 2020, NAS-Bench-201",
        status="published",
    ),
    SpaceEntry(
        name=mobilenet.MOBILENET,
        summary="21 layers with 13 options each: 13^21 architectures, 7^21 without SE",
        build=_mobilenet,
        source="thesis, Table II-2",
        status="published",
        image_size=(224, 224),
        num_classes=1000,
    ),
    SpaceEntry(
        name=AUTODEEPLAB,
        summary="segmentation: each of 12 layers at rate 4 to 32, 28,657 walks",
        build=_autodeeplab,
        source="chapter 4, Table 4.5",
        status="published",
        image_size=(256, 256),
        num_classes=19,
        task="segmentation",
    ),
)
"""Every registered space. A new one is one more entry, and a signature where NNI hides it."""

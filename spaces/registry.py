"""The model spaces by name, for the command line, for files and for retraining."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from torch import nn

from nas_ext.architecture import Architecture, SearchSpace
from nas_ext.spaces.pooling_resnet import GENERAL, MINI, RESNET20, PoolingResNet
from nas_ext.spaces.resolution_resnet import (
    RESOLUTION,
    RESOLUTION20,
    ResolutionResNet,
    Weights,
)

__all__ = ["SPACES", "Space", "SpaceEntry", "create", "describe"]

RegisteredSpace: TypeAlias = PoolingResNet | ResolutionResNet
"""The classes that `create` returns."""


@runtime_checkable
class Space(Protocol):
    """Say what strategies and retraining ask of a model space beside being NNI's `ModelSpace`."""

    @property
    def search_space(self) -> SearchSpace:
        """Return which architectures exist; it encodes and decodes NNI's samples."""
        ...

    @property
    def default_architecture(self) -> Architecture | None:
        """Return the architecture that people use without searching; None if there is none."""
        ...

    @property
    def arguments(self) -> Mapping[str, Any]:
        """Return, for JSON, the arguments of `create` that rebuild the space."""
        ...

    def network(
        self,
        architecture: Architecture,
        *,
        num_classes: int | None = None,
        in_chs: int | None = None,
        drop_path_rate: float = 0.0,
    ) -> nn.Module:
        """Return one architecture as a fresh, ordinary network without NNI."""
        ...

    def macs(self, architecture: Architecture, *, image_size: tuple[int, int]) -> int:
        """Count the multiply-accumulates of one image of (H, W) pixels."""
        ...


@dataclass(frozen=True, kw_only=True)
class SpaceEntry:
    """Describe one space of the registry.

    `build` takes `num_classes`, `in_chs` and the space's own arguments, all by keyword. `source`
    says where the space is described; `status` says whether its results were published there.
    """

    name: str
    summary: str
    build: Callable[..., RegisteredSpace]
    source: str
    status: Literal["published", "ours"]


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


_ENTRIES = (
    SpaceEntry(
        name=RESNET20,
        summary="ResNet20 with 2 poolings anywhere: 36 architectures",
        build=PoolingResNet.resnet20,
        source="chapter 2, Table 2.1",
        status="published",
    ),
    SpaceEntry(
        name=MINI,
        summary="8 narrow layers with 2 poolings for tiny images: 21 architectures",
        build=PoolingResNet.mini,
        source="the laptop benchmark",
        status="ours",
    ),
    SpaceEntry(
        name=GENERAL,
        summary="any widths, any number of poolings, up to 2,000 architectures",
        build=_pooling_resnet,
        source="chapter 2, section 2.2.1",
        status="ours",
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
    ),
)

SPACES: Mapping[str, SpaceEntry] = MappingProxyType({entry.name: entry for entry in _ENTRIES})
"""Every space that `create` knows, by name. A new space is one more entry above."""


def create(name: str, *, num_classes: int, in_chs: int, **arguments: Any) -> RegisteredSpace:
    """Build a model space by name; `create(**space.arguments)` builds the same one again.

    Raises ValueError for an unknown name, for an argument that the space does not have and for one
    that is missing.
    """
    if name not in SPACES:
        raise ValueError(f"name must be one of {sorted(SPACES)}, got {name!r}")
    build = SPACES[name].build
    parameters = inspect.signature(build).parameters.values()
    own = [p for p in parameters if p.name not in ("num_classes", "in_chs")]
    unknown = sorted(set(arguments) - {p.name for p in own})
    missing = sorted({p.name for p in own if p.default is p.empty} - set(arguments))
    if unknown or missing:
        raise ValueError(
            f"arguments of space {name!r} must be among {sorted(p.name for p in own)}, "
            f"got unknown {unknown} and missing {missing}"
        )
    return build(num_classes=num_classes, in_chs=in_chs, **arguments)


def describe() -> list[dict[str, Any]]:
    """Return what a table of spaces says, one line each, as JSON values.

    `size` is the exact number of architectures, None where it follows from required arguments.
    """
    lines = []
    for entry in SPACES.values():
        parameters = inspect.signature(entry.build).parameters.values()
        own = [p for p in parameters if p.name not in ("num_classes", "in_chs")]
        required = [p.name for p in own if p.default is p.empty]
        size = None if required else create(entry.name, num_classes=2, in_chs=1).search_space.size
        lines.append(
            {
                "name": entry.name,
                "summary": entry.summary,
                "size": size,
                "arguments": {p.name: None if p.name in required else p.default for p in own},
                "source": entry.source,
                "status": entry.status,
            }
        )
    return lines

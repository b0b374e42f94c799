"""What strategies and retraining ask of a model space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from torch import nn

from nas_ext.architecture import Architecture, SearchSpace

__all__ = ["Space"]


@runtime_checkable
class Space(Protocol):
    """Say what strategies and retraining ask of a model space beside being NNI's `ModelSpace`.

    A space may also have `forward_chain()`: the layers that its forward composes, each with the
    number of leading choices that determine everything up to it. What a layer does must depend on
    the choices inside it alone. Supernets then run common prefixes of architectures once. With
    `macs_table(image_size)` and `parameter_table()` costs are known as sums over the choices.
    """

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

    def parameter_count(self, architecture: Architecture) -> int:
        """Count the parameters of `network(architecture)`."""
        ...

    def check_image_size(
        self, image_size: tuple[int, int], architecture: Architecture | None = None
    ) -> None:
        """Raise ValueError when images of (H, W) are too small."""
        ...

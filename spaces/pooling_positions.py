"""What all spaces have in common whose only question is where the resolution is halved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from nas_ext.architecture import Architecture
from nas_ext.pooling import PoolingSpace
from nas_ext.spaces.blocks import (
    MutationHook,
    PathSamplingPoolSlot,
    PathSamplingSlot,
    pool_slot_hooks,
)

__all__ = ["PoolingPositions"]


class PoolingPositions:
    """Answer for the positions of the halvings, whichever layers do them.

    `widths` are the channels of the layers that `search_space` counts. To be mixed into a model
    space; its slots are of the `kinds`, and `stem_stride` is how much the stem reduces an image.
    """

    kinds: ClassVar[Sequence[type[PathSamplingSlot]]] = (PathSamplingPoolSlot,)
    stem_stride: int = 1
    widths: tuple[int, ...]
    search_space: PoolingSpace

    @property
    def default_architecture(self) -> Architecture | None:
        """Return the usual placement, a halving wherever the channels change; None if none fits.

        For ResNet20 that is [4,3,3], the network as its authors drew it.
        """
        steps = list(zip(self.widths, self.widths[1:], strict=False))
        code = "0" + "".join("1" if before != after else "0" for before, after in steps)
        fits = code.count("1") == self.search_space.poolings
        return self.search_space.from_code(code) if fits else None

    def extra_oneshot_hooks(self, strategy: object) -> list[MutationHook]:
        """Tell NNI's one-shot strategies how to make a supernet of the slots.

        Raises TypeError for those that cannot: DARTS, GumbelDARTS and Proxyless.
        """
        return pool_slot_hooks(strategy, self.kinds)

    def check_image_size(
        self, image_size: tuple[int, int], architecture: Architecture | None = None
    ) -> None:
        """Raise ValueError when (H, W) is too small for the halvings, of which all have as many.

        The architecture, where there is one, is named in the message.
        """
        poolings, name = self.search_space.poolings, self.search_space.name
        least, (height, width) = self.stem_stride * 2**poolings, image_size
        if min(height, width) < least:
            whose = f"space {name!r}"
            if architecture is not None:
                whose = f"architecture {self.search_space.describe(architecture)} of {whose}"
            raise ValueError(
                f"image_size must be at least {least}x{least} for the {poolings} poolings of "
                f"{whose}, got {height}x{width}"
            )

"""Image data sets, held in memory, and their batches."""

from __future__ import annotations

import os

from nas_ext.data.batches import Augmentation, Batches, default_augmentation, loader
from nas_ext.data.folder import image_folder
from nas_ext.data.images import ImageData, Images, digits

__all__ = [
    "Augmentation",
    "Batches",
    "ImageData",
    "Images",
    "default_augmentation",
    "digits",
    "image_folder",
    "load",
    "loader",
]


def load(
    spec: str | os.PathLike[str],
    *,
    image_size: int | tuple[int, int] | None = None,
    seed: int = 0,
) -> ImageData:
    """Load `"digits"`, or a folder of images by its path.

    Raises ValueError for anything else, and for an `image_size` with the digits.
    """
    if spec == "digits":
        if image_size is not None:
            raise ValueError(f"image_size must be None for digits (8x8), got {image_size}")
        return digits(seed=seed)
    if not os.path.isdir(spec):
        raise ValueError(f"data must be 'digits' or a folder of images, got {os.fspath(spec)!r}")
    return image_folder(spec, image_size=image_size, seed=seed)

"""Image data sets, held in memory, and their batches."""

from __future__ import annotations

import os

from nas_ext.data.batches import Augmentation, Batches, default_augmentation, loader
from nas_ext.data.fashion_mnist import fashion_mnist
from nas_ext.data.folder import image_folder
from nas_ext.data.images import ImageData, Images, digits
from nas_ext.data.sources import from_dataset

__all__ = [
    "Augmentation",
    "Batches",
    "ImageData",
    "Images",
    "default_augmentation",
    "digits",
    "fashion_mnist",
    "from_dataset",
    "image_folder",
    "load",
    "loader",
]

FASHION_MNIST = "fashion-mnist"
LIBRARIES = ("timm", "torchvision")


def load(
    spec: str | os.PathLike[str],
    *,
    image_size: int | tuple[int, int] | None = None,
    seed: int = 0,
) -> ImageData:
    """Load `"digits"`, `"fashion-mnist"` or `"fashion-mnist:FOLDER"`, or a folder of images.

    `"torchvision:CIFAR10:ROOT"`, `"timm:torch/cifar10:ROOT"` and `"timm:folder:ROOT"` read what
    those libraries know; nothing is downloaded (`nas_ext.data.libraries`).

    Raises ValueError for anything else, and for an `image_size` that the data cannot have.
    """
    if not isinstance(spec, str | os.PathLike):
        raise ValueError(f"data must be a text or a path, got {spec!r}")
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise ValueError(f"seed must be a whole number from 0, got {seed!r}")
    sides = image_size if isinstance(image_size, list | tuple) else (image_size, image_size)
    whole = len(sides) == 2 and all(type(side) is int for side in sides)
    if not whole and image_size is not None:
        raise ValueError(f"image_size must be a side, (height, width) or None, got {image_size!r}")
    if spec == "digits":
        if image_size is not None:
            raise ValueError(f"image_size must be None for digits (8x8), got {image_size}")
        return digits(seed=seed)
    name, colon, folder = os.fspath(spec).partition(":")
    if name == FASHION_MNIST:
        if isinstance(image_size, tuple):
            raise ValueError(f"image_size must be a side for {name}, got {image_size}")
        return fashion_mnist(folder if colon else None, image_size=image_size, seed=seed)
    if name in LIBRARIES and colon:
        from nas_ext.data.libraries import from_library  # here: timm takes seconds to import

        return from_library(name, folder, image_size=image_size, seed=seed)
    if "\0" in os.fspath(spec) or not os.path.isdir(spec):
        raise ValueError(
            f"data must be 'digits', {FASHION_MNIST!r}, '{FASHION_MNIST}:FOLDER', "
            "'torchvision:NAME:ROOT', 'timm:NAME:ROOT' or a folder of images, got "
            f"{os.fspath(spec)!r}"
        )
    return image_folder(spec, image_size=image_size, seed=seed)

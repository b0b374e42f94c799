"""Circles, squares and triangles on noise, with the shape of every pixel: a segmentation set."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["SHAPE_CLASSES", "shapes"]

SHAPE_CLASSES = ("background", "circle", "square", "triangle")


def shapes(
    count: int,
    *,
    image_size: tuple[int, int] = (64, 64),
    in_chs: int = 3,
    most: int = 3,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Draw float32 images `[count, in_chs, H, W]` and their int64 labels `[count, H, W]`.

    Every image is noise of mean 0 and deviation 1/4 with 1 to `most` shapes on it, the later over
    the earlier; a label is the index of a pixel's class in `SHAPE_CLASSES`. Radii are between an
    eighth and a quarter of the shorter side. Colours are drawn around one of the class: they hint
    at it, so that small networks learn in a few dozen steps, and outlines decide where they do not
    suffice. Another seed gives other images; another `count` the same ones, more or fewer.
    """
    least = 8
    if min(image_size) < least:
        raise ValueError(
            f"image_size must be at least {least}x{least}, got {image_size[0]}x{image_size[1]}"
        )
    for name, value in (("count", count), ("in_chs", in_chs), ("most", most)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    rng = np.random.default_rng(seed)
    images = np.zeros((count, in_chs, *image_size))
    labels = np.zeros((count, *image_size), dtype=np.int64)
    for image, label in zip(images, labels, strict=True):
        for _ in range(int(rng.integers(1, most + 1))):
            kind = int(rng.integers(1, len(SHAPE_CLASSES)))
            inside = _inside(kind, image_size, rng)
            image[:, inside] = _colour(kind, in_chs) + rng.normal(0.0, 0.4, (in_chs, 1))
            label[inside] = kind
        image += rng.normal(0.0, 0.25, image.shape)
    return torch.from_numpy(images.astype(np.float32)), torch.from_numpy(labels)


def _colour(kind: int, in_chs: int) -> NDArray[np.float64]:
    """Return the mean colour of a class, `[in_chs, 1]`: no channel has two classes alike."""
    shapes_apart, channels_apart, first = 2 * np.pi / 3, np.pi / 2, np.pi / 12
    channels = np.arange(in_chs)[:, None]
    angles = first + (kind - 1) * shapes_apart + channels * channels_apart
    return np.asarray(1.5 * np.cos(angles))


def _inside(kind: int, image_size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return which pixels `[H, W]` a shape of a class covers, wholly inside the image."""
    height, width = image_size
    side = min(image_size)
    radius = rng.uniform(side / 8, side / 4)
    down = np.arange(height)[:, None] + 0.5 - rng.uniform(radius, height - radius)
    right = np.arange(width)[None, :] + 0.5 - rng.uniform(radius, width - radius)
    if SHAPE_CLASSES[kind] == "circle":
        covered = down**2 + right**2 <= radius**2
    elif SHAPE_CLASSES[kind] == "square":
        covered = np.maximum(np.abs(down), np.abs(right)) <= radius
    else:  # point up, base as wide as a circle of the radius
        covered = (np.abs(down) <= radius) & (np.abs(right) <= (down + radius) / 2)
    return np.asarray(covered)

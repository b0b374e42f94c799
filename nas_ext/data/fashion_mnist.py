"""Fashion-MNIST, from the four files that its authors publish."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from nas_ext.data.images import ImageData, Images, assemble

__all__ = ["CLASSES", "fashion_mnist"]

CLASSES = (
    *("T-shirt", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)

DEBIAN = "/usr/share/datasets/fashion-mnist"
"""Where Debian's package dataset-fashion-mnist puts the files."""

TORCHVISION = "FashionMNIST/raw"
"""Where torchvision's `FashionMNIST(root, download=True)` puts them, below its root."""

SIDE, TRAIN, TEST = 28, 60_000, 10_000

LARGEST = 16 + TRAIN * SIDE**2
"""The bytes of the largest of the files, unpacked: header and training images."""


def fashion_mnist(
    path: str | os.PathLike[str] | None = None,
    *,
    image_size: int | None = None,
    train: int = 30_000,
    val: int = 4_000,
    seed: int = 0,
) -> ImageData:
    """Read Fashion-MNIST: 28x28 grey pixels, ten kinds of clothing (Xiao et al. 2017).

    `path` is a folder with the four idx files, plain or gzipped, as its authors, Debian's package
    `dataset-fashion-mnist` and torchvision's download leave them; without it Debian's place is
    looked at. `train` and `val` images are drawn from the official 60,000 with `seed`, the same
    number of each class up to one; the official 10,000 are the test set. `image_size` is 28
    (None), 14 or 7, or 32, 16 or 8: means over squares of pixels, the image framed in black to 32
    first where that divides.

    Raises ValueError for a folder without the files, a damaged file, and numbers out of range.
    """
    side = SIDE if image_size is None else image_size
    if side not in (28, 14, 7, 32, 16, 8):
        raise ValueError(f"image_size must be 28, 14, 7, 32, 16 or 8, got {image_size}")
    if train < 10 or val < 10 or train + val > TRAIN:
        raise ValueError(
            f"train and val must be at least 10 and at most {TRAIN:,} together, "
            f"got {train} and {val}"
        )
    folder = _folder(path)
    found = [
        (_read(folder, f"{name}-images-idx3-ubyte"), _read(folder, f"{name}-labels-idx1-ubyte"))
        for name in ("train", "t10k")
    ]
    for (pixels, labels), count in zip(found, (TRAIN, TEST), strict=True):
        if pixels.shape != (count, SIDE, SIDE) or labels.shape != (count,):
            raise ValueError(
                f"files of {folder} must hold {TRAIN:,} and {TEST:,} images of 28x28 pixels, "
                f"got {pixels.shape} and {labels.shape}"
            )
    (official, targets), (tested, truths) = found
    searched, judged = _draw(targets, (train, val), np.random.default_rng(seed))
    images = Images(
        torch.from_numpy(_resized(np.concatenate([official, tested]), side)),
        torch.from_numpy(np.concatenate([targets, truths]).astype(np.int64)),
    )
    test = np.arange(TRAIN, TRAIN + TEST)
    return assemble("fashion-mnist", CLASSES, images, (searched, judged, test))


def _folder(path: str | os.PathLike[str] | None) -> Path:
    """Return the folder of the files; ValueError, naming the sources, where there is none."""
    given = Path(DEBIAN if path is None else path)
    for folder in (given, given / TORCHVISION):
        if _file(folder, "train-images-idx3-ubyte") is not None:
            return folder
    raise ValueError(
        "path must be a folder with Fashion-MNIST's four idx files, as Debian's package "
        "dataset-fashion-mnist, torchvision's FashionMNIST(root, download=True) or the authors' "
        f"repository zalandoresearch/fashion-mnist give them, got {str(given)!r}"
    )


def _file(folder: Path, name: str) -> Path | None:
    return next((f for f in (folder / name, folder / f"{name}.gz") if f.is_file()), None)


def _read(folder: Path, name: str) -> NDArray[np.uint8]:
    """Read an idx file: two zeros, the kind 8 (uint8), the number of axes, their lengths, data."""
    file = _file(folder, name)
    if file is None:
        raise ValueError(f"path must hold {name} or {name}.gz, {str(folder)!r} does not")
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
            content = stream.read(LARGEST + 1)  # a gzip file may mean a thousand times its bytes
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{file} must be a whole idx file, plain or gzip: {error}") from error
    if len(content) > LARGEST:
        raise ValueError(f"{file} must hold at most {LARGEST:,} bytes, it holds more")
    axes = content[3] if len(content) > 4 and content[:3] == b"\0\0\x08" else 0
    start = 4 + 4 * axes
    shape = [int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4)]
    whole = 1 <= axes <= 3 and min(shape, default=0) > 0
    if not whole or len(content) - start != math.prod(shape):
        raise ValueError(f"{file} must be a whole idx file of bytes, its header does not fit")
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def _draw(
    labels: NDArray[np.uint8], counts: tuple[int, int], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw disjoint sets of positions, class by class in turn, each in ascending order."""
    places = [rng.permutation(np.flatnonzero(labels == label)) for label in range(len(CLASSES))]
    dealt = np.stack([p[: min(map(len, places))] for p in places], axis=1).reshape(-1)
    first, second = counts
    return np.sort(dealt[:first]), np.sort(dealt[first : first + second])


def _resized(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Return `[N, 1, side, side]`: means over squares, framed to 32 where 28 is no multiple."""
    if SIDE % side:
        pixels = np.pad(pixels, ((0, 0), (2, 2), (2, 2)))
    square = pixels.shape[1] // side
    parts = pixels.reshape(len(pixels), side, square, side, square)
    sums = parts.sum(axis=(2, 4), dtype=np.uint32)
    means: NDArray[np.uint8] = ((2 * sums + square**2) // (2 * square**2)).astype(np.uint8)
    return means[:, None]

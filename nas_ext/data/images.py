"""Image data sets in memory: three disjoint sets of uint8 pixels, their statistics and digest."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Images:
    """Hold images `[N, C, H, W]` of uint8 pixels and their labels `[N]` of int64.

    Raises ValueError when kinds or shapes are others.
    """

    pixels: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if self.pixels.dtype != torch.uint8 or self.pixels.ndim != 4:
            kind = f"{self.pixels.dtype} {list(self.pixels.shape)}"
            raise ValueError(f"pixels must be torch.uint8 [N, C, H, W], got {kind}")
        if self.labels.dtype != torch.int64 or self.labels.shape != self.pixels.shape[:1]:
            kind = f"{self.labels.dtype} {list(self.labels.shape)}"
            raise ValueError(f"labels must be torch.int64 [{len(self.pixels)}], got {kind}")

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, indices: Tensor) -> Images:
        """Copy the images with the given indices `[M]`, in that order."""
        return Images(self.pixels[indices], self.labels[indices])


@dataclass(frozen=True, eq=False)
class ImageData:
    """Hold a classification task: images to search with, to judge the search by, and to report.

    `train` and `val` are the search's training and validation sets (thesis, section 2.4: one
    official training set, cut); `test` is for the retrained network only. The three share no
    image. `mean` and `std` are per channel, over `train`, with pixels in [0, 1]; a channel that
    never changes has the standard deviation 1. `digest` is a SHA-256 over pixels, labels and
    the indices of the split.
    """

    name: str
    classes: tuple[str, ...]
    train: Images
    val: Images
    test: Images
    mean: tuple[float, ...]
    std: tuple[float, ...]
    digest: str

    @property
    def num_classes(self) -> int:
        """Return the number of classes."""
        return len(self.classes)

    @property
    def in_chs(self) -> int:
        """Return the number of channels of an image."""
        return int(self.train.pixels.shape[1])

    @property
    def image_size(self) -> tuple[int, int]:
        """Return height and width of an image, in pixels."""
        return int(self.train.pixels.shape[2]), int(self.train.pixels.shape[3])

    def train_and_val(self) -> Images:
        """Join both search sets, for the last training before the test."""
        return Images(
            torch.cat([self.train.pixels, self.val.pixels]),
            torch.cat([self.train.labels, self.val.labels]),
        )


def assemble(
    name: str, classes: Sequence[str], images: Images, split: Sequence[NDArray[np.int64]]
) -> ImageData:
    """Build a data set from all its images and the indices of train, val and test."""
    train, val, test = (images.select(torch.from_numpy(indices)) for indices in split)
    mean, std = _statistics(train.pixels)
    hasher = hashlib.sha256(repr(tuple(images.pixels.shape)).encode())
    for array in (images.pixels.numpy(), images.labels.numpy(), *split):
        # the lengths keep the ends of train, val and test apart
        hasher.update(len(array).to_bytes(8, "little"))
        hasher.update(np.ascontiguousarray(array).reshape(-1).data)
    return ImageData(
        name=name,
        classes=tuple(classes),
        train=train,
        val=val,
        test=test,
        mean=mean,
        std=std,
        digest=hasher.hexdigest(),
    )


def stratified_split(
    labels: NDArray[np.int64], share: float, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cut the positions of `labels` in two, each class on its own.

    Returns the positions that stay and those that leave, in ascending order. Of each class the
    given share leaves, rounded, but at least one image leaves and at least one stays; a class
    must have two.
    """
    stay, leave = [], []
    for label in np.unique(labels):
        positions = rng.permutation(np.flatnonzero(labels == label))
        count = min(max(round(share * len(positions)), 1), len(positions) - 1)
        leave.append(positions[:count])
        stay.append(positions[count:])
    return np.sort(np.concatenate(stay)), np.sort(np.concatenate(leave))


def digits(*, seed: int = 0) -> ImageData:
    """Load scikit-learn's 1,797 handwritten digits: one channel, 8x8 pixels, 17 grey values.

    A quarter of each class is the test set; the rest is cut 50/50 into train and val. One
    generator, started from `seed`, makes both cuts.
    """
    values, targets = load_digits(return_X_y=True)
    # 0..16 is stretched to 0..255
    pixels = np.rint(np.asarray(values) * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
    labels = np.asarray(targets, dtype=np.int64)
    rng = np.random.default_rng(seed)
    rest, test = stratified_split(labels, 0.25, rng)
    train, val = stratified_split(labels[rest], 0.5, rng)
    images = Images(torch.from_numpy(pixels), torch.from_numpy(labels))
    classes = tuple(str(digit) for digit in range(10))
    return assemble("digits", classes, images, (rest[train], rest[val], test))


def _statistics(pixels: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    # From the histogram of each channel: exact in float64, and no float copy of the pixels.
    values = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in pixels.unbind(1):
        counts = torch.bincount(channel.flatten(), minlength=256).double()
        share = counts / counts.sum()
        mean = float((share * values).sum())
        std = float((share * (values - mean).square()).sum().sqrt())
        means.append(mean)
        stds.append(std if int((counts > 0).sum()) > 1 else 1.0)
    return tuple(means), tuple(stds)

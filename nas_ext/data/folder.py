"""A folder of image files, one sub-folder a class, read into memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from nas_ext.data.decode import Format, Mode, decode, mode_for, probe
from nas_ext.data.images import ImageData, Images, assemble, stratified_split

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"})
MEMORY_LIMIT = 4 * 1024**3  # bytes
DEFAULT_SIZE = 32  # pixels, when the images do not already share a size up to LARGEST_NATIVE
LARGEST_NATIVE = 64


def image_folder(
    path: str | os.PathLike[str],
    *,
    image_size: int | tuple[int, int] | None = None,
    seed: int = 0,
    val_share: float = 0.5,
    test_share: float = 0.2,
) -> ImageData:
    """Read image files sorted into one folder a class.

    Accepts `DIR/<class>/*.png`, cut by class into train, val and test, and
    `DIR/train/<class>/*.png` with `DIR/test/...` and `DIR/val/...` where they exist: a missing
    test set is `test_share` of each class of train, a missing val set then `val_share` of what
    is left. Other folders beside `train`, and files whose name starts with a dot, are not read.
    Files may be PNG, JPEG, BMP, GIF, WebP or TIFF; of several frames the first counts.

    `image_size` is a side or (height, width) in pixels; other images are resized bilinearly,
    without regard to their proportions. Without it, images that all share one size of at most
    64x64 keep it, and all others become 32x32. Channels: grey images give one (16 bit scaled to
    8), images that all have transparency four, all others three. Grey with a fully opaque
    transparency channel counts as grey, otherwise as RGBA; palettes count as RGB or RGBA.

    Raises ValueError when there is no such folder or no image in it, for fewer than two
    classes, a class with too few images for the cuts, sets with different classes, a broken
    image, and data of more than 4 GiB.
    """
    root = Path(path)
    if not root.is_dir():
        raise ValueError(f"path must be a folder of images, got {str(root)!r}")
    for name, share in (("val_share", val_share), ("test_share", test_share)):
        if not 0 < share < 1:
            raise ValueError(f"{name} must lie between 0 and 1, got {share}")
    files = _find(root)
    formats = [probe(file) for file in files.paths]
    size = choose_size(image_size, [form.size for form in formats])
    pixels = _read(files.paths, formats, size)
    split = _split(files, np.random.default_rng(seed), val_share, test_share)
    images = Images(torch.from_numpy(pixels), torch.from_numpy(files.labels))
    return assemble(root.resolve().name, files.classes, images, split)


@dataclass(frozen=True)
class _Files:
    """Image files with their labels and the set (train, val, test or all) each lies in."""

    paths: list[Path]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    sets: tuple[str, ...]
    membership: NDArray[np.int64]


def _find(root: Path) -> _Files:
    train = root / "train"
    cut = train.is_dir() and not _images_in(train)
    if cut:
        present = (name for name in ("train", "val", "test") if (root / name).is_dir())
        found = {name: _classes_in(root / name) for name in present}
    else:
        found = {"all": _classes_in(root)}
    sets = tuple(found)
    classes = tuple(found["train" if cut else "all"])
    if not any(images for by_class in found.values() for images in by_class.values()):
        kinds = ", ".join(sorted(suffix[1:] for suffix in SUFFIXES))
        raise ValueError(f"no images in {root}: expected {root}/<class>/<image> ({kinds})")
    if len(classes) < 2:
        raise ValueError(f"{root} must hold at least two classes, got only {', '.join(classes)!r}")
    for name in sets[1:]:
        if tuple(found[name]) != classes:
            odd = ", ".join(sorted(set(found[name]) ^ set(classes)))
            raise ValueError(f"train and {name} must have the same classes, differ in {odd}")
    _check_counts(found)
    paths, labels, membership = [], [], []
    for number, by_class in enumerate(found.values()):
        for label, images in enumerate(by_class.values()):
            paths += images
            labels += [label] * len(images)
            membership += [number] * len(images)
    return _Files(paths, np.array(labels), classes, sets, np.array(membership))


def _check_counts(found: dict[str, dict[str, list[Path]]]) -> None:
    for name, by_class in found.items():
        # a set that is cut needs one image for each part
        need = 1 if name in ("val", "test") else 3 - ("val" in found) - ("test" in found)
        for label, images in by_class.items():
            if len(images) < need:
                where = "" if name == "all" else f" in {name}"
                raise ValueError(
                    f"class {label!r} must have at least {need} images{where}, got {len(images)}"
                )


def _classes_in(folder: Path) -> dict[str, list[Path]]:
    return {child.name: _images_in(child) for child in _entries(folder) if child.is_dir()}


def _images_in(folder: Path) -> list[Path]:
    images = [child for child in _entries(folder) if child.suffix.lower() in SUFFIXES]
    return [child for child in images if child.is_file() or _leads_nowhere(child)]


def _leads_nowhere(path: Path) -> bool:
    """Say whether a link is broken: an image that is missing must not make a data set smaller."""
    return path.is_symlink() and not path.exists()


def _entries(folder: Path) -> list[Path]:
    # sorted, because the order of a folder's entries differs between file systems
    return sorted(child for child in folder.iterdir() if not child.name.startswith("."))


def _split(
    files: _Files, rng: np.random.Generator, val_share: float, test_share: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    parts = {name: np.flatnonzero(files.membership == i) for i, name in enumerate(files.sets)}
    train = parts[files.sets[0]]
    if "test" not in parts:
        stay, leave = stratified_split(files.labels[train], test_share, rng)
        train, parts["test"] = train[stay], train[leave]
    if "val" not in parts:
        stay, leave = stratified_split(files.labels[train], val_share, rng)
        train, parts["val"] = train[stay], train[leave]
    return train, parts["val"], parts["test"]


def choose_size(
    wanted: int | tuple[int, int] | None, sizes: Sequence[tuple[int, int]]
) -> tuple[int, int]:
    """Return height and width of all images: those asked for, or those that they share."""
    if wanted is None:
        shared = sizes[0]
        keeps = max(shared) <= LARGEST_NATIVE and all(size == shared for size in sizes)
        return shared if keeps else (DEFAULT_SIZE, DEFAULT_SIZE)
    height, width = (wanted, wanted) if isinstance(wanted, int) else wanted
    if height < 1 or width < 1:
        raise ValueError(f"image_size must be positive, got {wanted}")
    return height, width


def room_for(count: int, mode: Mode, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return memory for the pixels of all images, `[N, C, H, W]`.

    Raises ValueError where it would be more than 4 GiB.
    """
    shape = (count, {"L": 1, "RGB": 3, "RGBA": 4}[mode], *size)
    needed = int(np.prod(shape, dtype=np.int64))
    if needed > MEMORY_LIMIT:
        raise ValueError(
            f"{count} images of {shape[1]}x{size[0]}x{size[1]} need {needed / 1024**3:.1f} "
            f"GiB, more than the limit of {MEMORY_LIMIT / 1024**3:.0f} GiB: lower image_size"
        )
    return np.empty(shape, dtype=np.uint8)


def _read(
    paths: Sequence[Path], formats: Sequence[Format], size: tuple[int, int]
) -> NDArray[np.uint8]:
    mode = mode_for(formats)
    pixels = room_for(len(paths), mode, size)
    for row, path in zip(pixels, paths, strict=True):
        row[:] = decode(path, mode, size)
    return pixels

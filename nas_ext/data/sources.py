"""Data sets of other libraries, read into memory: torchvision's, timm's, any map-style one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from nas_ext.data.decode import format_of, mode_for, pixels_of
from nas_ext.data.folder import choose_size, room_for
from nas_ext.data.images import ImageData, Images, assemble, stratified_split

_IMAGE, _LABEL = ("image", "img"), ("label", "labels", "fine_label")  # Hugging Face's columns


class MapStyle(Protocol):
    """A data set of images with labels by number: `(image, label)`, or a row with both."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


def from_dataset(
    train: MapStyle,
    test: MapStyle | None = None,
    *,
    val: MapStyle | None = None,
    name: str,
    classes: Sequence[str] | None = None,
    image_size: int | tuple[int, int] | None = None,
    seed: int = 0,
    val_share: float = 0.5,
    test_share: float = 0.2,
) -> ImageData:
    """Read data sets of (image, label) pairs, such as torchvision's, timm's and Hugging Face's.

    Images are Pillow's, or tensors `[C, H, W]` and arrays `[H, W, C]` of uint8 or of floats in
    [0, 1]: give the data sets without random transforms and without normalisation. Rows may be
    dictionaries with `image` and `label`. Without `val` and `test` they are cut out of `train`
    class by class, as `image_folder` does, which also explains `image_size`. Classes are those
    the data set names (`classes`, `class_to_idx`), else numbers. Everything is read twice: sizes
    and channels first.

    Raises ValueError for other images and labels, fewer than two classes, a class with too few
    images for the cuts, and data of more than 4 GiB.
    """
    for share_name, share in (("val_share", val_share), ("test_share", test_share)):
        if not 0 < share < 1:
            raise ValueError(f"{share_name} must lie between 0 and 1, got {share}")
    parts = {"train": train, "val": val, "test": test}
    given = {part: images for part, images in parts.items() if images is not None}
    read = {part: _labels_and_formats(images, part) for part, images in given.items()}
    formats = [form for _, forms in read.values() for form in forms]
    mode = mode_for(formats)
    size = choose_size(image_size, [form.size for form in formats])
    pixels = room_for(len(formats), mode, size)
    rows = (images[i] for images in given.values() for i in range(len(images)))
    for target, row in zip(pixels, rows, strict=True):
        target[:] = pixels_of(_image(row), mode, size)
    labels = np.array([label for found, _ in read.values() for label in found], dtype=np.int64)
    names = _classes(train, classes, labels)
    members = np.repeat(list(given), [len(images) for images in given.values()])
    split = _split(labels, members, np.random.default_rng(seed), val_share, test_share)
    images = Images(torch.from_numpy(pixels), torch.from_numpy(labels))
    return assemble(name, names, images, split)


def _labels_and_formats(images: MapStyle, part: str) -> tuple[list[int], list[Any]]:
    if len(images) == 0:
        raise ValueError(f"{part} must hold an image, got an empty data set")
    labels, formats = [], []
    for index in range(len(images)):
        row = images[index]
        labels.append(_label(row))
        formats.append(format_of(_image(row)))
    return labels, formats


def _column(row: Any, place: int, names: tuple[str, ...]) -> Any:
    if isinstance(row, Mapping):
        for name in names:
            if name in row:
                return row[name]
        raise ValueError(f"rows must have a column {' or '.join(names)}, got {sorted(row)}")
    if not isinstance(row, Sequence) or len(row) < 2:
        raise ValueError(f"rows must be pairs of an image and a label, got {type(row).__name__}")
    return row[place]


def _label(row: Any) -> int:
    label = _column(row, 1, _LABEL)
    try:
        value = int(label)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"labels must be whole numbers, got {label!r}") from error
    if value < 0 or value != label:
        raise ValueError(f"labels must be whole numbers from 0, got {label!r}")
    return value


def _image(row: Any) -> Image.Image:
    image = _column(row, 0, _IMAGE)
    if isinstance(image, Image.Image):
        return image
    if isinstance(image, Tensor):
        array = image.detach().cpu().numpy()
        array = array.transpose(1, 2, 0) if array.ndim == 3 else array
    elif isinstance(image, np.ndarray):
        array = image
    else:
        raise ValueError(f"images must be Pillow's, tensors or arrays, got {type(image).__name__}")
    if array.dtype != np.uint8:
        array = _whole(array)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim != 2 and not (array.ndim == 3 and array.shape[2] in (3, 4)):
        raise ValueError(f"images must have 1, 3 or 4 channels, got shape {image.shape}")
    return Image.fromarray(np.ascontiguousarray(array))


def _whole(array: NDArray[Any]) -> NDArray[np.uint8]:
    if not np.issubdtype(array.dtype, np.floating) or not (
        np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1
    ):
        raise ValueError(
            "pixels must be uint8 or floats from 0 to 1 (a data set without normalisation), got "
            f"{array.dtype} from {array.min()} to {array.max()}"
        )
    return np.asarray(np.rint(array * 255), dtype=np.uint8)


def _classes(
    train: MapStyle, classes: Sequence[str] | None, labels: NDArray[np.int64]
) -> tuple[str, ...]:
    count = int(labels.max()) + 1
    named = classes if classes is not None else getattr(train, "classes", None)
    by_name = getattr(train, "class_to_idx", None)
    if named is None and isinstance(by_name, Mapping):
        named = sorted(by_name, key=lambda name: int(by_name[name]))
    if named is None or isinstance(named, str):
        named = [str(label) for label in range(count)]
    if len(named) < max(2, count):
        raise ValueError(
            f"classes must be at least two and name all labels up to {count - 1}, got {len(named)}"
        )
    return tuple(str(name) for name in named)


def _split(
    labels: NDArray[np.int64],
    members: NDArray[np.str_],
    rng: np.random.Generator,
    val_share: float,
    test_share: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    train, val, test = (np.flatnonzero(members == part) for part in ("train", "val", "test"))
    need = 3 - bool(len(val)) - bool(len(test))
    found, counts = np.unique(labels[train], return_counts=True)
    for label, images in zip(found, counts, strict=True):
        if images < need:
            raise ValueError(f"class {label} must have at least {need} images, got {images}")
    if not len(test):
        stay, leave = stratified_split(labels[train], test_share, rng)
        train, test = train[stay], train[leave]
    if not len(val):
        stay, leave = stratified_split(labels[train], val_share, rng)
        train, val = train[stay], train[leave]
    return train, val, test

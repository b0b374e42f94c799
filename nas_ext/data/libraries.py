"""The data sets that torchvision and timm know by name, from files that are already there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torchvision.datasets
from PIL import Image
from timm.data.dataset_factory import create_dataset

from nas_ext.data.decode import BROKEN
from nas_ext.data.images import ImageData
from nas_ext.data.sources import MapStyle, from_dataset

Parts = Mapping[str, str | bool]

_FLAG: Parts = {"train": True, "test": False}
_TWO: Parts = {"train": "train", "test": "test"}
_THREE: Parts = {"train": "train", "val": "val", "test": "test"}
_JUDGED_BY_VAL: Parts = {"train": "train", "test": "val"}
_WHOLE: Parts = {}

TORCHVISION: Mapping[str, Parts] = {
    **dict.fromkeys(
        ("CIFAR10", "CIFAR100", "MNIST", "KMNIST", "FashionMNIST", "QMNIST", "USPS"), _FLAG
    ),
    **dict.fromkeys(("SVHN", "STL10", "Food101", "GTSRB", "StanfordCars", "RenderedSST2"), _TWO),
    **dict.fromkeys(("DTD", "Flowers102", "FGVCAircraft", "PCAM"), _THREE),
    "Country211": {"train": "train", "val": "valid", "test": "test"},
    "OxfordIIITPet": {"train": "trainval", "test": "test"},
    **dict.fromkeys(("ImageNet", "Imagenette"), _JUDGED_BY_VAL),
    **dict.fromkeys(("Caltech101", "Caltech256", "EuroSAT", "SEMEION", "SUN397"), _WHOLE),
}
"""How torchvision's data sets name their parts; those without any are cut."""

_TIMM_PARTS = {"train": "train", "val": "validation", "test": "test"}
_TIMM_TORCH = ("cifar10", "cifar100", "mnist", "kmnist", "fashion_mnist", "qmnist")


def from_library(
    library: str, spec: str, *, image_size: int | tuple[int, int] | None, seed: int
) -> ImageData:
    """Read `NAME:ROOT` from torchvision (`CIFAR10:data`) or timm (`torch/cifar10:data`).

    timm's `folder:ROOT` is a folder (or tar file) of images below their class, with `train` and
    `validation` or `test` above where it has such parts, as its `create_dataset` finds them.
    Official training sets are cut into train and val, as the thesis does. Nothing is downloaded:
    ROOT must hold what the library's own download leaves. Hugging Face's hub is reached by
    `from_dataset` alone, with data sets that were loaded before.

    Raises ValueError for unknown names and missing files.
    """
    name, _, root = spec.partition(":")
    known = tuple(TORCHVISION) if library == "torchvision" else ("folder", *_torch_names())
    if name not in known or not root:
        raise ValueError(
            f"data must be {library}:NAME:ROOT with a name of {', '.join(known)}, got "
            f"{f'{library}:{spec}'!r}"
        )
    if not Path(root).exists():
        raise ValueError(f"data must name a folder that exists, got {root!r}")
    try:
        parts = _torchvision(name, root) if library == "torchvision" else _timm(name, root)
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{root} must hold {library}'s {name}: {error}") from error
    short = Path(root).resolve().name if name == "folder" else name.rpartition("/")[2].lower()
    test, val = parts.get("test"), parts.get("val")
    return from_dataset(
        parts["train"], test, val=val, name=short, image_size=image_size, seed=seed
    )


def _torch_names() -> tuple[str, ...]:
    return tuple(f"torch/{name}" for name in _TIMM_TORCH)


def _torchvision(name: str, root: str) -> dict[str, MapStyle]:
    kind: Any = getattr(torchvision.datasets, name)
    parts = TORCHVISION[name]
    if not parts:
        return {"train": kind(root)}
    switch = "train" if isinstance(parts["train"], bool) else "split"
    return {part: kind(root, **{switch: value}) for part, value in parts.items()}


def _timm(name: str, root: str) -> dict[str, MapStyle]:
    if name != "folder":
        return {
            part: create_dataset(name, root=root, split=split, download=False)
            for part, split in (("train", "train"), ("test", "validation"))
        }
    if Path(root).is_file():
        return {"train": _Files(create_dataset("", root=root))}
    found = {
        part: _Files(create_dataset("", root=root, split=split))
        for part, split in _TIMM_PARTS.items()
        if part == "train" or _has_part(root, split)
    }
    named = found["train"].class_to_idx
    for part, files in found.items():
        if files.class_to_idx != named:
            odd = sorted(set(files.class_to_idx) ^ set(named))
            raise ValueError(f"train and {part} must have the same classes, differ in {odd}")
    return dict(found)


def _has_part(root: str, split: str) -> bool:
    """Say whether timm finds a folder of its own for a part; it would take all images else."""
    names = {"validation": ("val", "valid", "validation", "eval", "evaluation")}.get(
        split, (split,)
    )
    return any((Path(root) / name).exists() for name in names)


class _Files:
    """Give timm's files as they are: its own data set goes on to the next where one is broken."""

    def __init__(self, images: Any) -> None:
        self._reader = images.reader
        names = getattr(self._reader, "class_to_idx", None)
        if names is None:
            names = self._reader.class_name_to_idx  # its name in a tar file
        self.class_to_idx: dict[str, int] = dict(names)

    def __len__(self) -> int:
        return len(self._reader)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        file, label = self._reader[index]
        try:
            with file:
                image = Image.open(file)
                image.load()
        except BROKEN as error:
            name = self._reader.filename(index)
            raise ValueError(f"{name} is not a readable image: {error}") from error
        return image, label

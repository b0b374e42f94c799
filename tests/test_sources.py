"""Data sets of other libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from nas_ext.data import ImageData, from_dataset, image_folder, load


def idx(values: NDArray[np.uint8]) -> bytes:
    """Return an idx file: its authors' format, http://yann.lecun.com/exdb/mnist."""
    head = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, dtype=">u4").tobytes()
    return head + values.tobytes()


@pytest.fixture(scope="module")
def mnist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Leave files where torchvision's MNIST looks: every pixel is its label times ten."""
    root = tmp_path_factory.mktemp("data")
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, count in (("train", 40), ("t10k", 20)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        pixels = np.repeat(labels * 10, 28 * 28).reshape(count, 28, 28)
        (raw / f"{name}-images-idx3-ubyte").write_bytes(idx(pixels))
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(idx(labels))
    return root


def folder(root: Path, parts: tuple[str, ...]) -> Path:
    """Leave six red and six blue PNG images of 8x8 pixels in each part."""
    for part in parts:
        for label, colour in (("blue", (0, 0, 250)), ("red", (250, 0, 0))):
            place = root / part / label
            place.mkdir(parents=True)
            for number in range(6):
                Image.new("RGB", (8, 8), (colour[0], number, colour[2])).save(
                    place / f"{number}.png"
                )
    return root


@pytest.mark.parametrize("spec", ["torchvision:MNIST", "timm:torch/mnist"])
def test_a_library_s_data_set_is_read_with_its_test_set_and_a_cut_training_set(
    mnist: Path, spec: str
) -> None:
    data = load(f"{spec}:{mnist}")
    assert (data.name, data.image_size, data.in_chs) == ("mnist", (28, 28), 1)
    assert [len(part) for part in (data.train, data.val, data.test)] == [20, 20, 20]
    assert data.num_classes == 10
    for part in (data.train, data.val, data.test):
        assert torch.equal(part.pixels[:, 0, 3, 3], (10 * part.labels).to(torch.uint8))
    assert torch.bincount(data.val.labels).tolist() == [2] * 10
    assert load(f"{spec}:{mnist}").digest == data.digest
    assert load(f"{spec}:{mnist}", seed=1).digest != data.digest


def test_timms_folders_keep_the_parts_that_they_have(tmp_path: Path) -> None:
    data = load(f"timm:folder:{folder(tmp_path, ('train', 'validation', 'test'))}")
    assert data.classes == ("blue", "red")
    assert [len(part) for part in (data.train, data.val, data.test)] == [12, 12, 12]
    assert torch.equal(data.test.pixels[:, 0, 0, 0] == 250, data.test.labels == 1)


def test_a_folder_without_parts_is_cut_and_never_taken_twice(tmp_path: Path) -> None:
    folder(tmp_path, ("",))
    data = load(f"timm:folder:{tmp_path}")
    own = image_folder(tmp_path)
    assert data.digest == own.digest  # the same files in the same order, the same cuts


def test_a_broken_file_of_a_timm_folder_is_not_replaced_by_its_neighbour(tmp_path: Path) -> None:
    root = folder(tmp_path, ("train", "test"))
    (root / "train" / "red" / "3.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"red/3\.png is not a readable image"):
        load(f"timm:folder:{root}")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("torchvision:CIFAR:x", "with a name of CIFAR10, CIFAR100.*got 'torchvision:CIFAR:x'"),
        ("torchvision:CIFAR10", "must be torchvision:NAME:ROOT"),
        ("timm:hfds/cifar10:.", "must be timm:NAME:ROOT with a name of folder, torch/cifar10"),
        ("torchvision:CIFAR10:/nowhere", "must name a folder that exists, got '/nowhere'"),
        ("torchvision:CIFAR10:.", r"\. must hold torchvision's CIFAR10: .*download=True"),
        ("timm:torch/mnist:.", r"\. must hold timm's torch/mnist: .*download=True"),
        ("torchvision", "data must be 'digits'"),
    ],
)
def test_what_is_not_there_is_refused_and_not_downloaded(
    spec: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        load(spec)
    assert list(tmp_path.iterdir()) == []


def kinds() -> list[Any]:
    """The same six grey images as Pillow's, as tensors, as arrays and in rows by name."""
    values = [np.full((4, 5), 40 * i, dtype=np.uint8) for i in range(6)]
    return [
        [(Image.fromarray(v), i % 2) for i, v in enumerate(values)],
        [(torch.from_numpy(v)[None], torch.tensor(i % 2)) for i, v in enumerate(values)],
        [(torch.from_numpy(v)[None] / 255, i % 2) for i, v in enumerate(values)],
        [(v[:, :, None], np.int64(i % 2)) for i, v in enumerate(values)],
        [{"image": Image.fromarray(v), "label": i % 2} for i, v in enumerate(values)],
    ]


def test_all_kinds_of_images_give_the_same_data() -> None:
    read: list[ImageData] = [from_dataset(kind, name="x") for kind in kinds()]
    assert {data.digest for data in read} == {read[0].digest}
    assert read[0].image_size == (4, 5)
    assert read[0].classes == ("0", "1")
    assert sorted(read[0].test.labels.tolist()) == [0, 1]


def test_images_of_other_sizes_and_channels_are_made_alike() -> None:
    images = [
        (Image.new("L", (9, 9), 100), 0), (Image.new("RGB", (4, 4), (100, 100, 100)), 1),
    ] * 3  # fmt: skip
    data = from_dataset(images, images, val=images, name="x", image_size=6, classes=("a", "b"))
    assert (data.in_chs, data.image_size, data.classes) == (3, (6, 6), ("a", "b"))
    assert set(data.train.pixels.flatten().tolist()) == {100}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "train must hold an image"),
        ([(torch.full((1, 2, 2), 1.5), 0)], r"pixels must be uint8 or floats from 0 to 1.*1\.5"),
        ([(torch.zeros(2, 4, 4, dtype=torch.uint8), 0)], "images must have 1, 3 or 4 channels"),
        ([("image.png", 0)], "images must be Pillow's, tensors or arrays, got str"),
        ([(Image.new("L", (2, 2)), "cat")], "labels must be whole numbers, got 'cat'"),
        ([(Image.new("L", (2, 2)), 0.5)], "labels must be whole numbers from 0, got 0.5"),
        ([{"pixels": 1}], "rows must have a column label or labels"),
        ([Image.new("L", (2, 2))], "rows must be pairs of an image and a label, got Image"),
        ([(Image.new("L", (2, 2)), 0)] * 4, "classes must be at least two"),
        ([(Image.new("L", (2, 2)), i) for i in range(2)], "class 0 must have at least 3 images"),
    ],
)
def test_other_images_and_labels_are_refused(rows: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_dataset(rows, name="x")

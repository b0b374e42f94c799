"""Fashion-MNIST from its four files."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from nas_ext.data import fashion_mnist, load

NAMES = ("train", "t10k")


def idx(values: NDArray[np.uint8]) -> bytes:
    """Return an idx file: its authors' format, http://yann.lecun.com/exdb/mnist."""
    head = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, dtype=">u4").tobytes()
    return head + values.tobytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Leave files of the official sizes: every pixel of an image is its label times ten."""
    place = tmp_path_factory.mktemp("fashion")
    for name, count in zip(NAMES, (60_000, 10_000), strict=True):
        labels = np.arange(count, dtype=np.uint8) % 10
        pixels = np.repeat(labels * 10, 28 * 28).reshape(count, 28, 28)
        (place / f"{name}-images-idx3-ubyte").write_bytes(idx(pixels))
        (place / f"{name}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels), 1))
    return place


def test_plain_and_gzipped_files_are_read_and_cut_class_by_class(folder: Path) -> None:
    data = fashion_mnist(folder, train=1005, val=100)
    assert [len(s) for s in (data.train, data.val, data.test)] == [1005, 100, 10_000]
    assert data.image_size == (28, 28)
    assert torch.equal(data.train.pixels[:, 0, 5, 5], (data.train.labels * 10).to(torch.uint8))
    counts = torch.bincount(data.train.labels)
    assert int(counts.max() - counts.min()) <= 1
    assert torch.bincount(data.val.labels).tolist() == [10] * 10


def test_the_seed_decides_the_cut_and_the_digest(folder: Path) -> None:
    one, same, other = (fashion_mnist(folder, train=100, val=100, seed=s) for s in (0, 0, 1))
    assert one.digest == same.digest != other.digest
    assert torch.equal(one.test.pixels, other.test.pixels)


@pytest.mark.parametrize("side", [14, 7])
def test_smaller_images_are_means_over_squares(folder: Path, side: int) -> None:
    data = fashion_mnist(folder, image_size=side, train=100, val=100)
    assert data.image_size == (side, side)
    assert torch.equal(data.val.pixels[:, 0, 0, 0], (data.val.labels * 10).to(torch.uint8))


def test_sides_that_divide_32_have_a_black_frame(folder: Path) -> None:
    data = fashion_mnist(folder, image_size=8, train=100, val=100)
    image = data.val.pixels[data.val.labels == 8][0, 0]
    # squares of 4 x 4: inside all 80, at an edge half of it black, in a corner three quarters
    assert (int(image[3, 3]), int(image[0, 3]), int(image[0, 0])) == (80, 40, 20)


def test_torchvisions_folder_is_found_below_its_root(folder: Path, tmp_path: Path) -> None:
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.parent.mkdir()
    raw.symlink_to(folder)
    assert fashion_mnist(tmp_path, train=10, val=10).digest
    assert load(f"fashion-mnist:{tmp_path}", image_size=8).image_size == (8, 8)


def test_what_is_wrong_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"dataset-fashion-mnist, torchvision's .* or the"):
        fashion_mnist(tmp_path)
    with pytest.raises(ValueError, match="image_size must be 28, 14, 7, 32, 16 or 8, got 9"):
        fashion_mnist(folder, image_size=9)
    with pytest.raises(ValueError, match="train and val must be at least 10"):
        fashion_mnist(folder, train=60_000)
    for file in folder.iterdir():
        (tmp_path / file.name).symlink_to(file)
    broken = tmp_path / "t10k-labels-idx1-ubyte.gz"
    broken.unlink()
    with pytest.raises(ValueError, match="path must hold t10k-labels-idx1-ubyte"):
        fashion_mnist(tmp_path)
    broken.write_bytes(b"no gzip")
    with pytest.raises(ValueError, match="must be a whole idx file, plain or gzip"):
        fashion_mnist(tmp_path)
    broken.write_bytes(gzip.compress(idx(np.zeros(10_000, dtype=np.uint8))[:-1]))
    with pytest.raises(ValueError, match="must be a whole idx file"):
        fashion_mnist(tmp_path)
    for header in (b"\0\0\x08\x01\0", b"\0\0\x08\x01\0\0\0", b"\0\0\x08\x64" + b"\0\0\0\1" * 100):
        broken.write_bytes(gzip.compress(header + b"\0" * (len(header) > 100)))
        with pytest.raises(ValueError, match=r"t10k-labels.*must be a whole idx file of bytes"):
            fashion_mnist(tmp_path)
    broken.write_bytes(gzip.compress(idx(np.zeros(9_999, dtype=np.uint8))))
    with pytest.raises(ValueError, match="must hold 60,000 and 10,000 images"):
        fashion_mnist(tmp_path)

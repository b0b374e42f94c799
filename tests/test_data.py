"""Image data sets in memory: splits, folders of files, batches."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from nas_ext import data as data_module
from nas_ext.data import (
    Augmentation,
    ImageData,
    Images,
    default_augmentation,
    digits,
    image_folder,
    load,
    loader,
)
from nas_ext.data import folder as folder_module


def sets(data: ImageData) -> list[Images]:
    return [data.train, data.val, data.test]


def rows(images: Images) -> list[bytes]:
    return [row.numpy().tobytes() for row in images.pixels]


def counts(images: Images) -> list[int]:
    return torch.bincount(images.labels).tolist()


def picture(value: int, mode: str = "L", size: tuple[int, int] = (6, 5)) -> Image.Image:
    """A plain picture, (width, height) as Pillow has it."""
    return Image.new("RGB", size, (value, value, value)).convert(mode)


def flat_folder(
    root: Path,
    per_class: Sequence[int] = (10, 10),
    mode: str = "L",
    size: tuple[int, int] = (6, 5),
) -> Path:
    for label, count in enumerate(per_class):
        (root / f"c{label}").mkdir(parents=True)
        for number in range(count):
            value = (label * 20 + number) * 5 % 256
            picture(value, mode, size).save(root / f"c{label}" / f"{number:02}.png")
    return root


# ---------------------------------------------------------------- Images


def test_images_refuse_other_kinds_and_shapes() -> None:
    with pytest.raises(ValueError, match=r"pixels must be torch\.uint8 \[N, C, H, W\], got"):
        Images(torch.zeros(2, 1, 3, 3), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"labels must be torch\.int64 \[2\], got"):
        Images(torch.zeros(2, 1, 3, 3, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64))


# ---------------------------------------------------------------- digits


def test_the_three_sets_of_the_digits_hold_every_image_exactly_once() -> None:
    values, targets = load_digits(return_X_y=True)
    # scikit-learn's 0..16 as 0..255; all 1,797 pictures differ from one another
    expected = {
        (np.rint(row * 255 / 16).astype(np.uint8).tobytes(), int(label))
        for row, label in zip(np.asarray(values), np.asarray(targets), strict=True)
    }
    found = [
        (row, int(label))
        for part in sets(digits())
        for row, label in zip(rows(part), part.labels, strict=True)
    ]
    assert len(found) == len(expected) == 1797
    assert set(found) == expected


def test_the_digits_are_split_by_class_in_the_published_shares() -> None:
    data = digits()
    # per class: a quarter leaves for the test, half of the rest for val; rounding adds or takes 1
    for train, val, test in zip(*map(counts, sets(data)), strict=True):
        total = train + val + test
        assert abs(test - total / 4) <= 0.5
        assert abs(val - (total - test) / 2) <= 0.5
    assert data.classes == tuple("0123456789")
    assert (data.num_classes, data.in_chs, data.image_size) == (10, 1, (8, 8))


def test_the_same_seed_gives_the_same_split_and_digest_and_another_seed_another() -> None:
    first, again, other = digits(seed=3), digits(seed=3), digits(seed=4)
    assert first.digest == again.digest
    assert all(map(torch.equal, (s.pixels for s in sets(first)), (s.pixels for s in sets(again))))
    assert other.digest != first.digest
    assert set(rows(other.test)) != set(rows(first.test))


def test_the_statistics_are_those_of_the_training_set_alone() -> None:
    data = digits()
    pixels = data.train.pixels.double() / 255
    assert data.mean == pytest.approx([pixels.mean().item()], abs=1e-12)
    assert data.std == pytest.approx([pixels.std(correction=0).item()], abs=1e-12)


def test_train_and_val_are_joined_in_this_order() -> None:
    data = digits()
    joined = data.train_and_val()
    assert rows(joined) == rows(data.train) + rows(data.val)
    assert joined.labels.tolist() == data.train.labels.tolist() + data.val.labels.tolist()


# ---------------------------------------------------------------- folders


def test_a_flat_folder_is_cut_by_class_into_three_disjoint_sets(tmp_path: Path) -> None:
    data = image_folder(flat_folder(tmp_path / "d", (20, 10)), seed=1)
    # 20 %, then half of the rest: 20 -> 4, 8, 8 and 10 -> 2, 4, 4
    assert [counts(part) for part in sets(data)] == [[8, 4], [8, 4], [4, 2]]
    every = [row for part in sets(data) for row in rows(part)]
    assert len(set(every)) == len(every) == 30
    assert data.name == "d"
    assert data.classes == ("c0", "c1")
    again = image_folder(tmp_path / "d", seed=1)
    assert again.digest == data.digest
    assert image_folder(tmp_path / "d", seed=2).digest != data.digest


def test_the_shares_of_a_flat_folder_can_be_chosen(tmp_path: Path) -> None:
    data = image_folder(flat_folder(tmp_path), test_share=0.5, val_share=0.2)
    assert [counts(part) for part in sets(data)] == [[4, 4], [1, 1], [5, 5]]


def test_sets_given_as_folders_are_kept_and_missing_ones_cut_from_train(tmp_path: Path) -> None:
    flat_folder(tmp_path / "train", (10, 10))
    assert [counts(p) for p in sets(image_folder(tmp_path))] == [[4, 4], [4, 4], [2, 2]]
    flat_folder(tmp_path / "test", (1, 2))
    assert [counts(p) for p in sets(image_folder(tmp_path))] == [[5, 5], [5, 5], [1, 2]]
    flat_folder(tmp_path / "val", (3, 1))
    assert [counts(p) for p in sets(image_folder(tmp_path))] == [[10, 10], [3, 1], [1, 2]]


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    flat_folder(tmp_path, (5, 5))
    (tmp_path / "c1").rename(tmp_path / "train")
    assert image_folder(tmp_path).classes == ("c0", "train")


def test_other_and_hidden_files_are_not_read(tmp_path: Path) -> None:
    flat_folder(tmp_path, (5, 5))
    digest = image_folder(tmp_path).digest
    (tmp_path / "c0" / "notes.txt").write_text("x")
    (tmp_path / "c0" / "._00.png").write_text("x")
    (tmp_path / ".thumbnails").mkdir()
    assert image_folder(tmp_path).digest == digest


def test_images_sharing_a_small_size_keep_it_and_others_become_32_by_32(tmp_path: Path) -> None:
    assert image_folder(flat_folder(tmp_path / "a", size=(64, 5))).image_size == (5, 64)
    assert image_folder(flat_folder(tmp_path / "b", size=(65, 5))).image_size == (32, 32)
    flat_folder(tmp_path / "c", size=(10, 10))
    picture(0, size=(10, 11)).save(tmp_path / "c" / "c0" / "new.png")
    assert image_folder(tmp_path / "c").image_size == (32, 32)
    assert image_folder(tmp_path / "c", image_size=7).image_size == (7, 7)
    assert image_folder(tmp_path / "c", image_size=(7, 9)).image_size == (7, 9)


def test_a_larger_image_is_reduced_by_averaging(tmp_path: Path) -> None:
    flat_folder(tmp_path, size=(4, 4))
    stripes = np.tile(np.array([0, 200], dtype=np.uint8), (4, 2))
    for file in tmp_path.glob("c1/*"):
        Image.fromarray(stripes).save(file)
    small = image_folder(tmp_path, image_size=1)
    # columns 0 200 0 200: a filter over the whole picture gives their mean
    assert {int(v) for v in small.test.pixels[small.test.labels == 1].flatten()} == {100}


@pytest.mark.parametrize(
    ("modes", "channels"),
    [
        (("L", "L"), 1),
        (("1", "L"), 1),
        (("RGB", "RGB"), 3),
        (("RGBA", "RGBA"), 4),
        (("P", "P"), 3),
        (("LA", "L"), 1),  # picture() is opaque
        (("L", "RGB"), 3),
        (("RGBA", "RGB"), 3),
        (("L", "RGBA"), 3),
    ],
)
def test_the_channels_follow_from_all_images(
    tmp_path: Path, modes: tuple[str, str], channels: int
) -> None:
    flat_folder(tmp_path, (5, 5), modes[0])
    for file in tmp_path.glob("c1/*.png"):
        picture(255, modes[1]).save(file)
    data = image_folder(tmp_path)
    assert data.in_chs == channels
    white = torch.cat([part.pixels[part.labels == 1] for part in sets(data)])
    assert torch.equal(white, torch.full_like(white, 255))


def test_grey_with_transparency_becomes_rgba(tmp_path: Path) -> None:
    flat_folder(tmp_path, (5, 5))
    for file in tmp_path.glob("c*/*.png"):
        Image.new("LA", (6, 5), (100, 30)).save(file)
    data = image_folder(tmp_path)
    assert data.train.pixels[0, :, 0, 0].tolist() == [100, 100, 100, 30]


def test_a_palette_with_transparency_becomes_rgba(tmp_path: Path) -> None:
    flat_folder(tmp_path, (5, 5))
    for file in tmp_path.glob("c*/*.png"):
        image = Image.new("P", (6, 5), 1)
        image.putpalette([0, 0, 0, 10, 20, 30])
        image.save(file, transparency=1)
    data = image_folder(tmp_path)
    assert data.train.pixels[0, :, 0, 0].tolist() == [10, 20, 30, 0]


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey_is_scaled_and_not_cut_off(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 257, 32768, 65535]], dtype=np.uint16)
    flat_folder(tmp_path, (5, 5))
    for file in tmp_path.glob("c*/*.png"):
        file.unlink()
        Image.fromarray(values).save(file.with_suffix(f".{suffix}"))
    data = image_folder(tmp_path)
    # 65535 = 255 * 257, so 8-bit values are the nearest v / 257; 32768 / 257 = 127.5019
    assert data.in_chs == 1
    assert data.train.pixels[0, 0].tolist() == [[0, 1, 128, 255]]


def test_a_constant_channel_has_the_deviation_one(tmp_path: Path) -> None:
    data = image_folder(flat_folder(tmp_path, mode="RGBA"))
    assert data.std[3] == 1.0
    batch, _ = next(iter(loader(data.test, data, batch_size=2, train=False)))
    assert torch.equal(batch[:, 3], torch.zeros_like(batch[:, 3]))


def test_a_folder_that_is_none_or_empty_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"path must be a folder of images, got '.*none'"):
        image_folder(tmp_path / "none")
    with pytest.raises(ValueError, match=r"no images in .*: expected .*<class>"):
        image_folder(tmp_path)
    picture(0).save(tmp_path / "loose.png")
    with pytest.raises(ValueError, match="no images in"):
        image_folder(tmp_path)


def test_a_single_class_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least two classes, got only 'c0'"):
        image_folder(flat_folder(tmp_path, (5,)))


@pytest.mark.parametrize(
    ("present", "need"),
    [((), 3), (("test",), 2), (("test", "val"), 1)],
)
def test_a_class_with_too_few_images_is_named_with_its_count(
    tmp_path: Path, present: tuple[str, ...], need: int
) -> None:
    flat_folder(tmp_path / "train", (5, need - 1))
    for name in present:
        flat_folder(tmp_path / name, (1, 1))
    message = f"class 'c1' must have at least {need} images in train, got {need - 1}"
    with pytest.raises(ValueError, match=message):
        image_folder(tmp_path)
    picture(7).save(tmp_path / "train" / "c1" / "one-more.png")
    assert [min(counts(part)) for part in sets(image_folder(tmp_path))] == [1, 1, 1]


def test_a_class_without_images_is_named(tmp_path: Path) -> None:
    flat_folder(tmp_path, (5, 5, 0))
    with pytest.raises(ValueError, match="class 'c2' must have at least 3 images, got 0"):
        image_folder(tmp_path)


def test_sets_with_different_classes_are_refused(tmp_path: Path) -> None:
    flat_folder(tmp_path / "train", (5, 5))
    flat_folder(tmp_path / "test", (5, 5, 5))
    with pytest.raises(ValueError, match=r"train and test must have the same classes.*c2"):
        image_folder(tmp_path)


@pytest.mark.parametrize("keep", [0, 20, 60])
def test_a_broken_image_is_named(tmp_path: Path, keep: int) -> None:
    flat_folder(tmp_path, size=(40, 40))
    broken = tmp_path / "c1" / "03.png"
    broken.write_bytes(broken.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"03\.png is not a readable image"):
        image_folder(tmp_path)


def test_float_pixels_without_a_range_are_refused(tmp_path: Path) -> None:
    flat_folder(tmp_path)
    Image.fromarray(np.full((5, 6), 0.5, dtype=np.float32)).save(tmp_path / "c0" / "f.tif")
    with pytest.raises(ValueError, match=r"f\.tif .* mode 'F' have no known range"):
        image_folder(tmp_path)


def test_too_many_pixels_are_refused_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flat_folder(tmp_path)
    # 20 images of 1x100000x3000 = 5.6 GiB
    message = "20 images of 1x100000x3000 need 5.6 GiB, more than the limit of 4 GiB: lower"
    with pytest.raises(ValueError, match=message):
        image_folder(tmp_path, image_size=(100_000, 3_000))
    monkeypatch.setattr(folder_module, "MEMORY_LIMIT", 20 * 30)
    assert image_folder(tmp_path).image_size == (5, 6)  # exactly at the limit


@pytest.mark.parametrize(
    "argument", [{"image_size": 0}, {"image_size": (8, -1)}, {"val_share": 0}, {"test_share": 1.0}]
)
def test_sizes_and_shares_out_of_range_are_named(tmp_path: Path, argument: dict[str, Any]) -> None:
    flat_folder(tmp_path)
    with pytest.raises(ValueError, match=f"^{next(iter(argument))} must"):
        image_folder(tmp_path, **argument)


# ---------------------------------------------------------------- load


def test_load_takes_digits_or_a_folder_and_nothing_else(tmp_path: Path) -> None:
    assert load("digits", seed=2).digest == digits(seed=2).digest
    flat_folder(tmp_path)
    expected = image_folder(tmp_path, image_size=9, seed=2).digest
    assert load(str(tmp_path), image_size=9, seed=2).digest == expected
    with pytest.raises(
        ValueError, match=r"data must be 'digits', .* or a folder of images, got 'cif'"
    ):
        load("cif")
    with pytest.raises(ValueError, match="image_size must be None for digits"):
        load("digits", image_size=16)


# ---------------------------------------------------------------- batches


def test_an_evaluation_loader_gives_every_image_in_order_and_normalised() -> None:
    data = digits()
    batches = list(loader(data.val, data, batch_size=100, train=False))
    assert [len(labels) for _, labels in batches] == [100] * 6 + [len(data.val) - 600]
    pixels = torch.cat([pixels for pixels, _ in batches])
    expected = (data.val.pixels.double() / 255 - data.mean[0]) / data.std[0]
    torch.testing.assert_close(pixels, expected.float(), rtol=0, atol=1e-6)
    assert torch.equal(torch.cat([labels for _, labels in batches]), data.val.labels)


def test_a_training_loader_drops_the_last_batch_and_shuffles_every_epoch_anew() -> None:
    data = digits()
    source = loader(data.train, data, batch_size=100, train=True, augmentation=Augmentation())
    first, second = (torch.cat([labels for _, labels in source]) for _ in range(2))
    assert len(first) == len(second) == len(data.train) // 100 * 100
    assert not torch.equal(first, second)
    everything = loader(data.train, data, batch_size=100, train=True, drop_last=False)
    drawn = torch.cat([labels for _, labels in everything])
    assert torch.equal(drawn.sort().values, data.train.labels.sort().values)


def test_the_same_seed_gives_the_same_batches_whatever_the_global_generator_does() -> None:
    data = digits()

    def epoch(seed: int) -> torch.Tensor:
        source = loader(
            data.train, data, batch_size=50, train=True, seed=seed,
            augmentation=Augmentation(crop_padding=2, flip=True),
        )  # fmt: skip
        return torch.cat([pixels for pixels, _ in source])

    torch.manual_seed(0)
    first = epoch(5)
    torch.manual_seed(1)
    assert torch.equal(epoch(5), first)
    assert not torch.equal(epoch(6), first)


def test_iterating_leaves_the_global_generator_alone() -> None:
    data = digits()
    torch.manual_seed(0)
    before = torch.get_rng_state()
    for train in (True, False):
        list(loader(data.train, data, batch_size=50, train=train))
    assert torch.equal(torch.get_rng_state(), before)


def shifts(
    image: NDArray[np.uint8], padding: int, flip: bool
) -> dict[bytes, tuple[int, int, int]]:
    """Every crop of a zero-padded image, by plain numpy, keyed by its bytes."""
    padded = np.pad(image, ((0, 0), (padding, padding), (padding, padding)))
    height, width = image.shape[1:]
    return {
        np.ascontiguousarray(cut[:, :, ::-1] if mirrored else cut).tobytes(): (top, left, mirrored)
        for top in range(2 * padding + 1)
        for left in range(2 * padding + 1)
        for mirrored in range(2 if flip else 1)
        for cut in [padded[:, top : top + height, left : left + width]]
    }


def test_augmented_images_are_zero_padded_crops_and_mirror_images_drawn_evenly() -> None:
    pixels = torch.randint(
        1, 256, (1, 3, 6, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    images = Images(pixels.expand(4500, -1, -1, -1), torch.zeros(4500, dtype=torch.int64))
    plain = ImageData("x", ("a",), images, images, images, (0.0,) * 3, (1 / 255,) * 3, "")
    source = loader(
        images, plain, batch_size=900, train=True,
        augmentation=Augmentation(crop_padding=1, flip=True),
    )  # fmt: skip
    # mean 0 and deviation 1/255: batches are the pixels themselves
    drawn = torch.cat([batch for batch, _ in source]).round().to(torch.uint8).numpy()
    possible = shifts(pixels[0].numpy(), 1, True)
    tally = {key: 0 for key in possible.values()}
    for image in drawn:
        tally[possible[image.tobytes()]] += 1
    # 18 outcomes, 4,500 draws: 250 each with sigma sqrt(4500 * 1/18 * 17/18) = 15.4; 5 sigma
    assert len(tally) == 18
    assert all(abs(count - 250) < 77 for count in tally.values())


def test_the_default_augmentation_moves_by_an_eighth_and_spares_digits_the_mirror(
    tmp_path: Path,
) -> None:
    assert default_augmentation(digits()) == Augmentation(crop_padding=1, flip=False)
    flat_folder(tmp_path, size=(32, 40))
    # 32 x 32 with a padding of 4 is the thesis's setting (section 2.4)
    assert default_augmentation(image_folder(tmp_path, image_size=32)) == Augmentation(4, True)
    assert default_augmentation(image_folder(tmp_path)) == Augmentation(4, True)


def test_a_batch_larger_than_the_set_is_refused_where_it_would_be_dropped() -> None:
    data = digits()
    few = data.train.select(torch.arange(50))
    message = "batch_size must be at most the number of training images 50, got 64"
    with pytest.raises(ValueError, match=message):
        loader(few, data, batch_size=64, train=True)
    assert len(list(loader(few, data, batch_size=64, train=False))) == 1
    with pytest.raises(ValueError, match="number of images 50, got 64"):
        loader(few, data, batch_size=64, train=False, drop_last=True)
    with pytest.raises(ValueError, match="number of images 0"):
        loader(few.select(torch.arange(0)), data, batch_size=64, train=False)


def test_bad_loader_arguments_are_named() -> None:
    data = digits()
    with pytest.raises(ValueError, match="batch_size must be positive, got 0"):
        loader(data.train, data, batch_size=0, train=True)
    with pytest.raises(ValueError, match="augmentation must be None for evaluation"):
        loader(data.val, data, batch_size=8, train=False, augmentation=Augmentation())
    with pytest.raises(ValueError, match="crop_padding must not be negative, got -1"):
        Augmentation(crop_padding=-1)


def test_every_public_name_exists() -> None:
    assert [name for name in data_module.__all__ if not hasattr(data_module, name)] == []
    assert re.fullmatch("[0-9a-f]{64}", digits().digest)


@pytest.mark.parametrize("size", [[], (8,), (8, 8, 8), (8, None), (None, None), "8", True, 8.0])
def test_a_size_that_is_no_side_and_no_pair_is_named(tmp_path: Path, size: Any) -> None:
    flat_folder(tmp_path)
    with pytest.raises(ValueError, match=r"image_size must be a side, \(height, width\) or None"):
        load(str(tmp_path), image_size=size)


@pytest.mark.parametrize("size", [(7, 9), [7, 9]])
def test_a_size_may_be_a_pair(tmp_path: Path, size: Any) -> None:
    flat_folder(tmp_path)
    assert load(str(tmp_path), image_size=size).image_size == (7, 9)

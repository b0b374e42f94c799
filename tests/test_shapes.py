"""The synthetic segmentation set: its pixels, its labels, its seed."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch

from nas_ext.data.shapes import SHAPE_CLASSES, shapes


def test_images_and_labels_have_the_forms_that_segmentation_takes() -> None:
    images, labels = shapes(5, image_size=(24, 32), in_chs=2)
    assert (images.dtype, tuple(images.shape)) == (torch.float32, (5, 2, 24, 32))
    assert (labels.dtype, tuple(labels.shape)) == (torch.int64, (5, 24, 32))
    assert 0 <= int(labels.min()) <= int(labels.max()) < len(SHAPE_CLASSES)


def test_the_seed_decides() -> None:
    first, again, other = (shapes(4, seed=seed) for seed in (3, 3, 4))
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    assert not torch.equal(first[1], other[1])


def test_more_images_begin_with_the_same_ones() -> None:
    assert all(torch.equal(m[:4], f) for m, f in zip(shapes(6), shapes(4), strict=True))


def test_every_image_has_a_shape_and_background() -> None:
    _, labels = shapes(200, image_size=(32, 32))
    shares = (labels > 0).double().mean((1, 2))
    # one triangle of radius 4 is 3.1 % of 32x32, three squares of radius 8 are 75 %
    assert shares.min() > 0.02
    assert shares.max() < 0.8
    assert all((labels == kind).any() for kind in range(4))


@pytest.mark.parametrize("kind", [1, 2, 3])
def test_a_lone_shape_is_what_its_label_says(kind: int) -> None:
    _, labels = shapes(60, image_size=(128, 128), most=1)
    alone = [label == kind for label in labels if int(label.max()) == kind]
    assert len(alone) > 5
    for shape in alone:
        rows = shape.any(1).nonzero().flatten()
        widths = shape.sum(1)[rows].tolist()
        high, wide = len(rows), max(widths)
        area = int(shape.sum()) / (high * wide)
        if SHAPE_CLASSES[kind] == "square":
            assert abs(high - wide) <= 1
            assert area == 1.0
        elif SHAPE_CLASSES[kind] == "circle":
            assert abs(high - wide) <= 1
            # pi / 4 of its square, up to the pixels of the outline
            assert area == pytest.approx(torch.pi / 4, abs=0.06)
        else:
            assert area == pytest.approx(1 / 2, abs=0.06)
            assert all(above <= below for above, below in pairwise(widths))


def test_the_background_is_noise_and_the_shapes_have_the_colours_of_their_class() -> None:
    images, labels = shapes(300, image_size=(32, 32), in_chs=1)
    background = images[:, 0][labels == 0]
    assert float(background.mean()) == pytest.approx(0.0, abs=0.01)
    assert float(background.std()) == pytest.approx(0.25, abs=0.01)
    # 1.5 cos(15, 135, 255 degrees); the mean of some 200 colours of deviation 0.4 is within 0.15
    means = [float(images[:, 0][labels == kind].mean()) for kind in (1, 2, 3)]
    assert means == pytest.approx([1.449, -1.061, -0.388], abs=0.15)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "count must be at least 1, got 0"),
        ({"count": 1, "in_chs": 0}, "in_chs must be at least 1, got 0"),
        ({"count": 1, "most": 0}, "most must be at least 1, got 0"),
        ({"count": 1, "image_size": (8, 7)}, "image_size must be at least 8x8, got 8x7"),
    ],
)
def test_a_wrong_argument_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        shapes(arguments.pop("count"), **arguments)

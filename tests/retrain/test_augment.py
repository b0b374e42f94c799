"""RandAugment: which texts are taken, and what becomes of pixels."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.auto_augment import rand_augment_transform
from torch import Tensor

from nas_ext.data import ImageData, Images
from nas_ext.retrain.augment import check_auto_augment, rand_augment

# Pillow refuses to keep 0 bits of a colour. timm keeps 4 - int(0.4 m) of the magnitude m with
# inc1 and int(0.4 m) without: 0 from 10 on, and below 2.5.
SAFE = [
    "rand-m7-mstd0.5-inc1", "rand-m5-mstd0.5-inc1", "rand-m9-inc1", "rand-m9-mstd0.5-mmax9-inc1",
    "rand-m9-mstd0.5", "rand-m10", "rand-m3-n3-p0.9", "rand-m10-t3a-inc1", "rand-m9-tweights",
]  # fmt: skip
BREAKING = [
    "rand-m9-mstd0.5-inc1", "rand-m10-inc1", "rand-inc1", "rand-m10-mstd101-inc1",
    "rand-m2", "rand-m3-mstd0.5", "rand-m9-mstd101", "rand-m10-tweights", "rand-m12-mmax15-inc1",
]  # fmt: skip


@pytest.fixture(scope="module")
def colours() -> Tensor:
    """Random colour images."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (60, 3, 8, 8), generator=generator, dtype=torch.uint8)


def colour_data(data: ImageData, pixels: Tensor) -> ImageData:
    labels = data.train.labels[: len(pixels)]
    return replace(data, train=Images(pixels, labels), mean=(0.5,) * 3, std=(0.2,) * 3)


def always_all(text: str) -> str:
    """Return a text with every operation of an image made for sure, three of them."""
    kept = [part for part in text.split("-") if part[0] not in "np"]
    return "-".join([*kept, "n3", "p1.0"])


@pytest.mark.parametrize("text", SAFE)
def test_a_text_that_is_taken_never_breaks(text: str, data: ImageData, colours: Tensor) -> None:
    check_auto_augment(text)
    vary = rand_augment(always_all(text), colour_data(data, colours))
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  (timm draws from it)
    results = [vary(colours) for _ in range(10)]  # 1,800 operations: each of 15 about 120 times
    assert {(varied.dtype, varied.shape) for varied in results} == {(torch.uint8, colours.shape)}
    assert not torch.equal(results[0], colours)


@pytest.mark.parametrize("text", ["rand-m10-inc1", "rand-m2", "rand-m12-mmax15-inc1"])
def test_the_refused_texts_do_break(text: str, colours: Tensor) -> None:
    policy = rand_augment_transform(always_all(text))
    np.random.seed(0)  # noqa: NPY002  (timm draws from it)
    image = Image.fromarray(colours[0].permute(1, 2, 0).numpy())

    def vary() -> None:
        for _ in range(300):
            policy(image)

    with pytest.raises(ValueError, match="bits"):
        vary()


@pytest.mark.parametrize("text", BREAKING)
def test_a_text_that_breaks_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^auto_augment must .*got 'rand"):
        check_auto_augment(text)


@pytest.mark.parametrize(
    "text",
    ["", "rand-", "augmix-m3", "rand-m", "rand-m5.5", "rand-z3", "rand-m7-m5", "rand-m7-n0",
     "rand-m7-p2", "rand-m7-inc2", "rand-tnone", "original", 7],
)  # fmt: skip
def test_a_text_that_timm_would_misread_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"^auto_augment must"):
        check_auto_augment(text)


def test_a_noisy_magnitude_far_out_does_not_break(
    data: ImageData, colours: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    # m7 with a deviation of 0.5 reaches 10 once in a thousand million draws; here, always
    monkeypatch.setattr(random, "gauss", lambda mean, deviation: 10.0)
    vary = rand_augment(always_all("rand-m7-mstd0.5-inc1"), colour_data(data, colours))
    np.random.seed(0)  # noqa: NPY002  (timm draws from it)
    for _ in range(3):  # 540 operations, one of 15 posterizes
        vary(colours)


def test_grey_images_are_refused(data: ImageData) -> None:
    with pytest.raises(ValueError, match="auto_augment must be None for images of 1 channels"):
        rand_augment("rand-m7", data)

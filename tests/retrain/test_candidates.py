"""Baselines of timm as networks to retrain."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest
import torch

from nas_ext.data import ImageData, Images
from nas_ext.retrain import Recipe, baseline


def test_a_baseline_is_timms_model_for_these_images(data: ImageData) -> None:
    before = torch.random.get_rng_state()
    found = baseline("resnet10t", data)
    assert torch.equal(before, torch.random.get_rng_state())
    network = pickle.loads(pickle.dumps(found)).build(Recipe())
    assert network(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    assert found.parameters == sum(p.numel() for p in network.parameters())
    assert found.architecture["name"] == found.name == "resnet10t"
    assert found.timm is not None
    assert found.timm.name == "resnet10t"


def test_the_macs_of_a_baseline_are_those_of_one_image(data: ImageData) -> None:
    # One linear layer of 64 inputs in a patch of 8x8: a vision transformer without depth has the
    # patch embedding 64 x 192 and the head 192 x 10, each on one token.
    found = baseline("vit_tiny_patch16_224", data, img_size=8, patch_size=8, depth=0)
    assert found.macs == 64 * 192 + 192 * 10
    assert found.name == "vit_tiny_patch16_224 depth=0 img_size=8 patch_size=8"
    assert found.folder == "vit-tiny-patch16-224-depth-0-img-size-8-patch-size-8"


def test_stochastic_depth_reaches_the_models_that_have_it(data: ImageData) -> None:
    pixels = torch.zeros(2, 1, 32, 32, dtype=torch.uint8)
    large = replace(data, train=Images(pixels, torch.zeros(2, dtype=torch.int64)))

    def rates(name: str) -> list[float]:
        network = baseline(name, large).build(Recipe(drop_path=0.2))
        return [
            float(str(m.drop_prob)) for m in network.modules() if type(m).__name__ == "DropPath"
        ]

    assert max(rates("resnet10t")) == pytest.approx(0.2)
    assert rates("vgg11") == []  # which has none, and is built all the same


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnt18", r"must be a model of timm.*is it one of resnet18"),
        ("resnet18.a1_in1k", "without a tag"),
        ("vit_tiny_patch16_224", "must take images of 1x8x8.*img_size"),
    ],
)
def test_what_timm_does_not_know_or_cannot_do_is_refused(
    data: ImageData, name: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        baseline(name, data)


def test_an_argument_that_the_model_does_not_have_is_refused(data: ImageData) -> None:
    with pytest.raises(ValueError, match=r"resnet10t cannot be built.*colour"):
        baseline("resnet10t", data, colour=3)

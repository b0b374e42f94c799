"""The registry: spaces by name and back."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from torch import nn

from nas_ext.spaces import SPACES, PoolingResNet, Space, create

OWN: dict[str, dict[str, Any]] = {
    "pooling-resnet20": {"width": 2},
    "mini-pooling": {},
    "pooling-resnet": {"widths": [3, 3, 5, 5], "poolings": 1},
    "pooling-resnet18": {"width": 4, "stem": "imagenet"},
    "pooling-resnet50": {"width": 2},
    "resolution-resnet20": {"weights": "equal"},
    "resolution-resnet": {"widths": [3, 3, 5], "resolutions": 2},
    "nasbench-macro": {"layers": [1, 1, 1], "widths": [8, 16, 24], "head": 16},
    "nasbench201": {"width": 2, "cells": 1, "operations": ["skip_connect", "nor_conv_1x1"]},
    "mobilenetv2": {"widths": [8, 16], "layers": [1, 1], "strides": [2, 2], "head": 8},
    "autodeeplab-macro": {"layers": 3, "filters": 2, "decoder_chs": 4, "low_level_chs": 2},
}


def test_every_entry_is_listed_under_its_name() -> None:
    assert set(SPACES) == set(OWN)
    for name, entry in SPACES.items():
        assert entry.name == name
        assert entry.summary


@pytest.mark.parametrize("name", sorted(OWN))
def test_a_space_is_built_again_from_its_arguments_as_json(name: str) -> None:
    space = create(name, num_classes=7, in_chs=2, **OWN[name])
    again = create(**json.loads(json.dumps(space.arguments)))
    assert again.arguments == space.arguments
    assert again.arguments["name"] == again.search_space.name == name
    assert (again.num_classes, again.in_chs) == (7, 2)
    shapes = {key: value.shape for key, value in space.state_dict().items()}
    assert {key: value.shape for key, value in again.state_dict().items()} == shapes
    assert list(again.search_space) == list(space.search_space)


@pytest.mark.parametrize("name", sorted(OWN))
def test_every_space_offers_what_strategies_and_retraining_ask_for(name: str) -> None:
    space = create(name, num_classes=3, in_chs=1, **OWN[name])
    assert isinstance(space, Space)
    architecture = space.search_space.at(0)
    assert isinstance(space.network(architecture), nn.Module)
    assert space.macs(architecture, image_size=(32, 32)) > 0
    parameters = space.network(architecture).parameters()
    assert space.parameter_count(architecture) == sum(p.numel() for p in parameters)
    space.check_image_size((32, 32), architecture)
    assert not isinstance(nn.Linear(1, 1), Space)


def test_the_default_width_of_resnet20_is_the_published_one() -> None:
    space = create("pooling-resnet20", num_classes=10, in_chs=3)
    assert space.widths == (16,) * 4 + (32,) * 3 + (64,) * 3


def test_a_general_space_with_a_presets_layers_is_the_preset() -> None:
    widths = [1] * 4 + [2] * 3 + [4] * 3
    space = PoolingResNet(widths=widths, poolings=2)
    assert space.arguments == PoolingResNet.resnet20(width=1).arguments
    assert PoolingResNet(widths=widths, poolings=3).search_space.name == "pooling-resnet"


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    known = re.escape(f"name must be one of {sorted(OWN)}, got 'resnet'")
    with pytest.raises(ValueError, match=known):
        create("resnet", num_classes=10, in_chs=3)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("pooling-resnet20", {"widht": 8}, r"among \['width'\], got unknown \['widht'\]"),
        ("mini-pooling", {"width": 8}, r"among \[\], got unknown \['width'\]"),
        ("pooling-resnet", {"poolings": 1}, r"missing \['widths'\]"),
    ],
)
def test_unknown_and_missing_arguments_are_refused_by_name(
    name: str, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        create(name, num_classes=10, in_chs=3, **arguments)

"""The networks of every registered space as timm's models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.models import group_parameters, save_for_hf
from torch import Tensor, nn

from nas_ext.spaces import PoolingResNet, ResolutionResNet
from nas_ext.spaces.registry import SPACES, SpaceEntry
from nas_ext.spaces.timm_models import register_space, skeleton, timm_name
from nas_ext.spaces.timm_network import TimmNetwork

CLASSIFIERS = [entry for entry in SPACES.values() if entry.task == "classification"]
every_space = pytest.mark.parametrize("entry", CLASSIFIERS, ids=[e.name for e in CLASSIFIERS])

SEVEN_ONE_TWO = [1, 1, 1, 1, 1, 1, 0, 0, 1]  # 0 is "pool": in front of the layers 8 and 9


def pooling(**arguments: Any) -> TimmNetwork:
    network = timm.create_model("nas_pooling_resnet20", arch=[7, 1, 2], width=4, **arguments)
    assert isinstance(network, TimmNetwork)
    return network


def images(in_chs: int = 3, size: int = 16) -> Tensor:
    return torch.randn(2, in_chs, size, size, generator=torch.Generator().manual_seed(0))


# Entry points.


def test_every_classification_space_has_one_entry_point() -> None:
    assert set(timm.list_models("nas_*")) == {timm_name(entry.name) for entry in CLASSIFIERS}
    assert timm_name("pooling-resnet20") == "nas_pooling_resnet20"
    with pytest.raises(ValueError, match="name must be new to timm, got 'nas_mini_pooling'"):
        register_space("mini-pooling")


@every_space
def test_every_space_builds_resets_and_gives_features(entry: SpaceEntry) -> None:
    space = skeleton(entry.name, num_classes=3, in_chs=2, **entry.example)
    architecture = space.search_space.at(space.search_space.size // 2)
    size = [min(side, 64) for side in entry.image_size]
    common = {"arch": list(architecture), "in_chans": 2, **entry.example}
    name = timm_name(entry.name)
    network: Any = timm.create_model(name, num_classes=3, **common).eval()
    x = torch.randn(2, 2, *size)
    with torch.no_grad():
        features = network.forward_features(x)
        logits = network(x)
        assert logits.shape == (2, 3)
        assert torch.equal(network.forward_head(features), logits)
        assert features.shape[1] == network.num_features
        assert network.forward_head(features, pre_logits=True).shape == (
            2,
            network.head_hidden_size,
        )
        extractor: Any = timm.create_model(name, features_only=True, **common).eval()
        maps = extractor(x)
        info = extractor.feature_info
        assert [m.shape[1] for m in maps] == info.channels()
        assert [round(size[0] / m.shape[2]) for m in maps] == info.reduction()
        network.reset_classifier(5)
        assert network(x).shape == (2, 5)
        network.reset_classifier(0, "")
        assert torch.equal(network(x), features)
    assert network.num_classes == 0
    written = space.search_space.describe(architecture)
    assert space.search_space.parse(written) == architecture


def test_the_entry_point_builds_the_spaces_own_network() -> None:
    space = PoolingResNet.resnet20(width=4, num_classes=7, in_chs=2)
    torch.manual_seed(1)
    expected = space.network(space.search_space.from_stages([7, 1, 2])).state_dict()
    torch.manual_seed(1)
    found = pooling(num_classes=7, in_chans=2).state_dict()  # draws nothing else
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    "arch", [(7, 1, 2), "[7,1,2]", "0000000110", SEVEN_ONE_TWO, {"pooling": "0000000110"}]
)
def test_an_architecture_may_be_written_in_every_usual_way(arch: Any) -> None:
    torch.manual_seed(0)
    found = timm.create_model("nas_pooling_resnet20", arch=arch, width=4)
    torch.manual_seed(0)
    assert torch.equal(found.eval()(images()), pooling().eval()(images()))


def test_without_an_architecture_it_is_the_usual_one_if_there_is_one() -> None:
    network: Any = timm.create_model("nas_pooling_resnet20", width=4)
    assert [type(pool) for pool in network.pools].index(nn.MaxPool2d) == 3  # [4,3,3]
    with pytest.raises(ValueError, match="arch must be given: no architecture of space 'resol"):
        timm.create_model("nas_resolution_resnet20", width=4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"arch": [7, 1, 3]},
            r"stages must be 3 positive numbers that sum to 10, got \[7, 1, 3\]",
        ),
        ({"arch": "x"}, "code must be a 0 and 9 digits"),
        ({"widht": 3}, r"unknown \['widht'\]"),
        ({"num_classes": -1}, "num_classes must not be negative, got -1"),
        ({"drop_path_rate": 1.0}, "drop_path_rate must lie in"),
    ],
)
def test_a_wrong_argument_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        timm.create_model("nas_pooling_resnet20", **arguments)


def test_stochastic_depth_and_dropout_are_arguments() -> None:
    network: Any = pooling(drop_path_rate=0.2, drop_rate=0.3)
    assert network.blocks[-1].drop_path.drop_prob == pytest.approx(0.2)
    assert network.head.drop.p == 0.3
    with pytest.raises(ValueError, match="drop_rate must be 0 for space 'resolution-resnet20'"):
        timm.create_model("nas_resolution_resnet20", arch=[0] * 9, width=4, drop_rate=0.1)


# What timm asks of a network.


def test_features_are_the_last_maps_at_each_resolution() -> None:
    network = pooling()
    # [7,1,2]: layers 7, 8 and 10 end a resolution, the stem being layer 1.
    assert network.feature_info == [
        {"num_chs": 8, "reduction": 1, "module": "blocks.5"},
        {"num_chs": 16, "reduction": 2, "module": "blocks.6"},
        {"num_chs": 16, "reduction": 4, "module": "blocks.8"},
    ]


def test_intermediate_maps_are_those_of_the_forward() -> None:
    network: Any = pooling().eval()
    x = images()
    last, found = network.forward_intermediates(x)
    assert torch.equal(last, network.forward_features(x))
    assert torch.equal(last, found[-1])
    (only,) = network.forward_intermediates(x, indices=[1], intermediates_only=True)
    assert torch.equal(only, found[1])
    early, _ = network.forward_intermediates(x, indices=[0], stop_early=True)
    assert torch.equal(early, found[0])
    with pytest.raises(ValueError, match="output_fmt must be 'NCHW', got 'NLC'"):
        network.forward_intermediates(x, output_fmt="NLC")


def test_pruning_drops_the_blocks_behind_the_last_feature() -> None:
    network: Any = pooling().eval()
    x = images()
    expected = network.forward_intermediates(x, indices=[0, 1], intermediates_only=True)
    assert network.prune_intermediate_layers([0, 1]) == [0, 1]
    assert len(network.blocks) == 7
    found = network.forward_intermediates(x, indices=[0, 1], intermediates_only=True)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert network.num_features == 16
    assert torch.equal(network(x), expected[1])


def test_the_graph_extractor_finds_the_same_maps() -> None:
    torch.manual_seed(0)
    getter = timm.create_model("nas_pooling_resnet20", arch=[7, 1, 2], width=4, features_only=True)
    torch.manual_seed(0)
    graph = timm.create_model(
        "nas_pooling_resnet20",
        arch=[7, 1, 2],
        width=4,
        features_only=True,
        feature_cls="fx",
        out_indices=(0, 1, 2),
    )
    pairs = zip(getter.eval()(images()), graph.eval()(images()), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_checkpointing_keeps_the_gradients() -> None:
    torch.manual_seed(0)
    network = pooling()
    gradients = []
    for enable in (False, True):
        network.set_grad_checkpointing(enable)
        network.zero_grad()
        network(images()).logsumexp(1).sum().backward()
        gradients.append([p.grad.clone() for p in network.parameters() if p.grad is not None])
    pairs = zip(*gradients, strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_layer_groups_are_stem_each_block_and_head() -> None:
    network = pooling()
    groups = group_parameters(network, network.group_matcher(), reverse=True)
    assert groups["stem.conv.weight"] == 0
    assert groups["blocks.0.conv1.weight"] == 1
    assert groups["blocks.8.conv2.weight"] == 9
    assert groups["head.fc.weight"] == 10
    assert network.no_weight_decay() == set()


def test_the_classifier_of_a_resolution_network_is_its_last_block() -> None:
    space = ResolutionResNet.resnet20(width=4)
    network = space.network((0, 1, 2, 0, 1, 2, 0, 1, 2)).eval()
    assert network.get_classifier() is network.blocks[-1]
    assert network.get_classifier(name_only=True) == "blocks.8"
    features = network.forward_features(images())
    assert features.shape == (2, 16, 16, 16)
    network.reset_classifier(4)
    assert network(images()).shape == (2, 4)
    assert network.blocks[-1].resolution == 2
    with pytest.raises(ValueError, match="global_pool must be 'avg' or '', got 'max'"):
        network.reset_classifier(4, "max")


# timm's own folder.


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("nas_pooling_resnet20", {"arch": [7, 1, 2], "width": 4}),
        ("nas_pooling_resnet", {"arch": [2, 1, 1], "widths": [4, 4, 8, 8], "poolings": 2}),
        ("nas_resolution_resnet20", {"arch": [0, 1, 2, 0, 1, 2, 0, 1, 2], "width": 4}),
    ],
)
def test_timms_folder_gives_the_network_back(
    name: str, arguments: dict[str, Any], tmp_path: Path
) -> None:
    network: Any = timm.create_model(name, num_classes=5, in_chans=2, **arguments).eval()
    save_for_hf(network, str(tmp_path), safe_serialization=True, model_args=arguments)
    assert {file.name for file in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architecture"] == name
    assert config["model_args"]["arch"] == arguments["arch"]

    def load(**changed: Any) -> Any:
        return timm.create_model(f"local-dir:{tmp_path}", pretrained=True, **changed).eval()

    x = images(2)
    assert torch.equal(load()(x), network(x))
    other = load(num_classes=3)  # a new head on the old body
    assert other(x).shape == (2, 3)
    assert torch.equal(other.forward_features(x), network.forward_features(x))
    assert load(num_classes=0)(x).shape == (2, network.head_hidden_size)
    # One channel: timm sums the kernels of both, so equal channels give the same features.
    grey = torch.cat([x[:, :1], x[:, :1]], 1)
    torch.testing.assert_close(
        load(in_chans=1).forward_features(x[:, :1]), network.forward_features(grey)
    )
    maps = load(features_only=True)(x)
    assert torch.equal(maps[-1], network.forward_features(x))

"""Chains of inverted residual blocks: encodings, codes and costs."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pytest

from nas_ext.architecture import Architecture
from nas_ext.chain import ChainPlan, ChainSpace, MobileBlock, Stage
from nas_ext.chain_costs import macs_table, parameter_table
from nas_ext.mobilenet import mobilenet_plan
from nas_ext.nasbench_macro import NASBenchMacroSpace, nasbench_macro_plan

MOBILENET = ChainSpace("mobilenetv2", mobilenet_plan())
PLAIN = ChainSpace("mobilenetv2", mobilenet_plan(squeeze_excite=False))

# Two stages of one width: the second stage's first layer keeps the shape.
FLAT = ChainSpace(
    "flat",
    ChainPlan(
        stem=8,
        stages=(Stage(16, 2, 2), Stage(16, 2, 1), Stage(24, 2, 1)),
        head=8,
        options=(MobileBlock(3, 3), None, MobileBlock(6, 5)),
    ),
)


def same(option: str) -> Architecture:
    """The architecture of the MobileNetV2 space with one option everywhere."""
    return (MOBILENET.plan.names.index(option),) * 21


# Which architectures there are.


def test_the_mobilenet_space_has_the_published_sizes() -> None:
    # Golden number 1; without squeeze-and-excitation, 3 kernels x 2 expansions + identity.
    assert MOBILENET.size == 13**21 == 247064529073450392704413
    assert PLAIN.size == 7**21
    assert MOBILENET.plan.names == (
        "identity",
        *(f"mb{e}_k{k}" for e in (3, 6) for k in (3, 5, 7)),
        *(f"mb{e}_k{k}_se" for e in (3, 6) for k in (3, 5, 7)),
    )
    assert PLAIN.plan.names == MOBILENET.plan.names[:7]


def test_the_layers_of_mobilenet_are_the_published_ones() -> None:
    # Section 6.5: (layers, channels, first stride) behind 16 channels.
    stages = [(4, 32, 2), (4, 40, 2), (4, 80, 2), (4, 96, 1), (4, 192, 2), (1, 320, 1)]
    expected, before = [], 16
    for count, width, stride in stages:
        expected += [(before, width, stride), *[(width, width, 1)] * (count - 1)]
        before = width
    layers = MOBILENET.plan.layers
    assert [(layer.in_chs, layer.out_chs, layer.stride) for layer in layers] == expected
    assert len(layers) == 21


@pytest.mark.parametrize("space", [FLAT, NASBenchMacroSpace()])
def test_a_canonical_encoding_stands_for_all_that_leave_the_same_layers(space: ChainSpace) -> None:
    # What a network computes is the sequence of its layers without those that pass through.
    networks: dict[Any, list[Architecture]] = defaultdict(list)
    for architecture in space:
        layers = [
            (layer, space.plan.options[option])
            for layer, option in zip(space.plan.layers, architecture, strict=True)
        ]
        left = tuple((la, o) for la, o in layers if o is not None or not la.keeps_shape)
        networks[left].append(architecture)
    for encodings in networks.values():
        assert {space.canonical(a) for a in encodings} == {space.canonical(encodings[0])}
        assert space.canonical(encodings[0]) in encodings
    assert len({space.canonical(a) for a in space}) == len(networks)


def test_a_space_without_identities_has_one_encoding_for_each_network() -> None:
    plan = ChainPlan(stem=8, stages=(Stage(8, 3, 1),), head=8, options=(MobileBlock(3, 3),) * 1)
    assert ChainSpace("blocks", plan).canonical((0, 0, 0)) == (0, 0, 0)


def test_codes_have_a_digit_a_layer_and_the_order_of_the_space() -> None:
    rng = np.random.default_rng(0)
    drawn = [MOBILENET.draw(rng) for _ in range(200)]
    codes = [MOBILENET.code(a) for a in drawn]
    assert [MOBILENET.from_code(code) for code in codes] == drawn
    assert [codes[i] for i in np.argsort(codes)] == [MOBILENET.code(a) for a in sorted(drawn)]
    # Option 12 is the thirteenth digit, c.
    assert MOBILENET.code(same("mb6_k7_se")) == MOBILENET.describe(same("mb6_k7_se")) == "c" * 21
    for wrong in ("c" * 20, "d" * 21, "C" * 21):
        with pytest.raises(ValueError, match="code must be 21 digits out of 0123456789abc, got"):
            MOBILENET.from_code(wrong)


# What they cost.


def test_a_small_chain_costs_what_a_hand_counts() -> None:
    plan = ChainPlan(
        stem=8, stages=(Stage(16, 2, 2),), head=5, options=(None, MobileBlock(3, 5, True))
    )
    # 7 x 5 pixels, two channels, three classes. The stem keeps the size; the stage makes it 4 x 3.
    stem, head, linear = 9 * 2 * 8, 16 * 5, 5 * 3
    # First layer: a 1x1 convolution, or 8 -> 24 at 35 pixels, then at 12: depthwise, 24 -> 16,
    # and 24 -> 6 -> 24 once. Second: nothing, or 16 -> 48 -> 16 and 48 -> 12 -> 48.
    macs = macs_table(plan, in_chs=2, num_classes=3, image_size=(7, 5))
    assert macs.fixed == 35 * stem + 12 * head + linear
    assert macs.options == (
        (12 * 8 * 16, 35 * 8 * 24 + 12 * (25 * 24 + 24 * 16) + 2 * 24 * 6),
        (0, 12 * (16 * 48 + 25 * 48 + 48 * 16) + 2 * 48 * 12),
    )
    # Two more a channel for norms; a bias a channel in squeeze-and-excitation and linear layer.
    parameters = parameter_table(plan, in_chs=2, num_classes=3)
    assert parameters.fixed == stem + 2 * 8 + head + 2 * 5 + linear + 3
    assert parameters.options == (
        (
            8 * 16 + 2 * 16,
            (8 * 24 + 48) + (25 * 24 + 48) + (24 * 16 + 32) + 2 * 24 * 6 + 6 + 24,
        ),
        (0, (16 * 48 + 96) + (25 * 48 + 96) + (48 * 16 + 32) + 2 * 48 * 12 + 12 + 48),
    )


@pytest.mark.parametrize(
    ("option", "millions", "parameters"),
    # Golden number 14: macs for 224 x 224 pixels and 1000 classes, to three decimals.
    [
        ("identity", 50.879, 1_789_048),
        ("mb3_k3", 291.084, 3_203_992),
        ("mb6_k3", 539.944, 4_708_840),
        ("mb6_k7", 693.483, 5_135_080),
        ("mb6_k7_se", 697.455, 9_120_496),
    ],
)
def test_the_costs_of_mobilenet_are_the_published_ones(
    option: str, millions: float, parameters: int
) -> None:
    macs = macs_table(MOBILENET.plan, in_chs=3, num_classes=1000, image_size=(224, 224))
    assert macs(same(option)) / 1e6 == pytest.approx(millions, abs=5.1e-4)
    count = parameter_table(MOBILENET.plan, in_chs=3, num_classes=1000)
    assert count(same(option)) == parameters


def test_the_fixed_layers_and_the_moments_of_mobilenet_are_the_published_ones() -> None:
    macs = macs_table(MOBILENET.plan, in_chs=3, num_classes=1000, image_size=(224, 224))
    assert macs.fixed / 1e6 == pytest.approx(42.2236, abs=5.1e-5)  # golden number 14
    # Section 4.5: uniform draws have mean 438M and deviation 45M; layers are independent.
    rows = np.asarray(macs.options) / 1e6
    assert macs.fixed / 1e6 + rows.mean(axis=1).sum() == pytest.approx(438, abs=0.5)
    assert np.sqrt(rows.var(axis=1).sum()) == pytest.approx(45, abs=0.5)


def test_encodings_of_one_network_cost_the_same() -> None:
    tables = (
        macs_table(FLAT.plan, in_chs=1, num_classes=2, image_size=(9, 9)),
        parameter_table(FLAT.plan, in_chs=1, num_classes=2),
    )
    for architecture in FLAT:
        for table in tables:
            assert table(architecture) == table(FLAT.canonical(architecture))


def test_a_narrower_nasbench_macro_has_the_encodings_of_the_published_one() -> None:
    space = NASBenchMacroSpace(nasbench_macro_plan(stem=8, widths=(16, 32, 64), head=128))
    assert list(space) == list(NASBenchMacroSpace())
    architecture = space.from_code("20210012")
    assert space.canonical(architecture) == NASBenchMacroSpace().canonical(architecture)
    assert space.params(architecture) < NASBenchMacroSpace().params(architecture) / 10


# Errors.


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MobileBlock(0, 3), "expansion must be a positive integer, got 0"),
        (lambda: MobileBlock(3, 4), "kernel must be odd, got 4"),
        (lambda: Stage(8, 0, 1), "layers must be a positive integer, got 0"),
        (lambda: nasbench_macro_plan(stem=12), "stem must be multiples of 8, got 12"),
        (lambda: nasbench_macro_plan(widths=(8, 20, 8)), "widths must be multiples of 8, got 20"),
        (lambda: nasbench_macro_plan(widths=(), layers=()), "stages must be at least one"),
        (lambda: nasbench_macro_plan(widths=(8, 8)), "layers must be 2 numbers, one a width"),
        (lambda: nasbench_macro_plan(head=0), "head must be a positive integer, got 0"),
        (lambda: mobilenet_plan(first=4), "first must be multiples of 8, got 4"),
        (lambda: mobilenet_plan(strides=(2, 2)), "strides must be 6 numbers, one a width"),
        (lambda: mobilenet_plan(stem=0), "stem must be a positive integer, got 0"),
        (
            lambda: ChainPlan(stem=8, stages=(Stage(8, 1, 1),), head=8, options=()),
            "options must be at least one",
        ),
        (
            lambda: macs_table(MOBILENET.plan, in_chs=3, num_classes=2, image_size=(0, 8)),
            "height must be a positive integer, got 0",
        ),
        (
            lambda: ChainSpace(
                "many",
                ChainPlan(
                    stem=8,
                    stages=(Stage(8, 1, 1),),
                    head=8,
                    options=tuple(MobileBlock(e, 3) for e in range(1, 38)),
                ),
            ),
            "options must be at most 36, a digit each, got 37",
        ),
    ],
)
def test_wrong_plans_are_named(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        make()

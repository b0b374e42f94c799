"""What is said of a space before training, against listing it and against built networks."""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch

from nas_ext import space_check
from nas_ext.space_check import check_space
from nas_ext.spaces import SPACES, SpaceEntry, create, registry
from nas_ext.spaces.mobilenet import MobileNetV2Space
from nas_ext.strategies import STRATEGIES

STRUCTURE: dict[str, Any] = {"stem": 8, "first": 8, "widths": (8, 16), "head": 16}


def _chain(
    *,
    layers: tuple[int, ...] = (1, 1),
    squeeze_excite: bool = True,
    num_classes: int,
    in_chs: int,
) -> Any:
    """Build a MobileNetV2 space of two stages: 13^n or 7^n architectures for n layers."""
    return MobileNetV2Space(
        **STRUCTURE,
        layers=layers,
        strides=(2, 1),
        squeeze_excite=squeeze_excite,
        num_classes=num_classes,
        in_chs=in_chs,
    )


@pytest.fixture
def chain(monkeypatch: pytest.MonkeyPatch) -> str:
    """Register a space whose costs are sums, and return its name."""
    entry = SpaceEntry(
        name="chain",
        summary="two stages",
        build=_chain,
        source="tests",
        status="ours",
        image_size=(16, 16),
        num_classes=3,
    )
    known = MappingProxyType({**SPACES, "chain": entry})
    monkeypatch.setattr(registry, "SPACES", known)
    monkeypatch.setattr(space_check, "SPACES", known)
    return "chain"


def test_a_small_space_is_listed_whole() -> None:
    found = check_space("pooling-resnet20", macs=(30_000_000, 60_000_000))
    model = create("pooling-resnet20", num_classes=10, in_chs=3)
    macs = [model.macs(a, image_size=(32, 32)) for a in model.search_space]
    assert (found.size, found.distinct, found.choices) == (36, 36, (2,) * 9)
    assert found.macs is not None
    # specs: golden 11, the extremes [1,1,8] and [8,1,1].
    assert (found.macs.least, found.macs.largest) == (18_596_480, 149_340_800)
    assert found.macs.median == np.median(macs)
    assert (found.macs.sampled, found.macs.exact_bounds) == (None, True)
    assert found.inside is not None
    assert found.inside.architectures == sum(30_000_000 <= m <= 60_000_000 for m in macs)
    assert found.inside.share == sum(30_000_000 <= m <= 60_000_000 for m in macs) / 36
    # specs: golden 11, the supernet without affine norms.
    assert found.memory.parameters == 270_906
    assert found.memory.weights == 4 * 270_906
    assert found.memory.training == 3 * found.memory.weights
    assert found.memory.distances == 8 * 36 * 35 // 2
    assert found.parameters is not None
    assert found.parameters.median == 272_474  # golden 11, all-affine norms
    json.dumps(found.to_json())


def test_every_strategy_fits_or_has_a_reason() -> None:
    found = check_space("mini-pooling")
    assert {*found.fits, *found.misfits} == set(STRATEGIES)
    assert not set(found.fits) & set(found.misfits)
    assert "prototypes" in found.misfits["prototype-density"]


def test_encodings_of_one_network_are_counted_once(chain: str) -> None:
    # By hand: 7 options in layers of stages of 3 and 1. The first of each stage changes the
    # shape; of the 49 pairs of the other two, 6 with one identity are the same networks as 6.
    found = check_space(chain, arguments={"layers": (3, 1), "squeeze_excite": False})
    assert (found.size, found.distinct) == (7**4, 7 * (49 - 6) * 7)
    larger = check_space(chain, arguments={"layers": (3, 1)})
    assert (larger.size, larger.distinct) == (13**4, None)  # 28,561 are more than are listed


def test_a_large_space_has_exact_bounds_and_shares_and_a_sampled_median(chain: str) -> None:
    arguments: dict[str, Any] = {"layers": (3, 1)}
    model: Any = _chain(**arguments, num_classes=3, in_chs=3)
    costs = np.array([model.macs(a, image_size=(16, 16)) for a in model.search_space])
    low, high = int(np.quantile(costs, 0.1)), int(np.quantile(costs, 0.3))
    found = check_space(chain, macs=(low, high), arguments=arguments, samples=400)
    assert found.macs is not None
    assert (found.macs.least, found.macs.largest) == (costs.min(), costs.max())
    assert (found.macs.sampled, found.macs.exact_bounds) == (400, True)
    # The ranks of a median of 400 draws have a standard deviation of 2.5 %: 4 sigma are 10 %.
    assert abs((costs <= found.macs.median).mean() - 0.5) < 0.1
    assert found.inside is not None
    inside = int(((low <= costs) & (costs <= high)).sum())
    assert (found.inside.architectures, found.inside.share) == (inside, inside / 13**4)
    assert found.memory.learned_tree is None
    assert "learned-tree" in found.misfits
    again = check_space(chain, macs=(low, high), arguments=arguments, samples=400)
    assert again == found
    nothing = check_space(chain, macs=(0, 1), arguments=arguments)
    assert nothing.inside is not None
    assert (nothing.inside.architectures, nothing.inside.share) == (0, 0.0)


def test_costs_that_are_no_sums_are_sampled_in_a_large_space() -> None:
    found = check_space(
        "resolution-resnet", arguments={"widths": (4,) * 11}, macs=(0, 10**9), samples=20
    )
    assert found.size == 3**11
    assert found.macs is not None
    assert (found.macs.sampled, found.macs.exact_bounds) == (20, False)
    assert found.inside is not None
    assert (found.inside.share, found.inside.architectures, found.inside.sampled) == (1, None, 20)


def test_nothing_is_built_and_no_random_state_moved() -> None:
    state = torch.get_rng_state()
    found = check_space("pooling-resnet20", arguments={"width": 4096})
    assert found.memory.training > 10**11  # 0.2 TB, were it built
    assert torch.equal(torch.get_rng_state(), state)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="name must be one of"):
        check_space("nothing")
    with pytest.raises(ValueError, match="samples must be at least 1, got 0"):
        check_space("mini-pooling", samples=0)
    with pytest.raises(ValueError, match="macs must be a window from low to high, got 5 to 4"):
        check_space("mini-pooling", macs=(5, 4))
    with pytest.raises(ValueError, match="image_size must be at least 4x4"):
        check_space("mini-pooling", image_size=(2, 2))
    with pytest.raises(ValueError, match="arguments of space"):
        check_space("mini-pooling", arguments={"width": 3})

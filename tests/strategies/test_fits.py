"""What the registry says of strategies and spaces is what the strategies then do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nas_ext.nni import ModelSpace
from nas_ext.oneshot import SampledStrategy
from nas_ext.search import Setting
from nas_ext.spaces import PoolingResNet, ResolutionResNet
from nas_ext.spaces.limits import limit_macs
from nas_ext.strategies import PADA
from nas_ext.strategies.registry import STRATEGIES, create
from nas_ext.testing import FakeSupernet


def pooling() -> Any:
    return PoolingResNet.mini(num_classes=3, in_chs=1)


def resolutions() -> Any:
    """81 architectures, a plain product of layer choices."""
    return ResolutionResNet(widths=(4, 4, 4, 8), resolutions=3, num_classes=3, in_chs=1)


def many() -> Any:
    """3^11 architectures: more than are ranked or compared."""
    return ResolutionResNet(widths=(4,) * 11, resolutions=3, num_classes=3, in_chs=1)


def limited() -> Any:
    space = resolutions()
    costs = sorted(space.macs(a, image_size=(8, 8)) for a in space.search_space)
    return limit_macs(space, low=costs[0], high=costs[-2], image_size=(8, 8))


SPACES: tuple[Callable[[], Any], ...] = (pooling, resolutions, many, limited)


def refused(strategy: Any, model: ModelSpace) -> bool:
    """Say whether a strategy refuses a model space once it runs: supernet, then first sampler."""
    try:
        strategy.mutate_model(model)
        if isinstance(strategy, SampledStrategy):
            space = strategy.searched_space
            phase = strategy.phases(100)[0]
            if space.size < 20_000:
                phase.build(Setting(space, FakeSupernet(space), np.random.default_rng(0)))
            else:  # no list of chosen numbers
                small: Any = None
                phase.build(Setting(space, small, np.random.default_rng(0)))
        if isinstance(strategy, PADA):
            strategy._observer.watch_paths(model, strategy.search_space)
    except (ValueError, TypeError):
        return True
    return False


@pytest.mark.parametrize("build", SPACES)
@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_a_strategy_refuses_exactly_what_the_registry_says(
    name: str, build: Callable[[], Any]
) -> None:
    model = build()
    reason = STRATEGIES[name].misfit(model.search_space, model)
    assert (reason is not None) == refused(create(name), model), reason


def test_reasons_name_what_would_have_to_change() -> None:
    space = many()
    reasons = {name: entry.misfit(space.search_space, space) for name, entry in STRATEGIES.items()}
    assert "at most 20,000 to be enumerated" in str(reasons["learned-tree"])
    assert "rank_subset must be a number" in str(reasons["iterative-mcts"])
    assert "candidates must be a number" in str(reasons["uniform"])
    assert reasons["mcts"] is None
    few = pooling()
    entry = STRATEGIES["prototype-density"]
    assert "prototypes must be at most the 21" in str(entry.misfit(few.search_space))
    assert "plain product" in str(STRATEGIES["gaea"].misfit(few.search_space))

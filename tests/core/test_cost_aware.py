"""Dear architectures are rewarded less, and never more than a share."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from nas_ext.cost_aware import CostAware, SoftConstraint, constraint_of
from nas_ext.estimation import PerformanceEstimator
from nas_ext.samplers import BoltzmannSampler
from nas_ext.search import Phase, Search, Setting
from nas_ext.testing import FakeSupernet, small_space

SPACE = small_space()


def test_what_costs_no_more_than_the_target_keeps_its_reward() -> None:
    constraint = SoftConstraint(100.0)
    assert [constraint(0.8, cost) for cost in (0.0, 50.0, 100.0)] == [0.8, 0.8, 0.8]


def test_above_the_target_the_reward_is_that_of_mnasnet() -> None:
    # Tan et al. 2019, section 3: ACC (LAT / T)^w with w = -0.07, chosen so that doubling the
    # latency is worth about 5 % of the accuracy.
    assert SoftConstraint(100.0)(1.0, 200.0) == pytest.approx(2.0**-0.07)
    assert SoftConstraint(100.0)(1.0, 200.0) == pytest.approx(0.95, abs=0.005)
    # Their hard constraint, w = -1 above the target: half the reward for twice the cost.
    assert SoftConstraint(100.0, weight=1.0)(0.6, 200.0) == pytest.approx(0.3)


def test_a_weight_of_zero_changes_no_bit() -> None:
    constraint = SoftConstraint(1.0, weight=0.0)
    assert [constraint(r, 1e9) for r in (0.0, 0.1, 1 / 3, 1.0)] == [0.0, 0.1, 1 / 3, 1.0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": 0.0}, "target must be positive, got 0.0"),
        ({"target": math.nan}, "target must be positive, got nan"),
        ({"target": 1.0, "weight": -0.07}, "weight must not be negative, got -0.07"),
    ],
)
def test_wrong_settings_are_refused_by_name(settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SoftConstraint(**settings)


@pytest.mark.parametrize("cost", [-1.0, math.nan, math.inf])
def test_a_cost_that_is_none_is_refused(cost: float) -> None:
    with pytest.raises(ValueError, match="cost must not be negative"):
        SoftConstraint(1.0)(0.5, cost)


def test_a_reward_that_is_no_share_is_refused() -> None:
    with pytest.raises(ValueError, match="reward must be a share"):
        SoftConstraint(1.0)(1.5, 0.5)


def test_only_single_batch_rewards_are_discounted() -> None:
    aware = CostAware(
        FakeSupernet(SPACE, 0.8),
        cost=lambda a: 1.0 + a[0],
        constraint=SoftConstraint(1.0, weight=1.0),
    )
    assert isinstance(aware, PerformanceEstimator)
    found = [aware.reward((k, 0, 0)) for k in range(3)]
    np.testing.assert_allclose(found, [0.8, 0.4, 0.8 / 3])
    assert aware.accuracies([(2, 0, 0)]).tolist() == [0.8]
    aware.reinitialise()
    assert isinstance(aware.estimator, FakeSupernet)
    assert aware.estimator.asked["reinitialise"] == 1


def last_draws(estimator: PerformanceEstimator) -> float:
    """Return the mean of the first option in the last 100 of 400 draws."""
    phase = Phase(
        "search",
        400,
        lambda s: BoltzmannSampler(s.space, s.rng, temperature=lambda step: 0.01, decay=0.9),
    )
    search = Search([phase], Setting(SPACE, estimator, np.random.default_rng(0)))
    for _ in range(search.steps):
        for architecture in search.ask():
            search.tell(architecture, estimator.reward(architecture))
    return float(np.mean([d.architecture[0] for d in search.draws[-100:]]))


def test_a_sampler_that_is_told_discounted_rewards_draws_cheaper_architectures() -> None:
    # Accuracy 0.7, 0.75, 0.8 by the first option, cost 1, 2, 4: discounted at weight 1 and target
    # 1 they are 0.7, 0.375, 0.2, so the order turns round.
    known = FakeSupernet(SPACE, {a: 0.7 + 0.05 * a[0] for a in SPACE})
    aware = CostAware(
        known, cost=lambda a: 2.0 ** a[0], constraint=SoftConstraint(1.0, weight=1.0)
    )
    assert last_draws(known) > 1.5
    assert last_draws(aware) < 0.5


def test_without_a_cost_there_is_no_constraint() -> None:
    assert constraint_of(None, None, 0.07) is None
    assert constraint_of("macs", 1e6, 0.1) == SoftConstraint(1e6, 0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("seconds", 1.0, 0.07), "cost must be one of .* or a function, got 'seconds'"),
        ((None, 1.0, 0.07), "cost must be given with a cost_target, got 1.0"),
        (("macs", None, 0.07), "cost_target must be positive with a cost, got None"),
        (("macs", 0.0, 0.07), "cost_target must be positive with a cost, got 0.0"),
        ((None, None, -1.0), "cost_weight must not be negative, got -1.0"),
    ],
)
def test_settings_of_a_strategy_that_do_not_fit_are_refused(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        constraint_of(*arguments)

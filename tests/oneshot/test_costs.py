"""What a strategy with a cost tells its sampler, and what it leaves alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nas_ext.data import digits
from nas_ext.pareto import front
from nas_ext.results import SearchResult
from nas_ext.runs import Training, search_images
from nas_ext.strategies import MCTS, Uniform
from nas_ext.strategies.balanced_mixture import BalancedMixture
from nas_ext.strategies.gaea import GAEA
from nas_ext.supernets import load_supernet

Search = Callable[..., Any]


def dear(architecture: tuple[int, ...]) -> float:
    """Cost 1, 2 or 4, by the first option, so that no cost is a secret of torch's."""
    return float(2 ** architecture[0])


def half(module: Any, batch: Any) -> float:
    """Return the same reward for all."""
    return 0.5


def told(strategy: Any) -> set[tuple[int, float]]:
    """Return first option and reward of every draw that has one."""
    draws = strategy.result.draws
    return {(d.architecture[0], d.reward) for d in draws if d.reward is not None}


def test_the_sampler_is_told_discounted_rewards_and_the_ranking_is_of_plain_ones(
    search: Search,
) -> None:
    strategy = search(MCTS(reward=half, cost=dear, cost_target=1.0, cost_weight=1.0))
    # 0.5 min(1, 1 / cost), cost 1 and 2
    assert told(strategy) == {(0, 0.5), (1, 0.25)}
    assert {line.accuracy for line in strategy.result.ranking} == {0.5}
    assert strategy.settings["cost"] == "dear"


def test_a_target_that_nobody_exceeds_changes_no_bit(search: Search) -> None:
    plain = search(MCTS(seed=3)).result
    capped = search(MCTS(seed=3, cost=dear, cost_target=2.0)).result
    assert plain.draws == capped.draws
    assert plain.ranking == capped.ranking


def test_macs_of_a_space_without_a_closed_form_are_refused_before_the_first_step(
    search: Search,
) -> None:
    strategy: Any = MCTS(cost="macs", cost_target=1e6)
    with pytest.raises(ValueError, match="cost must be a function for Tiny, which has no closed"):
        search(strategy)
    assert strategy.oneshot_module.supernet.passes["train"] == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cost": "time", "cost_target": 1.0}, "cost must be one of"),
        ({"cost": "macs"}, "cost_target must be positive with a cost, got None"),
        ({"cost_target": 1.0}, "cost must be given with a cost_target"),
        ({"cost_weight": -1.0}, "cost_weight must not be negative, got -1.0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Uniform(**settings)


def test_a_search_of_images_with_macs_as_cost_goes_from_disk_to_a_front(tmp_path: Path) -> None:
    out = tmp_path / "run"
    target = 200_000.0
    result = search_images(
        MCTS(seed=0, reward=half, cost="macs", cost_target=target, cost_weight=1.0),
        "mini-pooling",
        digits(seed=0),
        out=out,
        training=Training(
            steps=20, batch_size=16, validation_batch_size=100, device="cpu", progress=False
        ),
        data_source={"source": "digits", "seed": 0, "image_size": None},
    )
    macs = {line.architecture: line.macs for line in result.ranking}
    known = [d for d in result.draws if d.reward is not None and d.architecture in macs]
    assert known
    assert {m > target for m in macs.values() if m is not None} == {True, False}
    for draw in known:
        cost = macs[draw.architecture]
        assert cost is not None
        assert draw.reward == pytest.approx(0.5 * min(1.0, target / cost))
    # All have the same accuracy, so the front is what is cheapest.
    assert {line.macs for line in front(result)} == {min(m for m in macs.values() if m)}
    # How a supernet is made does not depend on the cost.
    assert load_supernet(out, reward=half).space.size == result.space["size"]


# What a method says of itself at the end.


def test_a_mixture_says_which_supernet_each_architecture_was_ranked_in(search: Search) -> None:
    strategy = search(BalancedMixture(seed=0, models=2))
    supernets = {r.architecture: r.extra for r in strategy.result.ranking}
    assert supernets == {a: {"supernet": m} for a, m in strategy.supernets.items()}
    sampler = strategy.oneshot_module.search.sampler
    assert strategy.result.diagnostics == sampler.diagnostics()
    assert set(strategy.result.diagnostics) == {"temperature", "divergence", "specialisation"}
    values = json.loads(json.dumps(strategy.result.to_json()))
    assert SearchResult.from_json(values) == strategy.result


def test_a_sampler_without_diagnostics_leaves_none(search: Search) -> None:
    result = search(Uniform(seed=0)).result
    assert result.diagnostics == {}
    assert {json.dumps(line.extra) for line in result.ranking} == {"{}"}


def test_a_mixture_of_layers_gives_the_weight_of_each_architecture(search: Search) -> None:
    strategy = search(GAEA(seed=0))
    rows = [list(row.values()) for row in strategy.probabilities.values()]
    result = strategy.result
    for line in result.ranking:
        shares = [row[k] for row, k in zip(rows, line.architecture, strict=True)]
        assert line.extra["weight"] == pytest.approx(shares[0] * shares[1] * shares[2])
    assert sum(line.extra["weight"] for line in result.ranking) == pytest.approx(1.0)
    largest = [max(row) for row in rows]
    assert result.diagnostics == pytest.approx(
        {"mean_largest_weight": sum(largest) / 3, "smallest_largest_weight": min(largest)}
    )

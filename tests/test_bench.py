"""Comparing strategies and baselines on a table: budgets, references and intervals."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from nas_ext import bench as module
from nas_ext.bench import bench, noise_ceiling, references, table
from nas_ext.benchmarks import Table, pooling_table
from nas_ext.strategies.registry import STRATEGIES
from nas_ext.testing import small_space

SPACE = small_space()
ACCURACIES = dict(zip(SPACE, np.random.default_rng(0).permutation(18) / 18, strict=True))
SMALL = Table("small", SPACE, ACCURACIES, {}, "made up")
POOLING = pooling_table()


@pytest.mark.parametrize(("name", "count"), [("", 1), ("_of_top5", 5), ("_of_top10", 10)])
def test_the_regret_of_a_random_choice_is_its_mean_over_all_choices(name: str, count: int) -> None:
    # Every set of so many of the 18 networks, listed: 18, 8,568 and 43,758 of them.
    best = max(ACCURACIES.values())
    regrets = [best - max(chosen) for chosen in combinations(ACCURACIES.values(), count)]
    known = references(SMALL)["random choice"]
    assert known[f"regret{name}"] == pytest.approx(np.mean(regrets))
    assert known["found_in_top5"] == pytest.approx(5 / 18)
    assert known["rank"] == pytest.approx(9.5)


def test_counting_macs_is_scored_like_a_search() -> None:
    # Golden numbers 4 and 11: [8,1,1] has the most macs; of the next four by macs, [7,1,2] is
    # the best of all.
    known = references(POOLING)["most macs"]
    assert known["found"] == "[8,1,1]"
    assert known["rank"] == POOLING.ranks()[POOLING.space.at(35)]
    assert known["regret"] == pytest.approx(0.9201166667 - 0.8999166667)
    assert known["regret_of_top5"] == 0.0
    assert known["tau"]["low"] < known["tau"]["mean"] < known["tau"]["high"]


def test_a_cost_that_all_networks_share_ranks_none() -> None:
    # All pooling networks have the same parameters (golden number 11).
    equal = replace(POOLING, params=dict.fromkeys(POOLING.space, 270_906))
    assert set(references(equal)) == {"random choice", "most macs", "best"}
    assert set(references(SMALL)) == {"random choice", "best"}


def test_published_seeds_give_the_ceiling() -> None:
    opposite = {a: (share, 1 - share) for a, share in ACCURACIES.items()}
    equal = {a: (share, share, share) for a, share in ACCURACIES.items()}
    for seeds, tau in ((opposite, -1.0), (equal, 1.0)):
        found = noise_ceiling(replace(SMALL, seeds=seeds))
        assert found is not None
        assert found.tau == pytest.approx(tau)
        assert not found.simulated


def test_without_seeds_the_ceiling_is_simulated_from_the_deviations() -> None:
    assert noise_ceiling(SMALL) is None
    exact = noise_ceiling(replace(SMALL, deviations=dict.fromkeys(SPACE, 0.0)))
    blurred = noise_ceiling(replace(SMALL, deviations=dict.fromkeys(SPACE, 100.0)))
    assert exact is not None
    assert blurred is not None
    assert (exact.tau, exact.simulated) == (1.0, True)
    # tau of 18 unrelated pairs deviates by sqrt(2 (2n + 5) / (9 n (n - 1))) = .173; the mean of
    # 200 by .012, and four of those are allowed.
    assert abs(blurred.tau) < 4 * 0.0123


def test_all_methods_spend_the_same_evaluations() -> None:
    made = bench(POOLING, ["learned-tree", "mcts"], seeds=2, evaluations=80)
    assert [s.strategy for s in made.scores] == ["learned-tree", "mcts"]
    assert [s.strategy for s in made.baselines] == [
        "random-search",
        "regularised-evolution",
        "tpe",
    ]
    for score in (*made.scores, *made.baselines):
        assert [r.evaluations for r in score.runs] == [80, 80]
        assert score.means["found_in_top5"].n == 2


def test_a_strategy_takes_its_settings_for_tables_unless_others_are_given() -> None:
    made = bench(POOLING, ["learned-tree", "mcts"], seeds=2, evaluations=30, baselines=(),
                 settings={"linkage": "complete"})  # fmt: skip
    preset, other = (score.settings for score in made.scores)
    assert (preset["distance"], preset["linkage"]) == ("encoding", "complete")
    assert "linkage" not in other
    with pytest.raises(ValueError, match="has no network outputs"):
        bench(POOLING, ["learned-tree"], seeds=2, evaluations=30, settings={"distance": "l2"})


def test_a_strategy_that_needs_a_network_is_left_out_with_its_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entries = {
        "uniform": STRATEGIES["uniform"],
        "weights": replace(STRATEGIES["mcts"], not_on_tables="needs more"),
    }
    monkeypatch.setattr(module, "STRATEGIES", entries)
    made = bench(POOLING, ["all"], seeds=2, evaluations=20, baselines=())
    assert [score.strategy for score in made.scores] == ["uniform"]
    reason = "weights cannot run on a table: it needs more"
    assert made.skipped == {"weights": reason}
    with pytest.raises(ValueError, match=reason):
        bench(POOLING, ["weights"], seeds=2, evaluations=20)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="seeds must be at least 2 for an interval, got 1"):
        bench(POOLING, ["mcts"], seeds=1, evaluations=20)
    with pytest.raises(ValueError, match="strategy must be one of"):
        bench(POOLING, ["nope"], seeds=2, evaluations=20)
    with pytest.raises(ValueError, match="baseline must be one of"):
        bench(POOLING, ["mcts"], seeds=2, evaluations=20, baselines=["nope"])
    with pytest.raises(ValueError, match="settings must belong to one strategy"):
        bench(POOLING, ["all"], seeds=2, evaluations=20, settings={"decay": 0.5})
    with pytest.raises(ValueError, match="table must be one of"):
        table("nope")

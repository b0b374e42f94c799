"""Random search on the trainings of a table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nas_ext.benchmarks.measured import MeasuredTable, measured_table
from nas_ext.comparison.random_search import random_search, trainings_within
from nas_ext.pooling import PoolingSpace

SPACE = PoolingSpace(layers=4, poolings=1, name="tiny")
TEXT = """name,architecture,macs,parameters,seed0,seed1,seed2
"[1,3]",0 1 1,100,7,80.00,82.00,84.00
"[2,2]",1 0 1,200,7,85.00,70.00,75.00
"[3,1]",1 1 0,300,7,84.00,83.00,85.00
"""
MANIFEST: dict[str, Any] = {
    "settings": {"recipe": {"epochs": 3}},
    "data": {"images": {"train": 30_000}},
}


def table(manifest: dict[str, Any] | None = MANIFEST) -> MeasuredTable:
    return measured_table(TEXT, SPACE, name="tiny", source="made up", manifest=manifest)


def test_the_budget_counts_training_images() -> None:
    # three epochs of 30,000 images each: 90,000 a training
    assert trainings_within(table(), 800 * 64) == 1
    assert trainings_within(table(), 269_999) == 2
    assert trainings_within(table(), 270_000) == 3
    with pytest.raises(ValueError, match="table 'tiny' must have the manifest"):
        trainings_within(table(None), 100)


def test_the_pick_is_the_best_of_one_seed_and_is_worth_the_mean_of_the_others() -> None:
    # by seed 0 the pick is [2,2], worth (70 + 75) / 2; by seeds 1 and 2 it is [3,1]
    worth = {"[2,2]": {0.725}, "[3,1]": {0.845, 0.835}}
    seen = set()
    for seed in range(20):
        found = random_search(table(), competitor="r", seed=seed, trainings=3)
        value = found.values["accuracy"]
        assert value is not None
        assert any(value == pytest.approx(w) for w in worth[found.pick])
        # the best mean is that of [3,1]: 84 %
        assert found.values["regret"] == pytest.approx(0.84 - value)
        seen.add(found.pick)
    assert seen == set(worth)


def test_one_training_is_a_blind_choice() -> None:
    runs = [random_search(table(), competitor="r", seed=s, trainings=1) for s in range(600)]
    picks = [one.pick for one in runs]
    for name in ("[1,3]", "[2,2]", "[3,1]"):
        # a third each, sd .0192 of 600: within 4 sd
        assert picks.count(name) / 600 == pytest.approx(1 / 3, abs=0.077)
    mean = np.mean([one.values["accuracy"] or 0.0 for one in runs])
    # the mean of all nine trainings is 80.9 %; sd of one .053, so 4 sd of the mean are .0087
    assert mean == pytest.approx(0.80889, abs=0.009)


def test_there_is_no_tau_and_no_best_of_more_than_were_trained() -> None:
    found = random_search(table(), competitor="r", seed=0, trainings=9)
    assert found.values["tau"] is None
    assert found.values["regret_of_top5"] is None
    assert found.values["different_drawn"] == 3
    again = random_search(table(), competitor="r", seed=0, trainings=9)
    assert again == found
    with pytest.raises(ValueError, match="trainings must be at least 1, got 0"):
        random_search(table(), competitor="r", seed=0, trainings=0)

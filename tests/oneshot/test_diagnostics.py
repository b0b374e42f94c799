"""What samplers say of themselves, in the trainer's logger while a search runs."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytorch_lightning.loggers import CSVLogger

from nas_ext.schedule import linear
from nas_ext.strategies import (
    MCTS,
    BalancedMixture,
    Boltzmann,
    DensityAware,
    Independent,
    PrototypeDensity,
    Uniform,
)

Search = Callable[..., Any]


def logged(search: Search, folder: Path, strategy: Any, **settings: Any) -> list[dict[str, Any]]:
    """Search for 10 steps with a logger that writes every second one, and read its rows."""
    search(strategy, logger=CSVLogger(folder), log_every_n_steps=2, **settings)
    (file,) = folder.rglob("metrics.csv")
    with file.open() as lines:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(lines)]


def column(rows: list[dict[str, Any]], name: str) -> dict[int, float]:
    return {int(row["step"]): row[name] for row in rows if name in row}


def test_the_temperature_is_logged_as_it_falls(search: Search, tmp_path: Path) -> None:
    # 2 steps fill the tree, then 8 walks whose temperature falls linearly
    rows = logged(search, tmp_path, MCTS(seed=0, shares=(0.2, 0.8)))
    falling = linear(0.02, 0.0025, 8)
    # Lightning numbers steps from 0 and writes the second, fourth, ...
    assert column(rows, "search_temperature") == pytest.approx(
        {step: falling(step - 2) for step in (3, 5, 7, 9)}, rel=1e-6
    )
    assert column(rows, "search_visits") == {1: 2, 3: 4, 5: 6, 7: 8, 9: 10}
    assert set(column(rows, "search_reward")) == {1, 3, 5, 7, 9}


@pytest.mark.parametrize(
    ("strategy", "names"),
    [
        (BalancedMixture(models=2), {"temperature", "divergence", "specialisation"}),
        (
            DensityAware(shares=(0.4, 0.6), mode="perplexity"),
            {"perplexity", "maximum_share", "minimum_share"},
        ),
        (
            PrototypeDensity(prototypes=3, shares=(0.4, 0.6)),
            {"acceptance", "prototype_spread", "proposals"},
        ),
        (Boltzmann(), {"temperature", "perplexity", "maximum_share", "visited"}),
        (Independent(), {"temperature", "maximum_share"}),
    ],
)
def test_every_method_logs_its_own_numbers(
    strategy: Any, names: set[str], search: Search, tmp_path: Path
) -> None:
    rows = logged(search, tmp_path, strategy)
    seen = {key.removeprefix("search_") for row in rows for key in row if key[:7] == "search_"}
    assert seen - {"reward"} == names
    module = strategy.oneshot_module
    last = {name: column(rows, f"search_{name}")[9] for name in names}
    assert last == pytest.approx(module.search.sampler.diagnostics(), rel=1e-5)


def test_the_divergence_of_a_mixture_stays_within_its_tolerance(
    search: Search, tmp_path: Path
) -> None:
    rows = logged(search, tmp_path, BalancedMixture(models=2, tolerance=1e-5))
    assert all(value <= 1e-5 for value in column(rows, "search_divergence").values())


def test_steps_are_counted_where_batches_accumulate(search: Search, tmp_path: Path) -> None:
    rows = logged(
        search, tmp_path, MCTS(seed=0, shares=(0.5, 0.5)), accumulate_grad_batches=2, max_epochs=4
    )
    # 4 epochs of 5 batches are 12 steps, each epoch ending with a window of one batch
    falling = linear(0.02, 0.0025, 6)
    found = column(rows, "search_temperature")
    assert found == pytest.approx({s: falling(s - 6) for s in found}, rel=1e-6)
    assert {7, 9, 11} <= set(found)


def test_nothing_is_logged_without_numbers_or_a_logger(search: Search, tmp_path: Path) -> None:
    search(Uniform(seed=0), logger=CSVLogger(tmp_path), log_every_n_steps=1)
    names = {key for file in tmp_path.rglob("metrics.csv") for key in file.read_text().split(",")}
    assert not any("search_" in name for name in names)
    assert not np.isnan(search(Boltzmann()).result.diagnostics["perplexity"])

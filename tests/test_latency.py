"""Latencies are measured as they say, and leave everything as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nas_ext.files import write_json
from nas_ext.latency import LatencyTable, Measurement, Timing, latencies, measure
from nas_ext.results import Budget, RankedArchitecture, SearchResult
from nas_ext.spaces import PoolingResNet


class Watched(nn.Module):
    """Note the shape, mode and threads of each forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)
        self.frozen = nn.Dropout().eval()
        self.seen: list[tuple[tuple[int, ...], bool, bool, int]] = []

    def forward(self, x: Tensor) -> Tensor:
        threads = torch.get_num_threads()
        self.seen.append((tuple(x.shape), self.training, torch.is_grad_enabled(), threads))
        logits: Tensor = self.layer(x)
        return logits


@pytest.fixture
def result() -> SearchResult:
    """A result whose ranking has two architectures of the mini space, on images of 8 x 8."""
    model = PoolingResNet.mini(num_classes=10, in_chs=1)
    space = model.search_space
    lines = tuple(
        RankedArchitecture(a, space.describe(a), space.decode(a), 0.5)
        for a in (space.at(0), space.at(3))
    )
    found = {"name": space.name, "size": space.size, "arguments": model.arguments}
    budget = Budget(1, 1, 0, 2, 0, 0.0)
    data = {"size": [1, 8, 8]}
    return SearchResult("Uniform", {}, 0, found, (("uniform", 1),), (), lines, budget, data=data)


def test_every_pass_is_one_batch_in_evaluation_mode_with_the_threads_asked_for() -> None:
    network = Watched()
    timing = measure(network, (4,), how=Measurement(batch_size=3, warm_up=2, repeats=5, threads=2))
    assert network.seen == [((3, 4), False, False, 2)] * 7
    assert 0 < timing.low <= timing.median <= timing.high


def test_measuring_leaves_modes_threads_and_random_states_as_they_were() -> None:
    network, state = Watched().train(), torch.get_rng_state()
    network.frozen.eval()
    threads = torch.get_num_threads()
    measure(network, (4,), how=Measurement(warm_up=0, repeats=1, threads=2))
    assert (network.training, network.frozen.training) == (True, False)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def test_a_network_that_fails_leaves_modes_and_threads_as_they_were() -> None:
    network, threads = Watched(), torch.get_num_threads()
    with pytest.raises(RuntimeError):
        measure(network, (5,), how=Measurement(threads=2))
    assert network.training
    assert torch.get_num_threads() == threads


def test_the_ranking_of_a_search_is_measured_and_is_a_cost(
    result: SearchResult, tmp_path: Path
) -> None:
    state = torch.get_rng_state()
    table = latencies(result, how=Measurement(warm_up=1, repeats=3, threads=1))
    assert torch.equal(torch.get_rng_state(), state)
    assert list(table.timings) == [line.architecture for line in result.ranking]
    first = result.best.architecture
    assert table(first) == table.timings[first].median > 0
    for name, value in {"batch_size": 1, "repeats": 3, "warm_up": 1, "threads": 1}.items():
        assert table.conditions[name] == value
    assert (table.conditions["device"], table.conditions["size"]) == ("cpu", [1, 8, 8])
    assert table.conditions["name"]
    table.save(tmp_path / "latency.json")
    assert LatencyTable.load(tmp_path / "latency.json") == table


def test_an_architecture_that_was_not_measured_has_no_latency() -> None:
    table = LatencyTable({"name": "a"}, {(0,): Timing(1.0, 1.0, 1.0)})
    with pytest.raises(ValueError, match=r"architecture must have been measured, got \(1,\)"):
        table((1,))
    assert repr(table) == "LatencyTable(1 on a)"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"repeats": 0}, "repeats must be at least 1, got 0"),
        ({"warm_up": -1}, "warm_up must not be negative, got -1"),
        ({"threads": 0}, "threads must be at least 1, got 0"),
    ],
)
def test_wrong_settings_are_refused_by_name(settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Measurement(**settings)


def test_results_that_cannot_be_measured_are_refused(result: SearchResult) -> None:
    with pytest.raises(ValueError, match="must be a registered one to be measured"):
        latencies(replace(result, space={"name": "own", "arguments": None}))
    with pytest.raises(ValueError, match="data of the result must say the size of its images"):
        latencies(replace(result, data={}))


def latency_of(architecture: list[int], median: float, times: int = 1) -> dict[str, Any]:
    row = {"architecture": architecture, "median": median, "low": 0.1, "high": 0.2}
    return {"format": "nas-ext/latency-1", "conditions": {}, "timings": [row] * times}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"format": "other"}, "format of .* must be 'nas-ext/latency-1', got 'other'"),
        ({"format": "nas-ext/latency-1"}, "must be a whole latency table"),
        (
            {"format": "nas-ext/latency-1", "conditions": {}, "timings": [{}]},
            "must be a whole latency table",
        ),
        (latency_of([0], -1), r"median of \[0\] in .*latency.json must not be negative, got -1"),
        (latency_of([-1], 1), r"architectures of .*latency.json must be places of options"),
        (latency_of([0], 1, 2), r"timings of .*latency.json must have every architecture once"),
    ],
)
def test_a_file_that_is_no_table_is_named(tmp_path: Path, values: Any, message: str) -> None:
    write_json(tmp_path / "latency.json", values)
    with pytest.raises(ValueError, match=message):
        LatencyTable.load(tmp_path / "latency.json")

"""The command that lists what no other architecture of a ranking beats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from nas_ext.cli import app
from nas_ext.data import digits
from nas_ext.latency import LatencyTable
from nas_ext.pareto import front
from nas_ext.results import RankedArchitecture, SearchResult
from nas_ext.runs import Training, search_images
from nas_ext.strategies import Uniform


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short search on the digits, all 21 architectures ranked."""
    out = tmp_path_factory.mktemp("runs") / "uniform"
    search_images(
        Uniform(seed=1),
        "mini-pooling",
        digits(seed=0),
        out=out,
        training=Training(
            steps=10, batch_size=16, validation_batch_size=100, device="cpu", progress=False
        ),
        data_source={"source": "digits", "seed": 0, "image_size": None},
    )
    return out


def invoke(*arguments: Any) -> str:
    """Return what the command prints; fail where it does."""
    found = CliRunner().invoke(app, ["select", *map(str, arguments)])
    assert found.exit_code == 0, found.output
    return found.output


def chosen(said: dict[str, Any]) -> list[str]:
    return [line["name"] for line in said["front"]]


def names(lines: tuple[RankedArchitecture, ...]) -> list[str]:
    return [line.name for line in lines]


def test_the_front_of_a_run_is_that_of_its_ranking_and_evaluates_nothing(run: Path) -> None:
    before = {path.name for path in run.iterdir()}
    said = json.loads(invoke(run, "--front", "--json"))
    result = SearchResult.load(run)
    assert chosen(said) == names(front(result))
    assert (said["cost"], said["of"], said["conditions"]) == ("macs", 21, None)
    assert said["front"][0]["cost"] == said["front"][0]["macs"]
    assert {path.name for path in run.iterdir()} == before


def test_the_front_by_parameters_is_another_question(run: Path) -> None:
    said = json.loads(invoke(run, "--front", "--cost", "parameters", "--json"))
    assert chosen(said) == names(front(SearchResult.load(run), cost="parameters"))


def test_the_front_by_latency_measures_what_is_ranked_and_keeps_the_numbers(run: Path) -> None:
    said = json.loads(invoke(run, "--front", "--cost", "latency", "--json"))
    table = LatencyTable.load(run / "latency.json")
    result = SearchResult.load(run)
    assert set(table.timings) == {line.architecture for line in result.ranking}
    assert chosen(said) == names(front(result, cost=table))
    assert said["conditions"] == dict(table.conditions)
    shown = invoke(run, "--front", "--cost", "latency")
    assert " ms" in shown
    assert "batches of 1" in shown


def test_a_second_stage_has_a_front_too(run: Path) -> None:
    said = json.loads(invoke(run, "--method", "random", "--budget", 6, "--front", "--json"))
    found = json.loads((run / "select-random.json").read_text())["ranking"]
    lines = [RankedArchitecture(**{**r, "architecture": tuple(r["architecture"])}) for r in found]
    assert said["of"] == len(lines) <= 6
    assert chosen(said) == names(front(lines))


def test_the_front_is_printed_for_people(run: Path) -> None:
    shown = invoke(run, "--front")
    kept = front(SearchResult.load(run))
    assert f"Not beaten in accuracy and macs: {len(kept)} of 21" in shown
    assert all(line.name in shown for line in kept)


def test_neither_method_nor_front_is_refused(run: Path) -> None:
    found = CliRunner().invoke(app, ["select", str(run)])
    assert found.exit_code != 0
    assert "--method or --front must be given" in found.output

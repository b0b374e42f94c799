"""The commands about spaces: what they print, store and refuse."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nas_ext.cli import app
from nas_ext.cli_spaces import sides, window
from nas_ext.latency import LatencyTable
from nas_ext.results import SearchResult
from nas_ext.spaces import SPACES

RUNNER = CliRunner()


def call(*arguments: str, code: int = 0) -> str:
    """Run a command in this process, and return its standard output."""
    result = RUNNER.invoke(app, list(arguments), env={"COLUMNS": "200"})
    assert result.exit_code == code, (result.output, result.exception)
    return result.stdout if code == 0 else result.output


def words(printed: str) -> str:
    """Return what is printed in one line, without the frames of tables."""
    return re.sub(r"[│┃\s]+", " ", printed)


def test_spaces_are_listed_with_their_sizes() -> None:
    lines = json.loads(call("spaces", "--json"))
    assert [line["name"] for line in lines] == list(SPACES)
    assert all(type(line["size"]) is int and line["size"] > 0 for line in lines)
    printed = words(call("spaces"))
    assert "19,683" in printed
    assert "poolings=2" in printed


def test_a_space_is_described_for_people_and_for_machines() -> None:
    options = ("--macs", "0.2M:450k", "--image-size", "16", "--in-chs", "3")
    printed = words(call("space", "mini-pooling", *options))
    for said in ("21", "images of 16 x 16", "within 200,000 to 450,000 macs", "not gaea"):
        assert said in printed
    values = json.loads(call("space", "mini-pooling", *options, "--json"))
    assert values["size"] == values["distinct"] == 21
    assert values["inside"]["low"] == 200_000
    assert "uniform" in values["fits"]
    wide = call("space", "resolution-resnet", "--set", "widths=[4,4,4,4,4,4,4,4,4,4,4]")
    assert "not counted" in words(wide)
    assert "(all of 1,000 draws)" in words(wide)


def test_a_wrong_space_or_window_is_one_line_and_exit_code_2() -> None:
    assert "name must be one of" in call("space", "nothing", code=2)
    assert "macs must be LOW:HIGH" in call("space", "mini-pooling", "--macs", "5", code=2)
    assert "image size must be" in call("space", "mini-pooling", "--image-size", "0", code=2)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("277.2M:280M", (277_200_000, 280_000_000)),
        ("0:1.5G", (0, 1_500_000_000)),
        ("12k:13000", (12_000, 13_000)),
    ],
)
def test_a_window_is_read_exactly(text: str, expected: tuple[int, int]) -> None:
    assert window(text) == expected


@pytest.mark.parametrize("text", ["1", "", ":", "1:", "a:b", "0.5:2", "1m:2m", "nan:1", "1:inf"])
def test_what_is_no_window_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="macs must be"):
        window(text)


def test_sides_are_one_number_or_two() -> None:
    assert sides("224") == (224, 224)
    assert sides("512x1024") == (512, 1024)
    for text in ("", "x", "3x", "1x2x3", "-4", "0"):
        with pytest.raises(ValueError, match="image size must be a side or HxW"):
            sides(text)


def test_latencies_of_a_space_are_measured_and_stored(tmp_path: Path) -> None:
    out = tmp_path / "table.json"
    quick = ("--repeats", "2", "--warm-up", "0", "--threads", "1")
    told = json.loads(
        call("latency", "mini-pooling", *quick, "--samples", "3", "--out", str(out), "--json")
    )
    table = LatencyTable.load(out)
    assert told["file"] == str(out)
    assert len(table.timings) == 3
    assert table.conditions["size"] == [1, 16, 16]
    assert (table.conditions["repeats"], table.conditions["warm_up"]) == (2, 0)
    from nas_ext.spaces import PoolingResNet

    usual = PoolingResNet.mini().default_architecture
    assert usual is None or usual in table.timings
    whole = json.loads(
        call("latency", "mini-pooling", *quick, "--samples", "99", "--out", str(out), "--json")
    )
    assert len(whole["timings"]) == 21
    assert "quarters" in call("latency", "mini-pooling", *quick, "--out", str(out))


def test_a_search_within_a_budget_is_measured_and_described(tmp_path: Path) -> None:
    out = tmp_path / "run"
    budget = ("--macs", "100k:250k", "--space", "mini-pooling", "--strategy", "mcts")
    short = ("--steps", "6", "--batch-size", "16", "--device", "cpu", "--json")
    call("search", "--data", "digits", "--out", str(out), *budget, *short)
    result = SearchResult.load(out)
    assert result.space["arguments"]["macs"] == [100_000, 250_000]
    assert 0 < result.space["size"] < 21
    assert all(100_000 <= (line.macs or 0) <= 250_000 for line in result.ranking)
    quick = ("--repeats", "2", "--warm-up", "0", "--batch-size", "2")
    call("latency", str(out), *quick)
    table = LatencyTable.load(out / "latency.json")
    assert set(table.timings) == {line.architecture for line in result.ranking}
    assert table.conditions["batch_size"] == 2
    refused = call("latency", str(out), *quick, "--image-size", "8", code=2)
    assert "must be left out for a run" in refused


def test_a_latency_of_nothing_is_refused(tmp_path: Path) -> None:
    assert "must be the folder of a search" in call("latency", str(tmp_path), code=2)
    assert "device must be cpu or gpu" in call("latency", "mini-pooling", "--device", "x", code=2)

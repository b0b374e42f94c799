"""The tables that this package measured, against a reading of their files with Python alone."""

from __future__ import annotations

import csv
import json
import statistics
from importlib.resources import files
from typing import Any

import pytest

from nas_ext.benchmarks import SHIPPED
from nas_ext.benchmarks.measured import MeasuredTable

# name: networks, seeds, the best and the worst by a spreadsheet's mean of the file's columns
TABLES: dict[str, tuple[int, int, tuple[str, float], tuple[str, float]]] = {
    "mini-pooling": (21, 6, ("[5,2,1]", 84.26), ("[1,1,6]", 80.82)),
    "narrow-pooling": (36, 4, ("[6,2,2]", 84.57), ("[1,1,8]", 80.35)),
    "mini-macro": (81, 3, ("2222", 85.46), ("0000", 72.51)),
}


def rows_of(name: str) -> list[dict[str, str]]:
    text = (files("nas_ext.benchmarks") / "data" / f"{name}.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def manifest_of(name: str) -> dict[str, Any]:
    text = (files("nas_ext.benchmarks") / "data" / f"{name}.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


@pytest.fixture(params=sorted(TABLES))
def table(request: pytest.FixtureRequest) -> MeasuredTable:
    found = SHIPPED[request.param]()
    assert isinstance(found, MeasuredTable)
    return found


def test_every_measured_table_that_is_shipped_is_looked_at() -> None:
    measured = {name for name, make in SHIPPED.items() if isinstance(make(), MeasuredTable)}
    assert measured == set(TABLES)


def test_networks_seeds_and_accuracies_are_those_of_the_file(table: MeasuredTable) -> None:
    networks, seeds, best, worst = TABLES[table.name]
    rows = rows_of(table.name)
    assert len(table.networks) == table.space.size == len(rows) == networks
    means = {}
    for row in (rows[0], *rows[1:-1], rows[-1]):
        values = [float(row[f"seed{s}"]) for s in range(seeds)]
        means[row["name"]] = statistics.fmean(values)
        architecture = tuple(int(option) for option in row["architecture"].split())
        assert table.space.describe(architecture) == row["name"]
        assert table.accuracies[architecture] == pytest.approx(means[row["name"]] / 100)
        assert table.deviations[architecture] == pytest.approx(statistics.stdev(values) / 100)
        assert table.macs[architecture] == int(row["macs"])
        assert table.seeds[architecture] == pytest.approx([value / 100 for value in values])
    assert table.space.describe(table.best) == max(means, key=lambda n: means[n]) == best[0]
    assert max(means.values()) == pytest.approx(best[1], abs=0.005)
    assert min(means, key=lambda n: means[n]) == worst[0]
    assert min(means.values()) == pytest.approx(worst[1], abs=0.005)


def test_architectures_differ_by_more_than_the_seeds_of_each(table: MeasuredTable) -> None:
    spread = statistics.stdev(table.accuracies.values())
    noise = statistics.fmean(table.deviations.values())
    assert spread > noise / len(next(iter(table.seeds.values()))) ** 0.5


def test_the_manifest_says_how_it_was_made(table: MeasuredTable) -> None:
    manifest = manifest_of(table.name)
    assert table.manifest == manifest
    settings = manifest["settings"]
    assert settings["seeds"] == TABLES[table.name][1]
    assert (settings["data"], settings["image_size"]) == ("fashion-mnist", 8)
    assert manifest["space"]["size"] == TABLES[table.name][0]
    # three epochs of half of the 60,000 official training images
    assert manifest["data"]["images"] == {"train": 30_000, "test": 10_000}
    assert table.images_per_training == 90_000

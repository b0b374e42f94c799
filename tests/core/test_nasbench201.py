"""NAS-Bench-201's accuracies: files of its shape, and the published one where it is."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from nas_ext.benchmarks import Table
from nas_ext.benchmarks.nasbench201 import FILE, DataSet, nasbench201_table
from nas_ext.benchmarks.table import DATA
from nas_ext.cell import NASBench201Space

SPACE = NASBench201Space()
HEADER = ["index", "arch", "cifar10-test", "cifar100-test", "imagenet-test"]


def lines() -> list[list[str]]:
    """A line for every cell, last cell first; the accuracies are its place in the order."""
    rows = [HEADER]
    for place in reversed(range(SPACE.size)):
        percent = [place / 200, place / 400, place / 800]
        rows.append([str(15_624 - place), SPACE.code(SPACE.at(place)), *map(str, percent)])
    return rows


def written(path: Path, rows: list[list[str]]) -> Path:
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return path


@pytest.fixture(scope="module")
def rows() -> list[list[str]]:
    """Make a file's lines once."""
    return lines()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]) -> Path:
    """Write a whole file of made-up accuracies."""
    folder = tmp_path_factory.mktemp("nb201")
    written(folder / FILE, rows)
    return folder


@pytest.fixture(scope="module")
def together(folder: Path) -> Table:
    """Read the made-up accuracies on CIFAR-10, averaged."""
    return nasbench201_table(folder)


@pytest.fixture(scope="module")
def apart(folder: Path) -> Table:
    """Read the made-up accuracies on ImageNet16-120, each line for itself."""
    return nasbench201_table(folder / FILE, dataset="imagenet", average=False)


@pytest.mark.parametrize(
    ("dataset", "best", "cell"),
    # Section 6.4: the maxima of the table after 12 epochs. The cells are the table's lines.
    [
        ("cifar10", 89.16, "|nor_conv_3x3~0|+|nor_conv_1x1~0|nor_conv_3x3~1|+"
         "|skip_connect~0|none~1|nor_conv_3x3~2|"),
        ("cifar100", 61.18, "|nor_conv_3x3~0|+|nor_conv_1x1~0|nor_conv_3x3~1|+"
         "|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"),
        ("imagenet", 38.2667, "|nor_conv_3x3~0|+|nor_conv_1x1~0|nor_conv_3x3~1|+"
         "|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"),
    ],
)  # fmt: skip
def test_the_published_maxima_are_found(dataset: DataSet, best: float, cell: str) -> None:
    if not os.environ.get(DATA) or not (Path(os.environ[DATA]) / FILE).is_file():
        pytest.skip(f"{DATA} does not name the folder of {FILE}")
    # Each of these networks has one encoding, so that the mean is the accuracy of its line
    table = nasbench201_table(dataset=dataset)
    assert 100 * table.accuracies[table.best] == pytest.approx(best)
    assert SPACE.code(table.best) == cell
    assert (len(table.networks), table.space.size) == (6_466, 15_625)


def test_encodings_of_one_network_share_the_mean_of_their_accuracies(together: Table) -> None:
    table = together
    assert len(table.networks) == 6_466
    # Two convolutions of the input, over node 1 or not: (1, 0, 0, 3, 2, 0) and (1, 0, 0, 2, 3, 0)
    one, other = (1, 0, 0, 3, 2, 0), (1, 0, 0, 2, 3, 0)
    same = [a for a in SPACE if SPACE.topology(a) == SPACE.topology(one)]
    assert {one, other} <= set(same)
    places = [SPACE.index(a) / 20_000 for a in same]
    mean = sum(places) / len(places)
    deviation = (sum((place - mean) ** 2 for place in places) / len(places)) ** 0.5
    for architecture in same:
        assert table.accuracies[architecture] == pytest.approx(mean)
        assert table.seeds[architecture] == pytest.approx(places)
        assert table.deviations[architecture] == pytest.approx(deviation)
    assert len({table.ranks()[a] for a in same}) == 1


def test_encodings_apart_have_the_accuracies_of_their_lines(apart: Table) -> None:
    assert apart.name == "nasbench201-imagenet"
    assert len(apart.networks) == 15_625
    for place in (0, 1, 777, 15_624):
        architecture = SPACE.at(place)
        assert 100 * apart.accuracies[architecture] == pytest.approx(place / 800)
        assert apart.ranks()[architecture] == 15_625 - place


def test_costs_are_those_of_the_data_set(together: Table, apart: Table) -> None:
    all_conv, skips = (3,) * 6, (1,) * 6
    # Golden number 13
    assert (together.params[all_conv], together.params[skips]) == (1_531_546, 73_306)
    # 110 more classes: 65 parameters each; a quarter of the pixels, but for the linear layer
    assert apart.params[all_conv] - together.params[all_conv] == 110 * 65
    assert apart.macs[all_conv] - 64 * 120 == (together.macs[all_conv] - 64 * 10) / 4


def test_a_file_of_ones_own_is_read_under_any_name(
    tmp_path: Path, rows: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = written(tmp_path / "after-200-epochs.csv", rows)
    monkeypatch.setenv(DATA, str(mine))
    table = nasbench201_table(average=False)
    assert table.best == (4,) * 6
    assert "after-200-epochs.csv" in table.source
    assert "12" not in table.source


def test_a_wrong_data_set_is_named(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"dataset must be one of .*, got 'svhn'"):
        nasbench201_table(folder, dataset="svhn")  # type: ignore[arg-type]  # on purpose


def test_a_file_of_another_shape_is_refused(tmp_path: Path, rows: list[list[str]]) -> None:
    def refused(changed: list[list[str]], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            nasbench201_table(written(tmp_path / "changed.csv", changed))

    refused([["arch", "accuracy"]], "must have the columns arch and cifar10-test")
    refused(rows[:-1], "must have 15,625 cells, got 15,624")
    refused([*rows, rows[5]], "must have every cell once")
    refused([HEADER, ["0", rows[1][1], "101", "1", "1"]], r"number in \[0, 100\], got '101'")
    refused([HEADER, ["0", rows[1][1], "", "1", "1"]], r"number in \[0, 100\], got ''")
    refused([HEADER, ["0", "|conv~0|", "50", "1", "1"]], "code must be a cell such as")
    refused([HEADER, ["0", rows[1][1]]], r"number in \[0, 100\], got None")

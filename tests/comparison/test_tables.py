"""Which ground truth a comparison is judged by, with the space and images of it."""

from __future__ import annotations

from itertools import combinations
from math import sqrt
from pathlib import Path
from statistics import fmean

import pytest

from nas_ext.benchmarks import SHIPPED
from nas_ext.benchmarks.measured import MeasuredTable
from nas_ext.comparison.tables import truth
from nas_ext.references import noise_ceiling
from nas_ext.spaces import create

MEASURED = [name for name, make in SHIPPED.items() if isinstance(make(), MeasuredTable)]


def tau_b(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    """Count the pairs, as Kendall 1945 does: (C - D) / sqrt((C + D + T1)(C + D + T2))."""
    agree = ties_of_first = ties_of_second = oppose = 0
    for i, j in combinations(range(len(first)), 2):
        one, two = first[i] - first[j], second[i] - second[j]
        agree += one * two > 0
        oppose += one * two < 0
        ties_of_first += one == 0 != two
        ties_of_second += two == 0 != one
    apart = agree + oppose
    return (agree - oppose) / sqrt((apart + ties_of_first) * (apart + ties_of_second))


@pytest.mark.parametrize("name", MEASURED)
def test_the_ceiling_is_the_mean_tau_of_all_pairs_of_seeds(name: str) -> None:
    table = truth(name).table
    columns = list(zip(*table.seeds.values(), strict=True))
    expected = fmean(tau_b(one, two) for one, two in combinations(columns, 2))
    found = noise_ceiling(table)
    assert found is not None
    assert found.tau == pytest.approx(expected)
    assert not found.simulated


@pytest.mark.parametrize("name", MEASURED)
def test_space_and_images_are_those_of_the_manifest_and_build_the_tables_space(name: str) -> None:
    found = truth(name)
    space = create(num_classes=10, in_chs=1, **found.space)
    assert tuple(space.search_space) == tuple(found.table.space)
    assert (found.data, found.image_size) == ("fashion-mnist", 8)
    for architecture in (found.table.networks[0], found.table.networks[-1]):
        assert found.table.macs[architecture] == space.macs(architecture, image_size=(8, 8))


def test_what_contradicts_the_manifest_is_refused() -> None:
    assert truth("mini-pooling", space={"name": "mini-pooling"}, image_size=8).image_size == 8
    with pytest.raises(ValueError, match=r"space must be .*, which table mini-pooling was"):
        truth("mini-pooling", space={"name": "pooling-resnet20"})
    with pytest.raises(ValueError, match="image_size must be 8, which table mini-pooling was"):
        truth("mini-pooling", image_size=16)
    with pytest.raises(ValueError, match=r"data must be fashion-mnist, .* got digits"):
        truth("mini-pooling", data="digits", image_size=8)


def test_a_table_without_trainings_of_this_package_is_no_ground_truth_here(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"table must be one of \['mini-pooling'"):
        truth("pooling")
    with pytest.raises(ValueError, match="or a CSV of ground-truth"):
        truth(str(tmp_path / "nowhere.csv"))

"""Tables measured by this package."""

from __future__ import annotations

import numpy as np
import pytest

from nas_ext.benchmarks.measured import measured_table
from nas_ext.pooling import PoolingSpace

SPACE = PoolingSpace(layers=3, poolings=1, name="tiny")
TEXT = """name,architecture,macs,parameters,seed0,seed1
"[1,2]",0 1,100,7,80.00,82.00
"[2,1]",1 0,200,7,85.00,86.00
"""


def test_accuracies_are_means_over_the_seeds_as_shares() -> None:
    table = measured_table(TEXT, SPACE, name="tiny", source="made up")
    assert table.accuracies == {(0, 1): pytest.approx(0.81), (1, 0): pytest.approx(0.855)}
    assert table.seeds[(0, 1)] == pytest.approx((0.80, 0.82))
    assert table.deviations[(0, 1)] == pytest.approx(np.sqrt(0.0002))
    assert table.macs == {(0, 1): 100, (1, 0): 200}
    assert not table.params  # the same for all: they order nothing
    assert table.best == (1, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("seed0,seed1", "seed0"), "two or more|columns seed0"),
        (('"[2,1]",1 0,200,7,85.00,86.00\n', ""), r"\[2,1\] is missing"),
        (("1 0,200", "1 1,200"), "line 3 of file.csv is no line of a table"),
        (("85.00", "much"), "line 3 of file.csv is no line of a table"),
        (('"[1,2]"', '"[3]"'), r"line 2 of file.csv must be called \[1,2\]"),
        (("85.00,86.00", "85.00"), r"line 3 of file.csv must be called \[2,1\] and have 2"),
    ],
)
def test_a_damaged_table_is_refused_with_its_line(change: tuple[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measured_table(
            TEXT.replace(*change), SPACE, name="tiny", source="made up", origin="file.csv"
        )


def test_an_empty_file_is_refused() -> None:
    with pytest.raises(ValueError, match="got nothing"):
        measured_table("", SPACE, name="tiny", source="made up")

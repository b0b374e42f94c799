"""Different sums of rows of integers, against counting them one by one."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_ext import partial_sums
from nas_ext.partial_sums import Numbers, added, between, unit_of, united

ROWS = st.lists(
    st.tuples(st.sets(st.integers(-20, 20), max_size=8), st.integers(-5, 5), st.integers(1, 9)),
    max_size=5,
)


@pytest.mark.parametrize("sparse", [partial_sums.SPARSE, 0])
@pytest.mark.parametrize("dtype", [np.int64, object])
@given(rows=ROWS, unit=st.sampled_from([1, 7]))
def test_sums_are_united_and_their_numbers_added(
    rows: list[tuple[set[int], int, int]], unit: int, dtype: type, sparse: int
) -> None:
    kept, partial_sums.SPARSE = partial_sums.SPARSE, sparse  # 0: never a scan of the whole range
    try:
        arrays = [np.array(sorted(s), dtype=np.int64) * unit for s, _, _ in rows]
        moves = [move * unit for _, move, _ in rows]
        counts: list[Numbers] = [
            np.full(len(a), n, dtype=dtype) for a, (_, _, n) in zip(arrays, rows, strict=True)
        ]
        merged = united(list(zip(arrays, moves, strict=True)), unit)
        sums, numbers = added(list(zip(arrays, moves, counts, strict=True)), unit, dtype)
    finally:
        partial_sums.SPARSE = kept
    expected: Counter[int] = Counter()
    for values, move, number in rows:
        for value in values:
            expected[(value + move) * unit] += number
    assert merged.tolist() == sums.tolist() == sorted(expected)
    assert numbers.tolist() == [expected[total] for total in sorted(expected)]
    assert numbers.dtype == dtype


def test_between_holds_both_ends() -> None:
    sums = np.array([1, 4, 6, 9], dtype=np.int64)
    assert sums[between(sums, 4, 6)].tolist() == [4, 6]
    assert sums[between(sums, 5, 5)].tolist() == []
    assert sums[between(sums, -3, 100)].tolist() == [1, 4, 6, 9]


def test_the_unit_divides_all_differences() -> None:
    # By hand: 3, 9 and 15 differ by 6 and 12; 100 and 110 by 10; so sums differ by multiples of 2.
    assert unit_of([[3, 9, 15]]) == 6
    assert unit_of([[3, 9, 15], [100, 110]]) == 2
    assert unit_of([[5], [7]]) == 1
    assert unit_of([]) == 1

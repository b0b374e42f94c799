"""When a ground truth that was measured again is the same but for the noise of seeds."""

from __future__ import annotations

import numpy as np
import pytest

from nas_ext.architecture import Architecture, Choice, SearchSpace
from nas_ext.benchmarks import Table
from nas_ext.comparison.agreement import agreement

SPACE = SearchSpace("line", [Choice("a", tuple(range(20)))])


def table(seed: int, *, spread: float = 0.01, moved: float = 0.0) -> Table:
    """Return 20 architectures with 4 seeds each; the last one is moved by so much."""
    rng = np.random.default_rng(seed)
    rows: dict[Architecture, tuple[float, ...]] = {
        (i,): tuple(rng.normal(0.5 + i * 0.01 + moved * (i == 19), spread, size=4).tolist())
        for i in range(20)
    }
    return Table(
        name="line",
        space=SPACE,
        accuracies={a: float(np.mean(row)) for a, row in rows.items()},
        deviations={},
        seeds=rows,
        source="made up",
    )


def test_a_table_agrees_with_itself_to_the_bit() -> None:
    found = agreement(table(0), table(0))
    assert (found.identical, found.trainings) == (80, 80)
    assert found.largest_difference == 0
    assert found.agrees


def test_independent_measurements_agree_in_nearly_all_cases() -> None:
    # a family of 20 tests at 5 %: 5 of 100 pairs at most but for 3 sd, sqrt(100 * .05 * .95) = 2.2
    outside = [agreement(table(s), table(s + 1000)).outside for s in range(100)]
    assert sum(bool(names) for names in outside) <= 5 + 3 * 2.2


def test_an_architecture_that_moved_is_named() -> None:
    # by .05 with a standard error of .01 sqrt(2 / 4) = .007: seven of them
    found = agreement(table(0), table(1, moved=-0.05))
    assert found.outside == ("19",)
    assert not found.agrees


def test_another_order_does_not_agree_though_every_mean_may_be_noise() -> None:
    flat = table(3, spread=0.05)
    other = Table(
        name="line",
        space=SPACE,
        accuracies={(i,): flat.accuracies[(19 - i,)] for i in range(20)},
        deviations={},
        seeds={(i,): flat.seeds[(19 - i,)] for i in range(20)},
        source="made up",
    )
    found = agreement(flat, other)
    assert found.ceiling is not None
    assert found.tau < found.ceiling
    assert not found.agrees


def test_tables_that_cannot_be_compared_are_refused() -> None:
    none = Table("bare", SPACE, {(i,): 0.5 for i in range(20)}, {}, "made up")
    with pytest.raises(ValueError, match="table 'bare' must have 2 seeds or more"):
        agreement(table(0), none)
    with pytest.raises(ValueError, match=r"confidence must lie in \(0, 1\), got 1"):
        agreement(table(0), table(1), confidence=1)
    small = SearchSpace("small", [Choice("a", (0, 1))])
    other = Table("small", small, {(0,): 0.5, (1,): 0.6}, {}, "made up")
    with pytest.raises(ValueError, match="tables must be of one space"):
        agreement(table(0), other)

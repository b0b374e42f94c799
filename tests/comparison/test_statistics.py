"""Paired tests and average ranks over seeds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import wilcoxon

from nas_ext.comparison import NUMBERS, Judged, contrasts, summaries
from nas_ext.comparison.statistics import average_ranks

NAMES = [metric.name for metric in NUMBERS]


def judged(values: dict[str, list[float]]) -> list[Judged]:
    """Return searches whose every number is the given one, seed by seed."""
    return [
        Judged(name, seed, "x", dict.fromkeys(NAMES, value))
        for name, row in values.items()
        for seed, value in enumerate(row)
    ]


def test_a_difference_is_the_mean_of_the_pairs_and_its_interval_surrounds_it() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=12)
    runs = judged({"uniform": list(base), "better": list(base + 1 + 0.1 * rng.normal(size=12))})
    (found,) = contrasts(runs, reference="uniform", metric="tau")
    assert found.competitor == "better"
    assert found.n == 12
    assert found.low < found.mean < found.high
    assert found.mean == pytest.approx(1, abs=0.15)
    # twelve differences of one sign: 2 / 2^12, the smallest p-value there is
    assert found.p_value == pytest.approx(2 / 4096)
    assert found.significant


def test_the_unpaired_noise_that_seeds_share_does_not_count() -> None:
    base = [0.0, 10.0, 20.0, 30.0, 40.0, 50.0]
    runs = judged({"uniform": base, "other": [b + 1 + b // 10 % 2 for b in base]})
    (found,) = contrasts(runs, reference="uniform", metric="tau")
    assert found.low >= 1.0
    assert found.high <= 2.0


def test_holm_multiplies_the_smallest_p_value_by_the_number_of_tests() -> None:
    rng = np.random.default_rng(1)
    base = rng.normal(size=10)
    rows = {f"c{k}": list(base + k / 3 + rng.normal(size=10)) for k in range(4)}
    found = contrasts(judged({"uniform": list(base), **rows}), reference="uniform", metric="tau")
    p = [
        float(wilcoxon(np.array(row) - base, zero_method="pratt").pvalue) for row in rows.values()
    ]
    assert [one.p_value for one in found] == pytest.approx(p)
    # Holm 1979: sorted p times 4, 3, 2, 1, never falling, at most 1
    order, largest = sorted(range(4), key=lambda i: p[i]), 0.0
    for factor, index in zip((4, 3, 2, 1), order, strict=True):
        largest = max(largest, min(1.0, factor * p[index]))
        assert found[index].adjusted == pytest.approx(largest)


def test_competitors_that_never_differ_have_the_p_value_one() -> None:
    runs = judged({"uniform": [0.1, 0.2, 0.3], "same": [0.1, 0.2, 0.3]})
    (found,) = contrasts(runs, reference="uniform", metric="tau")
    assert (found.mean, found.low, found.high, found.p_value) == (0.0, 0.0, 0.0, 1.0)
    assert not found.significant


def test_nemenyis_critical_difference_is_the_published_one() -> None:
    # Demsar 2006, section 3.2.3: 4 classifiers, 14 data sets, q = 2.569, CD = 1.25
    rng = np.random.default_rng(2)
    found = average_ranks(
        judged({f"c{i}": list(rng.normal(size=14)) for i in range(4)}), metric="tau"
    )
    assert found.critical_difference == pytest.approx(1.25, abs=0.01)
    assert sum(found.ranks.values()) == pytest.approx(10)


def test_rank_one_is_the_best_whether_more_or_less_is_better() -> None:
    rows = {"low": [0.1, 0.2, 0.1], "high": [0.8, 0.9, 0.7], "middle": [0.5, 0.5, 0.5]}
    assert average_ranks(judged(rows), metric="tau").ranks == {"low": 3, "high": 1, "middle": 2}
    assert average_ranks(judged(rows), metric="regret").ranks == {
        "low": 1,
        "high": 3,
        "middle": 2,
    }


def test_a_number_that_a_competitor_does_not_have_is_left_out_of_its_means() -> None:
    runs = [
        Judged("nni", seed, "x", {**dict.fromkeys(NAMES, 0.5), "draws_on_true_top": None})
        for seed in range(2)
    ]
    (found,) = summaries(runs)
    assert set(found.means) == set(NAMES) - {"draws_on_true_top"}


def test_missing_seeds_and_unknown_references_are_refused_by_name() -> None:
    runs = judged({"uniform": [0.1, 0.2, 0.3], "short": [0.1, 0.2]})
    with pytest.raises(ValueError, match=r"short must have the seeds \[0, 1, 2\], got \[0, 1\]"):
        contrasts(runs, reference="uniform", metric="tau")
    with pytest.raises(ValueError, match="reference must be one of"):
        contrasts(runs, reference="nobody", metric="tau")
    with pytest.raises(ValueError, match="at least 3 competitors"):
        average_ranks(runs, metric="tau")
    twice = [*runs, runs[0]]
    with pytest.raises(ValueError, match="uniform 0 twice"):
        summaries(twice)

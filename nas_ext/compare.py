"""How sure a difference is: intervals, tests and rank correlation of a few repeated numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import kendalltau, norm
from scipy.stats import t as student_t

from nas_ext.estimation import FloatArray

__all__ = [
    "Difference",
    "Interval",
    "difference",
    "mean_interval",
    "percent",
    "precision_at",
    "rank_correlation",
    "rank_correlation_interval",
    "share_interval",
    "top_correlation",
    "verdict",
]


@dataclass(frozen=True)
class Interval:
    """Hold a mean and the interval that covers the true one, in the unit of the values.

    `deviation` is the sample's (ddof = 1), `n` the number of values. The "mean +- x" of the
    thesis's Tables 3.1 and 4.1 is another thing: the population deviation of three networks.
    """

    mean: float
    low: float
    high: float
    deviation: float
    n: int


@dataclass(frozen=True)
class Difference:
    """Hold the mean of first minus second, its interval, and the p-value of "no difference"."""

    mean: float
    low: float
    high: float
    p_value: float
    n_first: int
    n_second: int
    paired: bool

    @property
    def exceeds_noise(self) -> bool:
        """Say whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


def mean_interval(values: Sequence[float], *, confidence: float = 0.95) -> Interval:
    """Return the mean with its interval by Student's t.

    Equal values have the deviation 0 and an interval of width 0, exactly. Raises ValueError for
    fewer than two values, values that are not finite, and a confidence outside (0, 1).
    """
    mean, variance, n = _moments("values", values)
    half = _quantile(confidence, n - 1) * math.sqrt(variance / n)
    return Interval(mean, mean - half, mean + half, math.sqrt(variance), n)


def share_interval(hits: int, n: int, *, confidence: float = 0.95) -> Interval:
    """Return the share of hits among n independent trials with Wilson's score interval.

    It stays inside [0, 1] and has a width when all trials or none are hits, where Student's t
    would claim certainty. `deviation` is that of one trial, sqrt(p (1 - p)). Raises ValueError
    for hits outside [0, n] and n under 1.
    """
    if n < 1 or not 0 <= hits <= n:
        raise ValueError(f"hits must lie in [0, n] with n at least 1, got {hits} of {n}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie in (0, 1), got {confidence}")
    z, share = float(norm.ppf((1 + confidence) / 2)), hits / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return Interval(share, min(low, share), max(high, share), math.sqrt(share * (1 - share)), n)


def difference(
    first: Sequence[float],
    second: Sequence[float],
    *,
    paired: bool = False,
    confidence: float = 0.95,
) -> Difference:
    """Compare two means, first minus second, by Welch's t-test or the paired one.

    Pair only values that share their noise, such as two strategies under the same seeds on the
    same table; the values of a pair then have the same place. Where nothing varies there is
    nothing to test: the interval has width 0, and the p-value is 1 for equal means and 0 for
    others. That is a statement about these values, which may be too few to vary.

    Raises ValueError as `mean_interval` does, and for pairs of different number.
    """
    if paired:
        firsts, seconds = _checked("first", first), _checked("second", second)
        if len(firsts) != len(seconds):
            raise ValueError(
                f"second must have one value for each of the {len(firsts)} of first, "
                f"got {len(seconds)}"
            )
        mean, variance, n = _moments("first - second", (firsts - seconds).tolist())
        error, freedom = variance / n, n - 1.0
        sizes = n, n
    else:
        one, two = _moments("first", first), _moments("second", second)
        mean, sizes = one[0] - two[0], (one[2], two[2])
        error, freedom = _welch(one[1] / one[2], two[1] / two[2], *sizes)
    half = _quantile(confidence, freedom) * math.sqrt(error)
    return Difference(
        mean, mean - half, mean + half, _p_value(mean, error, freedom), *sizes, paired
    )


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Return Kendall's tau-b between two scores of the same things.

    Raises ValueError for sides of different length, fewer than two values, values that are not
    finite, and a constant side, which has no order to compare.
    """
    sides = _pair(first, second, names=("first", "second"))
    for name, values in zip(("first", "second"), sides, strict=True):
        if np.ptp(values) == 0:
            raise ValueError(f"{name} must not be constant, got {values[0]} {len(values)} times")
    return float(kendalltau(*sides, variant="b").statistic)


def rank_correlation_interval(
    first: Sequence[float],
    second: Sequence[float],
    *,
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """Return Kendall's tau-b with the percentile interval of a bootstrap over the things scored.

    The interval says how much tau depends on which things were scored, not on the seeds of the
    scores; `deviation` is the standard deviation of the resampled tau, `n` the number of things.
    Resamples that are constant on a side count as 0. Raises ValueError as `rank_correlation` does.
    """
    if resamples < 2:
        raise ValueError(f"resamples must be at least 2, got {resamples}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie in (0, 1), got {confidence}")
    tau = rank_correlation(first, second)
    one, two = _checked("first", first), _checked("second", second)
    rng = np.random.default_rng(seed)
    taus = np.empty(resamples)
    for place in range(resamples):
        drawn = rng.integers(len(one), size=len(one))
        found = kendalltau(one[drawn], two[drawn], variant="b").statistic
        taus[place] = 0.0 if math.isnan(found) else found
    low, high = np.quantile(taus, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(tau, float(low), float(high), float(taus.std(ddof=1)), len(one))


def precision_at(predicted: Sequence[float], truth: Sequence[float], k: int) -> float:
    """Return P@k: the share of the k highest predictions that are among the k highest truths.

    Ties go to the thing that comes first. Raises ValueError as `rank_correlation` does, except
    for constant sides, and for a k outside [1, number of things].
    """
    best = [_highest(scores, k) for scores in _pair(predicted, truth)]
    return len(set(best[0]) & set(best[1])) / k


def top_correlation(
    predicted: Sequence[float],
    truth: Sequence[float],
    k: int,
    *,
    of: Literal["truth", "predicted"] = "truth",
) -> float:
    """Return Kendall's tau-b among the k things that are highest by one side.

    Ties go to the thing that comes first. Raises ValueError as `rank_correlation` does, and for
    a k outside [2, number of things].
    """
    if of not in ("truth", "predicted"):
        raise ValueError(f"of must be 'truth' or 'predicted', got {of!r}")
    one, two = _pair(predicted, truth)
    places = _highest(two if of == "truth" else one, k)
    return rank_correlation(one[places].tolist(), two[places].tolist())


def verdict(
    name_first: str,
    first: Sequence[float],
    name_second: str,
    second: Sequence[float],
    *,
    paired: bool = False,
    unit: str = "points",
) -> str:
    """Say in one sentence which accuracy is higher, by how much, and whether that is noise.

    Accuracies are shares in [0, 1], one for each seed; they are printed in percent and their
    difference in points, which `unit` may call otherwise. Where one decimal would print the end
    of an interval without 0 as 0.0, there are more. Raises ValueError as `difference` does, and
    for values outside [0, 1].
    """
    for name, values in (("first", first), ("second", second)):
        if wrong := [value for value in values if not 0 <= value <= 1]:
            raise ValueError(f"{name} must be shares in [0, 1], got {wrong[0]}")
    found = difference(first, second, paired=paired)
    low, high = (found.low, found.high) if found.mean >= 0 else (-found.high, -found.low)
    digits = 1
    while found.exceeds_noise and digits < 6 and _points(low, digits) == _points(0.0, digits):
        digits += 1
    size = f"{_points(abs(found.mean), digits)} {unit} "
    size += f"[{_points(low, digits)}, {_points(high, digits)}]"
    one = f"{name_first} ({percent(np.mean(first))} %, n = {len(first)})"
    two = f"{name_second} ({percent(np.mean(second))} %, n = {len(second)})"
    relation = "worse than" if found.mean < 0 else "better than"
    if found.mean == 0:
        relation = "from"
    verb = "differs by" if found.mean == 0 else "is"
    interval = "95 % interval of the pairs" if paired else "95 % interval"
    more, contains = ("more", "excludes") if found.exceeds_noise else ("not more", "includes")
    return (
        f"{one} {verb} {size} {relation} {two}: {more} than seed noise ({interval} {contains} 0)."
    )


def percent(share: float | np.floating) -> str:
    """Return a share in percent with one decimal, without the sign."""
    return _points(float(share), 1)


def _points(share: float, digits: int) -> str:
    return f"{round(100 * share, digits) + 0.0:.{digits}f}"  # adding 0.0 turns -0.0 into 0.0


def _checked(name: str, values: Sequence[float]) -> FloatArray:
    """Return the values in float64; raise ValueError unless they are two or more, and finite."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) < 2:
        raise ValueError(f"{name} must be at least 2 values, got {list(values)}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got {array[~np.isfinite(array)][0]}")
    return array


def _pair(
    first: Sequence[float],
    second: Sequence[float],
    *,
    names: tuple[str, str] = ("predicted", "truth"),
) -> tuple[FloatArray, FloatArray]:
    """Return both sides checked; raise ValueError when their lengths differ."""
    sides = _checked(names[0], first), _checked(names[1], second)
    if len(first) != len(second):
        raise ValueError(
            f"{names[1]} must have one value for each of the {len(first)} of {names[0]}, "
            f"got {len(second)}"
        )
    return sides


def _highest(scores: FloatArray, k: int) -> list[int]:
    """Return the places of the k highest scores, ties in their order."""
    if not 1 <= k <= len(scores):
        raise ValueError(f"k must lie in [1, {len(scores)}], got {k}")
    return [int(place) for place in np.argsort(-scores, kind="stable")[:k]]


def _moments(name: str, values: Sequence[float]) -> tuple[float, float, int]:
    """Return mean, variance (ddof = 1) and number; no rounding where all values are equal."""
    array = _checked(name, values)
    if np.ptp(array) == 0:
        return float(array[0]), 0.0, len(array)
    return float(array.mean()), float(array.var(ddof=1)), len(array)


def _welch(first: float, second: float, n_first: int, n_second: int) -> tuple[float, float]:
    """Return the squared standard error and the degrees of freedom, by Welch and Satterthwaite."""
    error = first + second
    if error == 0:
        return 0.0, float(n_first + n_second - 2)
    share = first / error
    return error, 1 / (share**2 / (n_first - 1) + (1 - share) ** 2 / (n_second - 1))


def _quantile(confidence: float, freedom: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie in (0, 1), got {confidence}")
    return float(student_t.ppf((1 + confidence) / 2, freedom))


def _p_value(mean: float, error: float, freedom: float) -> float:
    """Return the two-sided p-value of a mean with this squared standard error."""
    if error == 0:
        return 1.0 if mean == 0 else 0.0
    return float(2 * student_t.sf(abs(mean) / math.sqrt(error), freedom))

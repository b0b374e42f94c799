"""Iterative Proportional Fitting: conditional probabilities whose marginals are uniform."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nas_ext.estimation import FloatArray

__all__ = ["Balance", "Balanced", "NotBalanced", "balance", "conditionals", "divergence"]

REFRESH = 10_000
"""Changes of single rows after which the marginal is summed again from all rows."""


class NotBalanced(RuntimeError):
    """Raised when the fitting has not converged after its largest number of iterations."""


@dataclass(frozen=True)
class Balanced:
    """Hold what the fitting found.

    `probabilities` `[C, M]` are p(m|c), rows that sum to 1; `marginal` `[M]` their mean; `prices`
    `[M]` what is taken off each column, in the unit of the values, with mean 0; `iterations` how
    often the columns were rescaled.
    """

    probabilities: FloatArray
    marginal: FloatArray
    prices: FloatArray
    iterations: int


def conditionals(values: FloatArray, prices: FloatArray, inverse_temperature: float) -> FloatArray:
    """Return p(m|c) of values `[..., M]`: the softmax over the last axis of s (a - price).

    Every row's maximum is subtracted first. The thesis prints the sum over c below the fraction;
    that normalises the wrong axis (D2-1).
    """
    weights, sums = _weights(inverse_temperature * (values - prices).T)
    result: FloatArray = (weights / sums).T
    return result


def divergence(marginal: FloatArray) -> float:
    """Return |KL| in nats of the marginal `[M]` to the uniform one."""
    positive = marginal[marginal > 0.0]
    return abs(float(np.sum(positive * np.log(positive * len(marginal)))))


def balance(
    values: FloatArray,
    inverse_temperature: float,
    *,
    prices: FloatArray | None = None,
    tolerance: float = 1e-4,
    max_iter: int = 10_000,
) -> Balanced:
    """Make the columns of p(m|c) ~ exp(s a_cm) weigh alike while its rows sum to 1.

    `values` are a, `[C, M]`; `prices` `[M]` of an earlier call start the fitting close to its
    end. Columns are divided by their marginal and rows normalised again until the divergence of
    the marginal is at most `tolerance`. At that point single marginals may still be some percent
    off. Raises ValueError for values that are not finite, NotBalanced after `max_iter` iterations.

    Source: section 2.2, equation 2.3, steps (i) to (iv). The start is a softmax over rows, as in
    the published code: the joint one that is printed has the same limit (D2-2), and overflows at
    the temperatures of the end. Here columns are kept as prices and rows are built from them with
    their maximum subtracted, so that any temperature is safe.
    """
    values = np.asarray(values, dtype=np.float64)
    _check(values, inverse_temperature, tolerance, max_iter)
    rows, models = values.shape
    scaled = np.ascontiguousarray(values.T) * inverse_temperature
    found = np.zeros(models) if prices is None else inverse_temperature * prices
    left = math.inf
    for iteration in range(max_iter + 1):
        logits = scaled - found[:, None]
        weights, sums = _weights(logits)
        marginal = weights @ (1.0 / sums) / rows
        left = divergence(marginal)
        if left <= tolerance:
            paid = (found - found.mean()) / inverse_temperature
            return Balanced((weights / sums).T, marginal, paid, iteration)
        found = found + _log_marginal(marginal, logits, sums)
    raise NotBalanced(
        f"the marginals of {rows} rows and {models} columns must come within {tolerance} of "
        f"uniform in {max_iter} iterations, they are {left:.3g} away at inverse temperature "
        f"{inverse_temperature:.6g}"
    )


def _weights(logits: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return exp of `[M, C]` logits and its sums `[C]`; their maxima are taken off in place."""
    logits -= logits.max(axis=0)
    weights = np.exp(logits)
    return weights, weights.sum(axis=0)


def _log_marginal(marginal: FloatArray, logits: FloatArray, sums: FloatArray) -> FloatArray:
    """Return ln p(m), exact for models whose every entry is too small for a float."""
    if marginal.min() > np.finfo(np.float64).tiny:
        return np.log(marginal)
    logs = logits - np.log(sums)
    highest = logs.max(axis=1)
    result: FloatArray = highest + np.log(np.exp(logs - highest[:, None]).mean(axis=1))
    return result


# The same for one row, M numbers: Python's are faster there than NumPy's.


def _shares(row: list[float], prices: list[float], inverse_temperature: float) -> list[float]:
    """Return what `conditionals` does."""
    logits = [
        inverse_temperature * (value - price) for value, price in zip(row, prices, strict=True)
    ]
    highest = max(logits)
    weights = [math.exp(logit - highest) for logit in logits]
    total = sum(weights)
    return [weight / total for weight in weights]


def _divergence(marginal: list[float]) -> float:
    """Return what `divergence` does."""
    models = len(marginal)
    return abs(sum(share * math.log(share * models) for share in marginal if share > 0.0))


def _check(
    values: FloatArray, inverse_temperature: float, tolerance: float, max_iter: int
) -> None:
    if values.ndim != 2 or not values.size:
        raise ValueError(f"values must be [C, M] with C, M of at least 1, got {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError("values must be finite, got NaN or infinity")
    if not 0.0 < inverse_temperature < math.inf:
        raise ValueError(f"inverse_temperature must be positive, got {inverse_temperature}")
    if not 0.0 < tolerance < math.inf:
        raise ValueError(f"tolerance must be positive, got {tolerance}")
    if max_iter < 0:
        raise ValueError(f"max_iter must not be negative, got {max_iter}")


class Balance:
    """Keep a matrix balanced while its entries change one by one.

    A change of one entry moves the marginal by the difference of one row, O(M); the fitting runs
    again, from the prices in hand, only when the divergence exceeds `tolerance`. Every `REFRESH`
    changes the marginal is summed anew, against the drift of rounding. `rebalanced` False leaves
    the prices alone between two calls of `solve`. `values` `[C, M]` are copied; `solves` counts
    the fittings, the first of which is part of the making.
    """

    def __init__(
        self,
        values: FloatArray,
        inverse_temperature: float,
        *,
        tolerance: float = 1e-4,
        max_iter: int = 10_000,
        rebalanced: bool = True,
    ) -> None:
        self.values: FloatArray = np.array(values, dtype=np.float64)
        self.tolerance = tolerance
        self.max_iter = max_iter
        self.rebalanced = rebalanced
        self.prices: FloatArray = np.zeros(np.shape(values)[-1])
        self.solves = 0
        self.solve(inverse_temperature)

    def solve(self, inverse_temperature: float) -> None:
        """Balance the whole matrix at a temperature; raises what `balance` raises."""
        found = balance(
            self.values,
            inverse_temperature,
            prices=self.prices,
            tolerance=self.tolerance,
            max_iter=self.max_iter,
        )
        self.inverse_temperature = inverse_temperature
        self.prices, self.marginal = found.prices, found.marginal
        self.changes = 0
        self.solves += 1

    def probabilities(self) -> FloatArray:
        """Return p(m|c), `[C, M]`."""
        return conditionals(self.values, self.prices, self.inverse_temperature)

    def row(self, index: int) -> FloatArray:
        """Return p(m|c) of one row, `[M]`."""
        return conditionals(self.values[index], self.prices, self.inverse_temperature)

    def set(self, index: int, column: int, value: float) -> None:
        """Change one entry, and balance again when that is called for."""
        row, prices = self.values[index].tolist(), self.prices.tolist()
        before = _shares(row, prices, self.inverse_temperature)
        row[column] = self.values[index, column] = value
        after = _shares(row, prices, self.inverse_temperature)
        count = len(self.values)
        moved = zip(self.marginal.tolist(), before, after, strict=True)
        marginal = [share + (new - old) / count for share, old, new in moved]
        self.marginal = np.asarray(marginal)
        self.changes += 1
        late = self.changes >= REFRESH or _divergence(marginal) > self.tolerance
        if self.rebalanced and late:
            self.solve(self.inverse_temperature)

    def state_dict(self) -> dict[str, Any]:
        """Return everything but the values as numbers and lists."""
        return {
            "prices": self.prices.tolist(),
            "marginal": self.marginal.tolist(),
            "inverse_temperature": self.inverse_temperature,
            "changes": self.changes,
            "solves": self.solves,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned; the values are the caller's to restore."""
        self.prices = np.asarray(state["prices"], dtype=np.float64)
        self.marginal = np.asarray(state["marginal"], dtype=np.float64)
        self.inverse_temperature = float(state["inverse_temperature"])
        self.changes = int(state["changes"])
        self.solves = int(state["solves"])

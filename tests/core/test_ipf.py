"""Fitting conditional probabilities to uniform marginals, at every temperature."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp

from nas_ext import ipf
from nas_ext.estimation import FloatArray
from nas_ext.ipf import Balance, NotBalanced, balance, conditionals, divergence

COLDEST = 100.0 * 8  # the inverse of the last temperature of 8 models, 1/(100 M)


def noise(rows: int, models: int = 8, *, spread: float = 0.1, seed: int = 0) -> FloatArray:
    return 0.8 + spread * np.random.default_rng(seed).standard_normal((rows, models))


def biased(rows: int, models: int = 8, *, seed: int = 0) -> FloatArray:
    """Models of which each is better than the one before, on all rows."""
    return noise(rows, models, spread=0.02, seed=seed) + 0.05 * np.arange(models)


def in_log_domain(joint: FloatArray, tolerance: float) -> tuple[FloatArray, list[float]]:
    """The equations (ii) to (iv) of section 2.2 from a joint start, written down as printed."""
    logs = joint - logsumexp(joint)
    seen = []
    while True:
        logs = logs - logsumexp(logs, axis=1, keepdims=True)
        marginal = logsumexp(logs, axis=0) - math.log(len(logs))
        seen.append(abs(float(np.sum(np.exp(marginal) * (marginal + math.log(len(marginal)))))))
        if seen[-1] <= tolerance:
            return np.exp(logs), seen
        logs = logs - marginal


def test_two_by_two_has_the_closed_form() -> None:
    # sqrt(ad) / (sqrt(ad) + sqrt(bc)) for exp(s a) = [[a, b], [c, d]] = [[4, 1], [1, 1]]: 2/3
    values = np.log([[4.0, 1.0], [1.0, 1.0]])
    for scale in (1.0, 10.0, 800.0):
        found = balance(values / scale, scale, tolerance=1e-14)
        assert found.probabilities == pytest.approx(np.array([[2, 1], [1, 2]]) / 3, abs=1e-6)


@pytest.mark.parametrize("models", [1, 2, 3, 8])
def test_equal_values_need_no_iteration(models: int) -> None:
    found = balance(np.ones((36, models)), 400.0)
    assert found.iterations == 0
    assert found.probabilities == pytest.approx(np.full((36, models), 1 / models), abs=1e-15)


def test_a_constant_on_a_row_or_a_column_changes_nothing() -> None:
    values, scale = noise(36, 4), 50.0
    found = balance(values, scale, tolerance=1e-13).probabilities
    rng = np.random.default_rng(1)
    for added in (rng.normal(size=(36, 1)), rng.normal(size=(1, 4))):
        again = balance(values + added, scale, tolerance=1e-13).probabilities
        assert again == pytest.approx(found, abs=1e-5)  # KL 1e-13: sqrt(2 KL) is 4e-7


def test_a_joint_start_gives_the_same_matrix() -> None:
    # D2-2: the printed start is a softmax over both indices
    values = noise(36, 4)
    expected, _ = in_log_domain(60.0 * values, 1e-13)
    found = balance(values, 60.0, tolerance=1e-13).probabilities
    assert found == pytest.approx(expected, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(2, 12),
    st.integers(2, 5),
    st.floats(1.0, 300.0),
    st.integers(0, 2**31),
    st.booleans(),
)
def test_it_takes_the_steps_of_the_equations(
    rows: int, models: int, scale: float, seed: int, bias: bool
) -> None:
    values = (biased if bias else noise)(rows, models, seed=seed)
    expected, seen = in_log_domain(scale * values, 1e-4)
    found = balance(values, scale)
    assert found.iterations == len(seen) - 1
    assert found.probabilities == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("rows", [36, 500])
def test_it_stops_at_the_first_matrix_that_is_balanced_enough(rows: int) -> None:
    values = biased(rows)
    found = balance(values, 100.0)
    assert divergence(found.marginal) <= 1e-4
    assert found.iterations > 1
    _, seen = in_log_domain(100.0 * values, 1e-4)
    assert seen[-1] <= 1e-4 < seen[-2]
    assert found.iterations == len(seen) - 1
    with pytest.raises(NotBalanced, match=f"they are {seen[-2]:.3g} away"):
        balance(values, 100.0, max_iter=found.iterations - 1)


@pytest.mark.parametrize("make", [noise, biased])
@pytest.mark.parametrize("rows", [36, 6561, 100_000])
def test_it_converges_at_the_last_temperature_of_eight_models(
    rows: int, make: Callable[[int], FloatArray]
) -> None:
    found = balance(make(rows), COLDEST)
    assert found.probabilities.shape == (rows, 8)
    assert np.isfinite(found.probabilities).all()
    assert np.isfinite(found.prices).all()
    assert divergence(found.probabilities.mean(axis=0)) < 1e-4
    # pitfall 1: p(m|c) sums to 1 over the models of a row
    assert np.abs(found.probabilities.sum(axis=1) - 1.0).max() < 1e-14


def test_a_model_that_is_worse_everywhere_by_more_than_a_float_can_say_gets_its_share() -> None:
    # exp(-800) is 0 in float64: dividing by the column's marginal would divide by zero
    values = np.zeros((6, 3))
    values[:, 1], values[:, 2] = 1.0, 0.4
    found = balance(values, COLDEST)
    assert found.probabilities == pytest.approx(np.full((6, 3), 1 / 3), abs=1e-12)
    # prices are in the unit of the values: they take the differences away
    assert found.prices - found.prices[0] == pytest.approx(np.array([0.0, 1.0, 0.4]))


def test_single_precision_values_are_balanced_in_double() -> None:
    # pitfall 4: in single precision the entries vanish at tau of .01 already
    values = noise(36).astype(np.float32)
    found = balance(values, COLDEST)  # type: ignore[arg-type]  # a caller without types
    assert found.probabilities.dtype == np.float64
    assert found.iterations == balance(values.astype(np.float64), COLDEST).iterations


def test_prices_of_the_last_temperature_are_a_shorter_way_to_the_next() -> None:
    values, prices = biased(36), None
    warm = cold = 0
    for tau in np.linspace(1.0, 1.0 / COLDEST, 100):
        found = balance(values, 1.0 / tau, prices=prices)
        prices = found.prices
        warm += found.iterations
        cold += balance(values, 1.0 / tau).iterations
    assert warm < cold / 2


def test_fitting_that_does_not_end_says_so() -> None:
    with pytest.raises(NotBalanced, match=r"36 rows and 8 columns .* in 3 iterations, they are"):
        balance(biased(36), COLDEST, max_iter=3)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"values": np.ones(3)}, r"values must be \[C, M\] with C, M of at least 1, got \(3,\)"),
        ({"values": np.ones((3, 0))}, r"values must be \[C, M\]"),
        ({"values": np.array([[math.nan, 1.0]])}, "values must be finite"),
        ({"values": np.array([[math.inf, 1.0]])}, "values must be finite"),
        ({"inverse_temperature": 0.0}, "inverse_temperature must be positive, got 0.0"),
        ({"inverse_temperature": math.nan}, "inverse_temperature must be positive, got nan"),
        ({"inverse_temperature": math.inf}, "inverse_temperature must be positive, got inf"),
        ({"tolerance": 0.0}, "tolerance must be positive, got 0.0"),
        ({"tolerance": math.nan}, "tolerance must be positive, got nan"),
        ({"max_iter": -1}, "max_iter must not be negative, got -1"),
    ],
)
def test_wrong_arguments_are_named(changed: dict[str, object], message: str) -> None:
    given = {"values": np.ones((3, 2)), "inverse_temperature": 1.0, **changed}
    with pytest.raises(ValueError, match=message):
        balance(**given)  # type: ignore[arg-type]  # wrong on purpose


def changes(count: int, rows: int, models: int, seed: int = 3) -> list[tuple[int, int, float]]:
    rng = np.random.default_rng(seed)
    return [
        (int(rng.integers(rows)), int(rng.integers(models)), float(rng.random()))
        for _ in range(count)
    ]


def moved(matrix: Balance, count: int) -> None:
    rows, models = matrix.values.shape
    for row, column, reward in changes(count, rows, models):
        matrix.set(row, column, 0.95 * float(matrix.values[row, column]) + 0.05 * reward)


@pytest.mark.parametrize("rows", [5, 36, 300])
def test_a_changed_row_moves_the_marginal_without_another_pass(rows: int) -> None:
    matrix = Balance(noise(rows, 4), 60.0)
    for row, column, value in changes(400, rows, 4):
        matrix.set(row, column, 0.95 * float(matrix.values[row, column]) + 0.05 * value)
        whole = conditionals(matrix.values, matrix.prices, 60.0)
        assert matrix.marginal == pytest.approx(whole.mean(axis=0), abs=1e-12)
        assert divergence(matrix.marginal) <= 1e-4
        assert matrix.row(row) == pytest.approx(whole[row], abs=1e-15)
        assert (matrix.probabilities() == whole).all()
    assert 1 < matrix.solves < 300


def test_a_large_matrix_is_hardly_ever_balanced_again() -> None:
    matrix = Balance(noise(6561), 100.0)
    moved(matrix, 200)  # the first fitting ends just within the tolerance: one may follow
    assert matrix.solves <= 2


def test_rounding_does_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ipf, "REFRESH", 50)
    matrix = Balance(noise(6561), 10.0)
    moved(matrix, 120)
    assert matrix.solves == 3
    assert matrix.changes == 20


def test_without_rebalancing_the_prices_stay() -> None:
    matrix = Balance(noise(9, 3), 60.0, rebalanced=False)
    prices = matrix.prices.copy()
    moved(matrix, 100)
    assert (matrix.prices == prices).all()
    assert matrix.solves == 1
    assert divergence(matrix.marginal) > 1e-4
    matrix.solve(60.0)
    assert divergence(matrix.marginal) <= 1e-4
    assert (matrix.prices != prices).all()


def test_fitting_begins_at_the_prices_in_hand() -> None:
    values = noise(20, 3)
    exact = balance(values, 60.0, tolerance=1e-13).prices
    matrix = Balance(values, 60.0)
    assert np.abs(matrix.prices - exact).max() > 1e-6
    matrix.load_state_dict({**matrix.state_dict(), "prices": exact.tolist()})
    matrix.solve(60.0)
    assert matrix.prices == pytest.approx(exact, abs=1e-15)


def test_a_restored_matrix_goes_on_bit_for_bit() -> None:
    one = Balance(noise(20, 3), 30.0)
    moved(one, 37)
    state = json.loads(json.dumps(one.state_dict()))
    two = Balance(one.values, 1.0)
    two.load_state_dict(state)
    moved(one, 50)
    moved(two, 50)
    assert (one.values == two.values).all()
    assert one.state_dict() == two.state_dict()
    assert (one.probabilities() == two.probabilities()).all()


def test_the_callers_values_stay_as_they_were() -> None:
    values = noise(5, 2)
    before = values.copy()
    moved(Balance(values, 5.0), 10)
    assert (values == before).all()

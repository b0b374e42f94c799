"""Acceptance by the distance to prototypes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from nas_ext.architecture import Architecture, Choice, SearchSpace
from nas_ext.estimation import FloatArray
from nas_ext.kmeans import unit_rows
from nas_ext.samplers import Sampler, UniformSampler
from nas_ext.samplers.prototype import WINDOW, PrototypeSampler, cluster, densities
from nas_ext.testing import SamplerContract, small_space

SPACE = small_space()
TABLE = np.random.default_rng(0).normal(size=(18, 6))
LARGE = SearchSpace("large", [Choice(f"layer{i}", tuple("abc")) for i in range(30)])


def represent(architectures: Sequence[Architecture]) -> FloatArray:
    return np.asarray(TABLE[[SPACE.index(a) for a in architectures]])


def make(seed: int = 0, **settings: Any) -> PrototypeSampler:
    rng = np.random.default_rng(seed)
    centres, recent = cluster(SPACE, rng, represent, prototypes=4, samples=40)
    given = {"represent": represent, "prototypes": centres, "recent": recent, "rate": 0.001}
    return PrototypeSampler(SPACE, rng, **{**given, **settings})


def ask(made: PrototypeSampler, times: int) -> list[Architecture]:
    return [made.ask()[0] for _ in range(times)]


class TestPrototypes(SamplerContract):
    def make(self, rng: np.random.Generator) -> Sampler:
        def rows(architectures: Sequence[Architecture]) -> FloatArray:
            return np.asarray([[1.0, *a] for a in architectures])

        centres, recent = cluster(self.space, rng, rows, prototypes=4, samples=40)
        return PrototypeSampler(
            self.space, rng, represent=rows, prototypes=centres, recent=recent, rate=0.001
        )


def test_density_is_the_inverse_of_the_mean_distance_to_all_prototypes() -> None:
    rows, centres = unit_rows(TABLE), unit_rows(TABLE[:3])
    # D5-7: over K, not K - 1
    expected = [1 / np.mean([1 - row @ c for c in centres]) for row in rows]
    np.testing.assert_allclose(densities(rows, centres), expected, rtol=1e-12)
    np.testing.assert_allclose(densities(np.ones((1, 1)), np.ones((2, 1))), [1e6])  # clamped


def test_the_dense_half_is_accepted_less_than_the_sparse_half() -> None:
    made = make()
    middle = float(np.median(densities(unit_rows(TABLE), made.prototypes)))
    # sigmoid(0) at the median; one median absolute deviation more or less is e times the odds
    assert made.acceptance(middle) == pytest.approx(0.5)
    deviation = float(np.median(np.abs(densities(unit_rows(TABLE), made.prototypes) - middle)))
    assert made.acceptance(middle + deviation) == pytest.approx(1 / (1 + np.e))
    assert made.acceptance(middle - deviation) == pytest.approx(1 / (1 + 1 / np.e))
    raw = make(scaled=False, temperature=0.1)
    assert raw.acceptance(middle + 0.1) == pytest.approx(1 / (1 + np.e))


def test_sparse_architectures_are_drawn_more_often() -> None:
    made = make(rate=0.0, temperature=0.5)
    values = densities(unit_rows(TABLE), made.prototypes)
    counts = np.zeros(18)
    for architecture in ask(made, 3000):
        counts[SPACE.index(architecture)] += 1
    # With prototypes at rest p is proportional to the acceptance at the stationary median.
    expected = np.asarray([made.acceptance(value) for value in values])
    expected *= 3000 / expected.sum()
    assert counts[values < np.median(values)].sum() > 0.65 * 3000
    # 5 sigma of a count of 3000 draws are at most 5 sqrt(3000 * .25 * .75) = 119
    assert np.abs(counts - expected).max() < 119


def test_about_half_of_the_proposals_are_accepted_and_all_are_counted() -> None:
    made = make()
    ask(made, 800)
    numbers = made.diagnostics()
    assert 0.4 < numbers["acceptance"] < 0.6
    assert numbers["proposals"] == made.proposals > 800


def test_alpha_mid_follows_densities_that_drift() -> None:
    # Pitfall 22: a middle fixed at the beginning would reject everything once all are denser.
    made = make(rate=0.0)
    for _ in range(WINDOW):
        made._recent.add(1e-3)
    ask(made, 1200)
    assert 0.2 < np.mean(list(made._accepted)[-300:]) < 0.8


def moved(made: PrototypeSampler, row: FloatArray) -> FloatArray:
    before = made.prototypes.copy()
    made._move(row, np.maximum(1 - before @ row, 0.0))
    return np.asarray(np.linalg.norm(made.prototypes - before, axis=1))


def test_the_printed_update_moves_the_farthest_prototype_most() -> None:
    # D5-8, equation 5.8: beta_k is proportional to d^2
    row = unit_rows(TABLE[7:8])[0]
    printed, inverse = make(update="printed"), make(update="inverse")
    distances = 1 - printed.prototypes @ row
    assert moved(printed, row)[distances.argmax()] > moved(printed, row)[distances.argmin()]
    steps = moved(inverse, row) / distances
    assert steps.argmax() == distances.argmin()


def test_one_printed_step_is_the_equation() -> None:
    centres = np.eye(3)[:2]
    made = make(prototypes=centres, rate=0.5, recent=[1.0])
    row = np.asarray([0.6, 0.0, 0.8])
    made._move(row, 1 - centres @ row)
    # d = (.4, 1): beta = (.16, 1) / 1.16; c + .5 beta (z - c), brought back to length 1
    beta = np.asarray([0.16, 1.0]) / 1.16
    expected = centres + 0.5 * beta[:, None] * (row - centres)
    np.testing.assert_allclose(made.prototypes, unit_rows(expected), rtol=1e-12)


def test_rejected_proposals_move_the_prototypes_too() -> None:
    made = make(rate=0.5)
    made.acceptance = lambda density: 0.0  # type: ignore[method-assign]  # nothing passes
    before = made.prototypes.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(RuntimeError, match="none of 10,000 proposals"):
            made.ask()
    assert (made.prototypes != before).any()
    assert made.proposals == 10 * WINDOW


def test_prototypes_that_contract_are_warned_of_once() -> None:
    # Pitfall 22: iterated, the printed update draws all prototypes to the mean.
    made = make(rate=0.5)
    with pytest.warns(UserWarning, match="prototypes have contracted") as caught:
        ask(made, 300)
    assert len(caught) == 1
    assert made.diagnostics()["prototype_spread"] < 0.5


def test_prototypes_at_rest_are_not_warned_of() -> None:
    made = make(rate=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ask(made, 1500)
    assert made.diagnostics()["prototype_spread"] == 1.0


def test_acceptance_that_runs_away_is_warned_of() -> None:
    made = make(rate=0.0)
    made.acceptance = lambda density: 0.1  # type: ignore[method-assign]  # a tenth passes
    with pytest.warns(UserWarning, match=r"acceptance of the last 1,000 proposals is 0\.\d+"):
        ask(made, 200)


def test_where_all_are_equally_dense_half_is_accepted() -> None:
    def same(architectures: Sequence[Architecture]) -> FloatArray:
        return np.tile([1.0, 1.0, 0.0], (len(architectures), 1))

    made = make(represent=same, prototypes=np.eye(3), recent=[1.0], rate=0.0)
    ask(made, 1000)
    # 1,000 acceptances of a fair coin: 5 sigma of their share are .08
    assert made.diagnostics()["acceptance"] == pytest.approx(0.5, abs=0.08)


def test_a_large_space_is_clustered_from_uniform_draws() -> None:
    asked: list[int] = []

    def one_hot(architectures: Sequence[Architecture]) -> FloatArray:
        asked.append(len(architectures))
        rows: FloatArray = np.eye(3)[np.asarray(architectures)].reshape(len(architectures), -1)
        return rows

    rng = np.random.default_rng(0)
    centres, recent = cluster(LARGE, rng, one_hot, prototypes=5, samples=50)
    assert (centres.shape, recent.shape, asked) == ((5, 90), (50,), [50])
    np.testing.assert_allclose(np.linalg.norm(centres, axis=1), 1.0)
    made = PrototypeSampler(LARGE, rng, represent=one_hot, prototypes=centres, recent=recent)
    assert all(architecture in LARGE for architecture in ask(made, 20))
    assert len(made.candidates(50)) == 50


def test_a_small_space_is_clustered_whole() -> None:
    _, recent = cluster(SPACE, np.random.default_rng(0), represent, prototypes=4, samples=18)
    assert len(recent) == 18


def test_rewards_of_the_warm_up_are_not_forgotten() -> None:
    warm = UniformSampler(SPACE, np.random.default_rng(0))
    warm.tell((1, 0, 1), 0.9)
    assert make(previous=warm).candidates(1) == ((1, 0, 1),)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0.0}, "temperature must be positive, got 0.0"),
        ({"rate": 1.5}, r"rate must lie in \[0, 1\], got 1.5"),
        ({"rate": float("nan")}, r"rate must lie in \[0, 1\], got nan"),
        ({"update": "soft"}, "update must be 'printed' or 'inverse', got 'soft'"),
        ({"recent": []}, "recent must hold the density of some architecture, got none"),
        ({"prototypes": np.ones((1, 6))}, r"prototypes must be \[K, D\], K at least 2"),
        ({"prototypes": np.ones((3, 6))}, "prototypes must differ, got 3 alike"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**settings)

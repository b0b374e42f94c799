"""Uniform proposals, accepted the more likely the farther they are from the prototypes."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from scipy.special import expit

from nas_ext.architecture import Architecture, SearchSpace
from nas_ext.density import mean_cosine
from nas_ext.estimation import FloatArray
from nas_ext.kmeans import kmeans, unit_rows
from nas_ext.samplers.base import Sampler, distinct
from nas_ext.samplers.uniform import UniformSampler

__all__ = ["PrototypeSampler", "Represent", "Update", "cluster", "densities"]

Represent: TypeAlias = Callable[[Sequence[Architecture]], FloatArray]
"""Return `[N, D]` representations as the weights stand now."""

Update: TypeAlias = Literal["printed", "inverse"]

WINDOW = 1_000
"""Proposals whose densities settle what is dense, and whose acceptance is watched."""

WATCH = 100
"""Proposals between two looks at the prototypes."""

SMALLEST = 1e-6
"""Mean distances are clamped here before they are inverted."""


class PrototypeSampler(UniformSampler):
    """Draw uniformly, and accept with probability sigmoid((alpha_mid - alpha) / temperature).

    alpha = 1 / mean_k d(z, c_k) is the density at a proposal's representation z, with cosine
    distances to the K prototypes `[K, D]`; alpha_mid the median over the last 1,000 proposals
    (`recent`: those known at the beginning), so that about half are accepted; the temperature is
    in units of their median absolute deviation unless `scaled` is False. Every proposal moves
    the prototypes by `rate` * beta_k (z - c_k), accepted or not; only accepted ones are returned
    and trained. beta_k is proportional to d^2 ("printed") or to 1 / d^2 ("inverse").

    Section 5.3, algorithm 5.2, equation 5.8. alpha_mid is not defined there (D5-5), nor the scale
    of the temperature (D5-6); the mean is over all K prototypes, not K - 1 (D5-7); the printed
    beta moves the *farthest* prototype most, so that they contract (D5-8): warns when their mean
    distance falls under half of what it was, and when fewer than 20 % or more than 80 % of the
    last proposals were accepted.
    """

    def __init__(
        self,
        space: SearchSpace,
        rng: np.random.Generator,
        *,
        represent: Represent,
        prototypes: FloatArray,
        recent: Sequence[float] | FloatArray,
        temperature: float = 1.0,
        rate: float = 0.05,
        update: Update = "printed",
        scaled: bool = True,
        previous: Sampler | None = None,
    ) -> None:
        super().__init__(space, rng)
        if prototypes.ndim != 2 or len(prototypes) < 2:
            raise ValueError(f"prototypes must be [K, D], K at least 2, got {prototypes.shape}")
        if not len(recent):
            raise ValueError("recent must hold the density of some architecture, got none")
        if not 0 < temperature < np.inf:
            raise ValueError(f"temperature must be positive, got {temperature}")
        if not 0 <= rate <= 1:
            raise ValueError(f"rate must lie in [0, 1], got {rate}")
        if update not in ("printed", "inverse"):
            raise ValueError(f"update must be 'printed' or 'inverse', got {update!r}")
        self.represent = represent
        self.temperature = temperature
        self.rate = rate
        self.update: Update = update
        self.scaled = scaled
        self.prototypes = unit_rows(prototypes)
        self.proposals = 0
        self._recent = _Window(recent)
        self._accepted: deque[bool] = deque(maxlen=WINDOW)
        self._spread = self._mean_spread()
        if not self._spread > 0:
            raise ValueError(f"prototypes must differ, got {len(prototypes)} alike")
        self._warned: set[str] = set()
        if isinstance(previous, UniformSampler):
            self._told = dict(previous._told)

    def ask(self) -> tuple[Architecture, ...]:
        """Return the next accepted proposal.

        Raises RuntimeError after ten windows of proposals that were all rejected.
        """
        for _ in range(10 * WINDOW):
            proposal = self.space.draw(self.rng)
            row = unit_rows(np.asarray(self.represent((proposal,)), dtype=np.float64))[0]
            distances = np.maximum(1.0 - self.prototypes @ row, 0.0)
            density = 1.0 / max(float(distances.mean()), SMALLEST)
            accepted = bool(self.rng.random() < self.acceptance(density))
            self._recent.add(density)
            self._accepted.append(accepted)
            self._move(row, distances)
            self.proposals += 1
            self._watch()
            if accepted:
                return (proposal,)
        raise RuntimeError(f"none of {10 * WINDOW:,} proposals was accepted: raise temperature")

    def acceptance(self, density: float) -> float:
        """Return the probability that a proposal of this density is accepted."""
        recent = self._recent.values
        middle = _median(recent)
        unit = _median(np.abs(recent - middle)) if self.scaled else 1.0
        unit = max(unit, 1e-12 * middle)  # where all are equally dense, rounding is no difference
        return float(expit((middle - density) / (self.temperature * unit)))

    def _move(self, row: FloatArray, distances: FloatArray) -> None:
        squares = distances**2
        weights = squares if self.update == "printed" else 1.0 / (squares + 1e-12)
        total = weights.sum()
        if total > 0:  # else the proposal lies on every prototype: nowhere to move
            steps = (self.rate * weights / total)[:, None] * (row - self.prototypes)
            self.prototypes = unit_rows(self.prototypes + steps)

    def _mean_spread(self) -> float:
        return float(mean_cosine(self.prototypes).mean())

    def diagnostics(self) -> dict[str, float]:
        """Return acceptance over the last proposals and prototype spread against the beginning.

        Acceptance is 1 before the first proposal.
        """
        return {
            "acceptance": float(np.mean(self._accepted)) if self._accepted else 1.0,
            "prototype_spread": self._mean_spread() / self._spread,
            "proposals": float(self.proposals),
        }

    def _watch(self) -> None:
        if self.proposals % WATCH:
            return
        numbers = self.diagnostics()
        if numbers["prototype_spread"] < 0.5:
            self._warn(
                f"prototypes have contracted to {numbers['prototype_spread']:.2f} of their "
                "distances: lower the rate, or cluster again now and then"
            )
        full = len(self._accepted) == WINDOW
        if full and not 0.2 <= numbers["acceptance"] <= 0.8:
            self._warn(
                f"acceptance of the last {WINDOW:,} proposals is {numbers['acceptance']:.2f}: "
                "densities no longer tell them apart"
            )

    def _warn(self, message: str) -> None:
        kind = message.split()[0]
        if kind not in self._warned:
            self._warned.add(kind)
            warnings.warn(message, stacklevel=4)

    def _state(self) -> dict[str, Any]:
        return {
            **super()._state(),
            "prototypes": self.prototypes.tolist(),
            "recent": self._recent.by_age(),
            "accepted": list(self._accepted),
            "proposals": self.proposals,
            "spread": self._spread,
        }

    def _load_state(self, state: dict[str, Any]) -> None:
        super()._load_state(state)
        self.prototypes = np.asarray(state["prototypes"], dtype=np.float64)
        self._recent = _Window(state["recent"])
        self._accepted = deque(map(bool, state["accepted"]), maxlen=WINDOW)
        self.proposals = int(state["proposals"])
        self._spread = float(state["spread"])


class _Window:
    """Hold the last `WINDOW` numbers in an array, whose order does not matter to a median."""

    def __init__(self, numbers: Sequence[float] | FloatArray) -> None:
        self.values: FloatArray = np.array(numbers, dtype=np.float64)[-WINDOW:]
        self._oldest = 0

    def add(self, number: float) -> None:
        """Take a number, in the place of the oldest one when the window is full."""
        if len(self.values) < WINDOW:
            self.values = np.append(self.values, number)
            return
        self.values[self._oldest] = number
        self._oldest = (self._oldest + 1) % WINDOW

    def by_age(self) -> list[float]:
        """Return the numbers, the oldest first."""
        ordered: list[float] = np.roll(self.values, -self._oldest).tolist()
        return ordered


def _median(numbers: FloatArray) -> float:
    """Return the median; as `np.median`, which takes longer than everything around it."""
    high = len(numbers) // 2
    low = (len(numbers) - 1) // 2
    parted = np.partition(numbers, (low, high))
    return float(parted[low] + parted[high]) / 2


def cluster(
    space: SearchSpace,
    rng: np.random.Generator,
    represent: Represent,
    *,
    prototypes: int,
    samples: int,
) -> tuple[FloatArray, FloatArray]:
    """Return `[K, D]` prototypes of uniformly drawn architectures, and their densities.

    `samples` are drawn, repetitions dropped; a space of no more is taken whole. Spherical k-means
    with a k-means++ start. Raises ValueError when fewer than K representations differ.
    """
    if space.size <= samples:
        drawn = space.enumerate(samples)
    else:
        drawn = distinct(space.draw(rng) for _ in range(samples))
    rows = unit_rows(np.asarray(represent(drawn), dtype=np.float64))
    centres = kmeans(rows, prototypes, rng, spherical=True)
    return centres, densities(rows, centres)


def densities(rows: FloatArray, prototypes: FloatArray) -> FloatArray:
    """Return 1 / mean cosine distance of unit rows to the prototypes, `[N]`."""
    return np.asarray(1.0 / np.maximum(1.0 - rows @ prototypes.mean(axis=0), SMALLEST))

"""What may be asked about architectures as the weights stand now."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from nas_ext.architecture import Architecture

__all__ = ["FloatArray", "PerformanceEstimator", "ProxyEstimator", "ProxyName", "check_reward"]

FloatArray: TypeAlias = NDArray[np.float64]

ProxyName: TypeAlias = Literal["synflow", "naswot", "grad-norm"]
"""Scores that a network gets without training."""


@runtime_checkable
class PerformanceEstimator(Protocol):
    """Answer questions about architectures: a supernet by running them, a table by looking up.

    The plural methods are the contract: an implementation may share work across architectures.
    """

    def reward(self, architecture: Architecture) -> float:
        """Return the share in [0, 1] that the architecture gets right of the next batch."""
        ...

    def accuracies(
        self, architectures: Sequence[Architecture], *, batches: int | None = None
    ) -> FloatArray:
        """Return `[N]` shares in [0, 1] on the validation set, the same images for all.

        `batches` takes so many from its beginning; None takes all of them.
        """
        ...

    def outputs(self, architectures: Sequence[Architecture]) -> FloatArray:
        """Return `[N, S, C]` logits on one fixed validation batch of S samples, C classes."""
        ...

    def reinitialise(self) -> None:
        """Start the weights again from a fresh random state, where there are weights."""
        ...


@runtime_checkable
class ProxyEstimator(Protocol):
    """Score architectures without training them: what an estimator with a network may add."""

    def proxy(self, name: ProxyName, architectures: Sequence[Architecture]) -> FloatArray:
        """Return `[N]` scores, higher meaning better, and leave the weights as they are."""
        ...


def check_reward(reward: float) -> float:
    """Return the reward as a float; raise ValueError unless it lies in [0, 1].

    A percentage would make every softmax temperature a hundred times too sharp, and a NaN would
    turn a search into something else without a word.
    """
    value = float(reward)
    if math.isnan(value) or not 0.0 <= value <= 1.0:
        raise ValueError(f"reward must be a share in [0, 1], got {value}")
    return value

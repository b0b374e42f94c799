"""A balanced mixture of supernets: which architecture to train, in which of M supernets."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_ext.architecture import Architecture
from nas_ext.estimation import FloatArray
from nas_ext.ipf import Balance, divergence
from nas_ext.reward_shaping import RelativeReward
from nas_ext.samplers.base import Sampler
from nas_ext.samplers.mixture_space import MixtureSpace
from nas_ext.schedule import Schedule

__all__ = ["MixtureSampler", "TabularMixtureSampler"]


class MixtureSampler(Sampler):
    """Draw c ~ U, then a supernet m ~ p(m|c), and keep the supernets equally busy.

    a_cm is the moving average of the rewards of architecture c in supernet m, `initial` before
    the first: a' = decay a + (1 - decay) r. p(m|c) ~ exp(s a_cm), balanced by Iterative
    Proportional Fitting so that every supernet has the same share of all draws. Unvisited cells
    keep the initial value; where that is 1, no reward beats it, and late in a search they attract
    their row: every cell is tried.

    `inverse_temperature` is s at each step. It is looked up every `hold` steps, and the whole
    matrix is balanced then. In between, `rebalanced` balances it again whenever a reward put the
    divergence above `tolerance`; without, the prices of the last time are applied to the current
    values, as the published code does within an epoch. `limit` is the largest space: the matrix
    has a row for each architecture. With one supernet every draw is that of `UniformSampler`.
    Section 2.2.
    """

    space: MixtureSpace

    def __init__(
        self,
        space: MixtureSpace,
        rng: np.random.Generator,
        *,
        inverse_temperature: Schedule,
        decay: float = 0.95,
        initial: float = 1.0,
        hold: int = 1,
        rebalanced: bool = True,
        tolerance: float = 1e-4,
        limit: int = 100_000,
        relative: RelativeReward | None = None,
    ) -> None:
        super().__init__(space, rng, relative=relative)
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay must lie in [0, 1), got {decay}")
        if not 0.0 <= initial <= 1.0:
            raise ValueError(f"initial must lie in [0, 1], got {initial}")
        if hold < 1:
            raise ValueError(f"hold must be at least 1, got {hold}")
        space.base.check_enumerable(limit)
        self.inverse_temperature = inverse_temperature
        self.decay = decay
        self.initial = initial
        self.hold = hold
        self.step = 0
        shape = (space.base.size, space.models)
        self.visits = np.zeros(shape, dtype=np.int64)
        self.balance = Balance(
            np.full(shape, initial),
            inverse_temperature(0),
            tolerance=tolerance,
            rebalanced=rebalanced,
        )

    def ask(self) -> tuple[Architecture, ...]:
        self.advance()
        chosen = self.space.base.draw(self.rng)
        return (self.space.place(chosen, self.supernet(chosen)),)

    def advance(self) -> None:
        """Count a step, and balance the matrix when the temperature changes at it."""
        if self.step % self.hold == 0:
            self.balance.solve(self.inverse_temperature(self.step))
        self.step += 1

    def supernet(self, architecture: Architecture) -> int:
        """Draw a supernet for an architecture of the base."""
        if self.space.models == 1:
            return 0
        shares = np.cumsum(self._row(self.space.base.index(architecture)))
        return int(np.searchsorted(shares[:-1], self.rng.random() * shares[-1], side="right"))

    def _row(self, index: int) -> FloatArray:
        """Return p(m|c) of one architecture, `[M]`."""
        return self.balance.row(index)

    def _update(self, architecture: Architecture, reward: float) -> None:
        inner, supernet = self.space.split(architecture)
        row = self.space.base.index(inner)
        before = float(self.balance.values[row, supernet])
        self.visits[row, supernet] += 1
        self.balance.set(row, supernet, self.decay * before + (1.0 - self.decay) * reward)

    def candidates(self, count: int) -> tuple[Architecture, ...]:
        """Return each architecture once, in its supernet m*(c) = argmax p(m|c), highest a first.

        Supernets in which an architecture was never trained are left out of its argmax. More
        architectures than `count` are ranked before the evaluation by their value a in m*(c),
        from which the initial value is taken out first (ours: else few visits would look like
        many right answers); those never trained come last, or not at all in a space larger than
        `count`. Raises ValueError there when no reward was told.
        """
        best = self.members()
        known = self.visits.sum(axis=1) > 0
        rows = np.flatnonzero(known)
        if not rows.size and self.space.base.size > count:
            raise ValueError("a reward must be told before candidates are named, got none")
        kept = self.decay ** self.visits[rows, best[rows]].astype(np.float64)
        values = (self.balance.values[rows, best[rows]] - kept * self.initial) / (1.0 - kept)
        order = rows[np.argsort(-values, kind="stable")]
        if self.space.base.size <= count:
            order = np.concatenate([order, np.flatnonzero(~known)])
        base = self.space.base
        return tuple(self.space.place(base.at(int(c)), int(best[c])) for c in order[:count])

    def members(self) -> NDArray[np.int64]:
        """Return the supernet of each architecture, `[C]`: argmax p(m|c) among those it trained.

        Among all for an architecture that was never trained; ties to the lowest number.
        """
        tried = self.visits > 0
        open_to = tried | ~tried.any(axis=1, keepdims=True)
        return np.asarray(np.where(open_to, self.probabilities(), -1.0).argmax(axis=1))

    def probabilities(self) -> FloatArray:
        """Return p(m|c), `[C, M]`, in the order of the base."""
        return self.balance.probabilities()

    def learned(self) -> dict[str, Any]:
        """Return what the mixture is by now as JSON values: see `nas_ext.saved_mixture`."""
        return {
            "models": self.space.models,
            "probabilities": self.probabilities().tolist(),
            "members": self.members().tolist(),
            "values": self.balance.values.tolist(),
            "visits": self.visits.tolist(),
            "prices": self.balance.prices.tolist(),
            "inverse_temperature": self.balance.inverse_temperature,
        }

    def diagnostics(self) -> dict[str, float]:
        """Return the temperature, the KL divergence of p(m) to uniform that the fitting left in
        nats, and the mean over c of max p(m|c): 1/M where supernets are alike, 1 where each
        architecture has its own.
        """
        return {
            "temperature": 1.0 / self.balance.inverse_temperature,
            "divergence": divergence(self.balance.marginal),
            "specialisation": float(self.probabilities().max(axis=1).mean()),
        }

    def _state(self) -> dict[str, Any]:
        cells = [
            [int(c), int(m), float(self.balance.values[c, m]), int(self.visits[c, m])]
            for c, m in np.argwhere(self.visits > 0)
        ]
        return {"step": self.step, "cells": cells, "balance": self.balance.state_dict()}

    def _load_state(self, state: dict[str, Any]) -> None:
        self.step = int(state["step"])
        self.visits[:] = 0
        self.balance.values[:] = self.initial
        for row, supernet, value, visits in state["cells"]:
            self.balance.values[row, supernet] = value
            self.visits[row, supernet] = visits
        self.balance.load_state_dict(state["balance"])


class TabularMixtureSampler(Sampler):
    """Run a mixture where architectures have no supernets, on a table.

    It asks for architectures of the base. Those that a table knows are worth the same in every
    supernet, so the supernet is drawn from p(m|c) when a reward is told, for whoever drew the
    architecture. What a table shows of a mixture is this alone: draws are uniform, as in
    training, and the rewards of an architecture are spread over the supernets.
    """

    def __init__(self, mixture: MixtureSampler) -> None:
        super().__init__(mixture.space.base, mixture.rng)
        self.mixture = mixture

    def ask(self) -> tuple[Architecture, ...]:
        self.mixture.advance()
        return (self.space.draw(self.rng),)

    def _update(self, architecture: Architecture, reward: float) -> None:
        placed = self.mixture.space.place(architecture, self.mixture.supernet(architecture))
        self.mixture.tell(placed, reward)

    def candidates(self, count: int) -> tuple[Architecture, ...]:
        """Return the architectures of `MixtureSampler.candidates`, their supernets left out."""
        return tuple(self.mixture.space.split(a)[0] for a in self.mixture.candidates(count))

    def diagnostics(self) -> dict[str, float]:
        """Return those of the mixture."""
        return self.mixture.diagnostics()

    def _state(self) -> dict[str, Any]:
        return {"mixture": self.mixture.state_dict()}

    def _load_state(self, state: dict[str, Any]) -> None:
        self.mixture.load_state_dict(state["mixture"])

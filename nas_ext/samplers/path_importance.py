"""Sampling the options of a layer by the gradients they receive."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nas_ext.architecture import Architecture, SearchSpace
from nas_ext.product_law import ProductLaw
from nas_ext.samplers.uniform import UniformSampler

__all__ = ["PathImportanceSampler"]


class PathImportanceSampler(UniformSampler):
    """Draw the options of each choice by running norms of their gradients.

    Within an epoch `learn` moves the norm of each option that was trained, g <- (g + norm) / 2
    from g = 0, so that the first one counts half; an option without parameters has no norm and
    stays at 0. `end_epoch` makes of them the law of the next epoch,
    p_l(o) = tau g_l[o] / sum_o g_l[o] + (1 - tau) / m_l, uniform over the m_l options of a choice
    where nothing had a gradient, and starts the norms again. The product over choices is
    conditioned on the architecture's existence.

    Draws are uniform over architectures until the first `end_epoch`, and for ever when nobody
    calls it, as on a table. Rewards do for `candidates` what they do in `UniformSampler`.
    Section 4.3, with a law for each choice: the source has one for all edges of a cell.
    """

    def __init__(self, space: SearchSpace, rng: np.random.Generator) -> None:
        super().__init__(space, rng)
        self.norms = [[0.0] * len(choice.options) for choice in space.choices]
        self.tau = 0.0
        self._set(self._uniform())

    @property
    def probabilities(self) -> tuple[tuple[float, ...], ...]:
        """Return p_l(o) of the current epoch, before the conditioning."""
        return tuple(tuple(row) for row in self._rows)

    def ask(self) -> tuple[Architecture, ...]:
        return (self._law.draw(self.rng),)

    def learn(self, architecture: Architecture, norms: Sequence[float]) -> None:
        """Take the gradient norms of the options that an architecture trained, one a choice.

        A norm of 0 changes nothing. Raises ValueError unless they are finite and not negative.
        """
        self.space.check(architecture)
        if len(norms) != len(self.norms):
            raise ValueError(f"norms must be {len(self.norms)} numbers, got {len(norms)}")
        wrong = [norm for norm in norms if not 0.0 <= norm < math.inf]
        if wrong:
            raise ValueError(f"norms must be finite and not negative, got {wrong[0]}")
        for row, option, norm in zip(self.norms, architecture, norms, strict=True):
            if norm > 0:
                row[option] = (row[option] + float(norm)) / 2

    def end_epoch(self, tau: float) -> None:
        """Draw from now on by the norms of the epoch, with a share of `tau`, and forget them.

        Raises ValueError for a share outside [0, 1).
        """
        if not 0.0 <= tau < 1.0:
            raise ValueError(f"tau must lie in [0, 1), got {tau}")
        rows = []
        for norms, uniform in zip(self.norms, self._uniform(), strict=True):
            total = math.fsum(norms)
            rows.append(
                [tau * g / total + (1 - tau) * u for g, u in zip(norms, uniform, strict=True)]
                if total > 0
                else uniform
            )
        self.tau = tau
        self.norms = [[0.0] * len(row) for row in rows]
        self._set(rows)

    def diagnostics(self) -> dict[str, float]:
        """Return tau, and the largest probability of an option over its uniform one."""
        largest = max(max(row) * len(row) for row in self._rows)
        return {"tau": self.tau, "largest_ratio": largest}

    def _uniform(self) -> list[list[float]]:
        return [[1 / len(row)] * len(row) for row in self.norms]

    def _set(self, rows: list[list[float]]) -> None:
        self._rows = rows
        self._law = ProductLaw(self.space, [[math.log(p) for p in row] for row in rows])

    def _state(self) -> dict[str, Any]:
        rows = [list(row) for row in self._rows]
        norms = [list(row) for row in self.norms]
        return {**super()._state(), "norms": norms, "probabilities": rows, "tau": self.tau}

    def _load_state(self, state: dict[str, Any]) -> None:
        super()._load_state(state)
        self.norms = [[float(g) for g in row] for row in state["norms"]]
        self.tau = float(state["tau"])
        self._set([[float(p) for p in row] for row in state["probabilities"]])

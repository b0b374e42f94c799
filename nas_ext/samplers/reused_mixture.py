"""A mixture whose architectures were shared out among the supernets before."""

from __future__ import annotations

from typing import Any

import numpy as np

from nas_ext.estimation import FloatArray
from nas_ext.ipf import divergence
from nas_ext.reward_shaping import RelativeReward
from nas_ext.samplers.mixture import MixtureSampler
from nas_ext.samplers.mixture_space import MixtureSpace

__all__ = ["ReusedMixtureSampler"]


class ReusedMixtureSampler(MixtureSampler):
    """Draw c ~ U, then a supernet from a law p(m|c) that no reward changes.

    `probabilities` `[C, M]` are those of an earlier search, in the order of the base. Running
    rewards are kept as in `MixtureSampler`, for `candidates`; there is no temperature and nothing
    to balance. Ours.
    """

    def __init__(
        self,
        space: MixtureSpace,
        rng: np.random.Generator,
        *,
        probabilities: FloatArray,
        decay: float = 0.95,
        initial: float = 1.0,
        limit: int = 100_000,
        relative: RelativeReward | None = None,
    ) -> None:
        super().__init__(
            space,
            rng,
            inverse_temperature=lambda step: 1.0,
            decay=decay,
            initial=initial,
            rebalanced=False,
            limit=limit,
            relative=relative,
        )
        law = np.asarray(probabilities, dtype=np.float64)
        if law.shape != (space.base.size, space.models):
            raise ValueError(
                f"probabilities must be [{space.base.size}, {space.models}], got {law.shape}"
            )
        if not ((law >= 0).all() and np.allclose(law.sum(axis=1), 1.0)):
            raise ValueError("probabilities must be shares that sum to 1 for each architecture")
        self._law = law

    def advance(self) -> None:
        """Count a step."""
        self.step += 1

    def probabilities(self) -> FloatArray:
        return self._law

    def _row(self, index: int) -> FloatArray:
        return np.asarray(self._law[index])

    def diagnostics(self) -> dict[str, float]:
        """Return divergence and specialisation of the law, see `MixtureSampler`."""
        return {
            "divergence": divergence(self._law.mean(axis=0)),
            "specialisation": float(self._law.max(axis=1).mean()),
        }

    def learned(self) -> dict[str, Any]:
        """Return what the mixture is; prices and temperature are those of no search."""
        return {**super().learned(), "prices": None, "inverse_temperature": None}

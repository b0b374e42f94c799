"""Sampling the training samples by how wrong the network is about them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["DataImportance", "error_norms"]


def error_norms(logits: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.float64]:
    """Return `[B]` scores ||softmax(z) - onehot(y)||_2 in [0, sqrt 2] of logits `[B, C]`.

    The norm of the gradient of the cross-entropy with respect to the logits. Section 4.3. Raises
    ValueError for other shapes, labels that are no class, or logits that are not finite.
    """
    z, y = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    if z.ndim != 2 or y.shape != z.shape[:1] or not np.issubdtype(y.dtype, np.integer):
        raise ValueError(
            f"logits must be [B, C] for integer labels [B], got {list(z.shape)} and "
            f"{y.dtype} {list(y.shape)}"
        )
    if len(y) and not 0 <= y.min() <= y.max() < z.shape[1]:
        raise ValueError(
            f"labels must lie in [0, {z.shape[1]}), got {int(y.min())} to {int(y.max())}"
        )
    if not np.isfinite(z).all():
        raise ValueError("logits must be finite, got NaN or infinity")
    error = np.exp(z - z.max(axis=1, keepdims=True))
    error /= error.sum(axis=1, keepdims=True)
    error[np.arange(len(y)), y] -= 1.0
    return np.asarray(np.linalg.norm(error, axis=1), dtype=np.float64)


class DataImportance:
    """Hold q, the law of the training samples, numbered by position in the training subset.

    Positions, not numbers of the data set behind the subset. A score of an epoch is the first one
    of a sample, then the mean of it and the next; who was not seen scores 0. `end_epoch` makes of
    them q_i = tau s_i / sum(s) + (1 - tau) / n, uniform where all scores are 0, and forgets them.
    The first epoch is an ordinary one, each sample once; the next ones are n draws from q with
    replacement. Section 4.3.
    """

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"size must be at least 1, got {size}")
        self.size = size
        self._scores: NDArray[np.float64] = np.zeros(size)
        self._seen = np.zeros(size, dtype=bool)
        self._probabilities: NDArray[np.float64] = np.full(size, 1.0 / size)
        self._drawn = False

    @property
    def scores(self) -> NDArray[np.float64]:
        """Return the scores of the epoch so far, `[n]`."""
        return np.array(self._scores, dtype=np.float64)

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """Return q of the current epoch, `[n]`."""
        return np.array(self._probabilities, dtype=np.float64)

    def learn(self, positions: Sequence[int], scores: NDArray[np.float64]) -> None:
        """Take the scores of a batch, in its order; a position may occur twice.

        Raises ValueError for a position that does not exist, or scores that are not finite and
        not negative, one each.
        """
        if len(positions) != len(scores):
            raise ValueError(f"scores must be {len(positions)} numbers, got {len(scores)}")
        if len(positions) and not 0 <= min(positions) <= max(positions) < self.size:
            raise ValueError(
                f"positions must lie in [0, {self.size}), got {min(positions)} to {max(positions)}"
            )
        if not (np.isfinite(scores).all() and (np.asarray(scores) >= 0).all()):
            raise ValueError("scores must be finite and not negative, got others")
        for position, score in zip(positions, scores, strict=True):
            if self._seen[position]:
                self._scores[position] = (self._scores[position] + score) / 2
            else:
                self._scores[position], self._seen[position] = score, True

    def end_epoch(self, tau: float) -> None:
        """Draw from now on by the scores of the epoch, with a share of `tau`.

        Raises ValueError for a share outside [0, 1).
        """
        if not 0.0 <= tau < 1.0:
            raise ValueError(f"tau must lie in [0, 1), got {tau}")
        total = float(self._scores.sum())
        uniform = np.full(self.size, 1.0 / self.size)
        if total > 0:
            self._probabilities = tau * self._scores / total + (1 - tau) * uniform
        else:
            self._probabilities = uniform
        self._scores = np.zeros(self.size)
        self._seen = np.zeros(self.size, dtype=bool)
        self._drawn = True

    def positions(self, uniforms: NDArray[np.float64]) -> list[int]:
        """Return the positions of an epoch, `[n]`, from n numbers drawn from [0, 1)."""
        if uniforms.shape != (self.size,):
            raise ValueError(f"uniforms must be [{self.size}], got {list(uniforms.shape)}")
        if not self._drawn:
            return [int(i) for i in np.argsort(uniforms, kind="stable")]
        cumulated = np.cumsum(self._probabilities)
        found = np.searchsorted(cumulated / cumulated[-1], uniforms, side="right")
        return [int(i) for i in np.minimum(found, self.size - 1)]

    def state_dict(self) -> dict[str, Any]:
        """Return scores and law as lists."""
        return {
            "scores": self._scores.tolist(),
            "seen": self._seen.tolist(),
            "probabilities": self._probabilities.tolist(),
            "drawn": self._drawn,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; ValueError for another number of samples."""
        if len(state["scores"]) != self.size:
            raise ValueError(
                f"training set must have the {len(state['scores'])} samples of the checkpoint, "
                f"got {self.size}"
            )
        self._scores = np.asarray(state["scores"], dtype=np.float64)
        self._seen = np.asarray(state["seen"], dtype=bool)
        self._probabilities = np.asarray(state["probabilities"], dtype=np.float64)
        self._drawn = bool(state["drawn"])

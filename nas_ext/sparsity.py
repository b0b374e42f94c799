"""Laws of sampling that favour whoever is far from the others."""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq
from scipy.special import softmax

from nas_ext.estimation import FloatArray

__all__ = ["perplexity", "probabilities", "temperature_for"]


def probabilities(sparsity: FloatArray, *, temperature: float) -> FloatArray:
    """Return softmax(sparsity / temperature), `[N]`: equation 5.7."""
    _check(sparsity)
    if not 0 < temperature < np.inf:
        raise ValueError(f"temperature must be positive, got {temperature}")
    return np.asarray(softmax((sparsity - sparsity.max()) / temperature), dtype=np.float64)


def perplexity(law: FloatArray) -> float:
    """Return exp(entropy) as a share of the N outcomes: 1 is uniform, 1/N a single one."""
    positive = law[law > 0]
    return float(np.exp(-(positive * np.log(positive)).sum()) / len(law))


def temperature_for(sparsity: FloatArray, *, perplexity: float) -> float:
    """Return the temperature at which `probabilities` has this perplexity, a share in (0, 1).

    Raises ValueError when no temperature does: all values equal give the uniform law at any, and
    k equal largest ones never less than k / N.
    """
    _check(sparsity)
    if not 0 < perplexity < 1:
        raise ValueError(f"perplexity must lie in (0, 1), got {perplexity}")
    spread = float(np.ptp(sparsity))
    if spread <= 1e-12 * float(np.abs(sparsity).max()):
        raise ValueError(
            f"perplexity must be 1 where all {len(sparsity)} architectures are equally far from "
            f"the others, got {perplexity}"
        )

    def missing(exponent: float) -> float:
        return _perplexity_at(sparsity, spread * 10.0**exponent) - perplexity

    if missing(-6.0) > 0:
        raise ValueError(
            f"perplexity must be at least {_perplexity_at(sparsity, spread * 1e-6):.4g}, the "
            f"share of those that are equally far from the others, got {perplexity}"
        )
    exponent: float = brentq(missing, -6.0, 6.0, xtol=1e-12)
    return float(spread * 10.0**exponent)


def _perplexity_at(sparsity: FloatArray, temperature: float) -> float:
    return perplexity(probabilities(sparsity, temperature=temperature))


def _check(sparsity: FloatArray) -> None:
    if sparsity.ndim != 1 or not len(sparsity) or not np.isfinite(sparsity).all():
        raise ValueError(f"sparsity must be finite numbers [N], got {sparsity}")

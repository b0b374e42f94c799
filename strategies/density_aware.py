"""Density-aware sampling: train most what is least like the rest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from scipy.special import softmax

from nas_ext.architecture import ENUMERABLE
from nas_ext.density import (
    log_density,
    mean_cosine,
    mean_cross_entropy,
    mean_hamming,
    mean_kl,
    mean_of_condensed,
)
from nas_ext.estimation import FloatArray
from nas_ext.kmeans import unit_rows
from nas_ext.oneshot import SampledStrategy, Supernet
from nas_ext.oneshot.representations import activation_rows, gradient_rows
from nas_ext.samplers import UniformSampler
from nas_ext.samplers.weighted import WeightedSampler
from nas_ext.schedule import check_shares, split
from nas_ext.search import Phase, Setting
from nas_ext.similarity import l2
from nas_ext.sparsity import probabilities, temperature_for

__all__ = ["DensityAware"]

INSIDE = ("gradient", "representational")
DISTANCES = ("cosine", "l2", "kl", "cross-entropy", *INSIDE, "encoding")


@dataclass(kw_only=True, eq=False)
class DensityAware(SampledStrategy):
    """Sample architectures by how far they are from all others, in an enumerable space.

    Two phases: uniform training, a sixth of the steps; then all architectures are compared once
    and drawn with p(a) = softmax(`scale` * d_a / `temperature`), d_a the mean distance to all
    others (`density="mean"`) or the inverse of a Gaussian kernel density ("kde", with
    `bandwidth`, None the median distance). The weights go on; no rewards are asked, the law is
    fixed. At the end all are ranked unless `candidates` is a number.

    `distance`: "cosine" on logits is the functional one, of the thesis; "l2", "kl" and
    "cross-entropy" are on class probabilities; "gradient" compares gradients of the shared
    weights, "representational" the activations of `layers` by CKA; "encoding" is the share of
    layers that differ, needs no network and serves tables. (In a free product of choices all
    encodings are equally far from the others, and the law is uniform.)

    `mode` "perplexity" finds the temperature at which exp(entropy) is `perplexity` times the size
    of the space; a good range is .5 to .9. Perplexity and largest share are in the sampler's
    diagnostics; one architecture with more than half of the draws is warned of.

    Source: section 5.2, algorithm 5.1, equations 5.5 to 5.7. Readings: cosine distances lie in
    [0, 2], where the published temperature of 5 is uniform sampling by another name, so they
    count in percent, `scale` 100 (D5-1); the law is exponential in the distance, not inversely
    proportional to density as the text says (D5-2). The results printed for this method differ
    between tables and are no targets (D5-3, D5-4). The shares are those of the pooling
    experiment, 50 of 300 epochs; NAS-Bench-Macro had 20 of 50.
    """

    asks_rewards: ClassVar[bool] = False

    candidates: int | None = None
    distance: Literal[
        "cosine", "l2", "kl", "cross-entropy", "gradient", "representational", "encoding"
    ] = "cosine"
    density: Literal["mean", "kde"] = "mean"
    bandwidth: float | None = None
    mode: Literal["temperature", "perplexity"] = "temperature"
    temperature: float = 5.0
    scale: float = 100.0
    perplexity: float = 0.7
    layers: tuple[str, ...] = ()
    max_architectures: int = ENUMERABLE
    shares: tuple[float, float] = (1 / 6, 5 / 6)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.distance not in DISTANCES:
            raise ValueError(f"distance must be one of {list(DISTANCES)}, got {self.distance!r}")
        if self.density not in ("mean", "kde"):
            raise ValueError(f"density must be 'mean' or 'kde', got {self.density!r}")
        if self.density == "kde" and self.distance not in ("cosine", "l2"):
            raise ValueError(f"density 'kde' needs distance cosine or l2, got {self.distance!r}")
        if self.mode not in ("temperature", "perplexity"):
            raise ValueError(f"mode must be 'temperature' or 'perplexity', got {self.mode!r}")
        if (self.distance == "representational") != bool(self.layers):
            raise ValueError(
                "layers must name modules for distance 'representational' and for no other, "
                f"got {list(self.layers)} for {self.distance!r}"
            )
        positive = {"temperature": self.temperature, "scale": self.scale}
        for name, value in {**positive, "bandwidth": self.bandwidth}.items():
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive, got {value}")
        if not 0 < self.perplexity < 1:
            raise ValueError(f"perplexity must lie in (0, 1), got {self.perplexity}")
        if self.max_architectures < 1:
            raise ValueError(f"max_architectures must be at least 1, got {self.max_architectures}")
        check_shares(self.shares, 2)
        self.layers = tuple(self.layers)

    def phases(self, steps: int) -> tuple[Phase, ...]:
        warm, search = split(steps, self.shares)
        return (
            Phase("uniform warm-up", warm, self._uniform),
            Phase("density-aware", search, self._weighted),
        )

    def _uniform(self, setting: Setting) -> UniformSampler:
        setting.space.check_enumerable(self.max_architectures)
        if self.distance in INSIDE:
            self._supernet(setting)
        return UniformSampler(setting.space, setting.rng)

    def _weighted(self, setting: Setting) -> WeightedSampler:
        restored = setting.restoring
        law = self.law(setting) if restored is None else restored["probabilities"]
        return WeightedSampler(
            setting.space, setting.rng, probabilities=law, previous=setting.previous
        )

    def law(self, setting: Setting) -> FloatArray:
        """Return the probability of each architecture `[N]` as the weights stand now."""
        sparsity = self.scale * self.sparsity(setting)
        temperature = self.temperature
        if self.mode == "perplexity":
            temperature = temperature_for(sparsity, perplexity=self.perplexity)
        return probabilities(sparsity, temperature=temperature)

    def sparsity(self, setting: Setting) -> FloatArray:
        """Return how far each architecture is from the others, `[N]`: 1 / alpha, unscaled."""
        space = setting.space
        architectures = space.enumerate(self.max_architectures)
        if self.distance == "encoding":
            rows = np.stack([space.encoding(architecture) for architecture in architectures])
            return np.asarray(mean_hamming(rows) / rows.shape[1])
        if self.distance == "gradient":
            return gradient_rows(self._supernet(setting), architectures).mean_distance()
        if self.distance == "representational":
            supernet = self._supernet(setting)
            return activation_rows(supernet, architectures, self.layers).mean_distance()
        logits = setting.estimator.outputs(architectures)
        if self.density == "kde":
            return self._inverse_kernel_density(logits)
        if self.distance == "kl":
            return mean_kl(logits)
        if self.distance == "cross-entropy":
            return mean_cross_entropy(logits)
        if self.distance == "l2":
            return mean_of_condensed(l2(logits))
        return mean_cosine(logits.reshape(len(logits), -1))

    def _inverse_kernel_density(self, logits: FloatArray) -> FloatArray:
        if self.distance == "cosine":
            rows = unit_rows(logits.reshape(len(logits), -1))
        else:
            scaled = softmax(logits, axis=-1) / math.sqrt(logits.shape[1])
            rows = scaled.reshape(len(logits), -1)
        return np.asarray(np.exp(-log_density(rows, bandwidth=self.bandwidth)))

    def _supernet(self, setting: Setting) -> Supernet:
        if not isinstance(setting.estimator, Supernet):
            raise ValueError(
                f"distance {self.distance!r} needs a supernet, "
                f"got {type(setting.estimator).__name__}: take 'encoding' for a table"
            )
        return setting.estimator

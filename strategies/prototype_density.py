"""Density-aware sampling for spaces too large to be listed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from nas_ext.architecture import Architecture
from nas_ext.estimation import FloatArray
from nas_ext.oneshot import SampledStrategy
from nas_ext.samplers import UniformSampler
from nas_ext.samplers.prototype import PrototypeSampler, Represent, cluster
from nas_ext.schedule import check_shares, check_steps, split
from nas_ext.search import Phase, Setting

__all__ = ["PrototypeDensity"]

MOST_SAMPLES = 2_000


@dataclass(kw_only=True, eq=False)
class PrototypeDensity(SampledStrategy):
    """Sample architectures that are far from the prototypes of the space.

    After uniform training, `samples` architectures drawn uniformly run on one validation batch;
    spherical k-means makes `prototypes` of their logits. Then uniform proposals are accepted the
    more likely the farther they are from the prototypes, see `PrototypeSampler`; proposals move
    the prototypes at `rate`, and only accepted ones are trained: steps count accepted draws
    (D5-9). About half are accepted, so each step costs about two forward passes of a validation
    batch; the thesis reports 4 % more time with at most 128 images in it. With `rounds` above 1
    the second part is cut in so many, each with new prototypes from the weights as they stand.

    `samples` None is ten for each prototype, at most 2,000. `temperature` is in units of the
    median absolute deviation of the densities; `scaled=False` takes them as they are.
    `representation` "encoding" takes one-hot options in place of logits: it needs no network and
    serves tables.

    Source: section 5.3, algorithm 5.2, table 5.4 (100 prototypes are enough). Not in the thesis,
    hence ours: alpha_mid (D5-5), the scale of the temperature (D5-6), the divisor K (D5-7), the
    rate, and the share of warm-up, that of its NAS-Bench-Macro runs. `update="printed"` is
    equation 5.8 as it stands, which contracts the prototypes to the mean of the space (D5-8)
    within some K / rate proposals; "inverse", a soft assignment, does so more slowly; more
    `rounds` undo it. The sizes of its spaces are printed with slips (D5-10, D5-11).
    """

    asks_rewards: ClassVar[bool] = False

    prototypes: int = 100
    samples: int | None = None
    rate: float = 0.05
    temperature: float = 1.0
    update: Literal["printed", "inverse"] = "printed"
    scaled: bool = True
    representation: Literal["logits", "encoding"] = "logits"
    rounds: int = 1
    shares: tuple[float, float] = (0.4, 0.6)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prototypes < 2:
            raise ValueError(f"prototypes must be at least 2, got {self.prototypes}")
        if self.samples is not None and self.samples < self.prototypes:
            raise ValueError(
                f"samples must be at least the {self.prototypes} prototypes, got {self.samples}"
            )
        if self.samples is None and self.prototypes > MOST_SAMPLES:
            raise ValueError(f"samples must be given for {self.prototypes} prototypes, got None")
        if not 0 <= self.rate <= 1:
            raise ValueError(f"rate must lie in [0, 1], got {self.rate}")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature must be positive, got {self.temperature}")
        if self.update not in ("printed", "inverse"):
            raise ValueError(f"update must be 'printed' or 'inverse', got {self.update!r}")
        if self.representation not in ("logits", "encoding"):
            raise ValueError(
                f"representation must be 'logits' or 'encoding', got {self.representation!r}"
            )
        if self.rounds < 1:
            raise ValueError(f"rounds must be at least 1, got {self.rounds}")
        check_shares(self.shares, 2)

    def phases(self, steps: int) -> tuple[Phase, ...]:
        warm, after = self.shares
        check_steps(steps, self.rounds + 1)
        parts = split(steps, (warm, *[after / self.rounds] * self.rounds))
        names = (
            [f"density {i + 1}" for i in range(self.rounds)] if self.rounds > 1 else ["density"]
        )
        later = [
            Phase(name, part, self._prototypes)
            for name, part in zip(names, parts[1:], strict=True)
        ]
        return (Phase("uniform warm-up", parts[0], self._uniform), *later)

    def _uniform(self, setting: Setting) -> UniformSampler:
        if setting.space.size < self.prototypes:
            raise ValueError(
                f"prototypes must be at most the {setting.space.size} architectures of space "
                f"{setting.space.name!r}, got {self.prototypes}"
            )
        return UniformSampler(setting.space, setting.rng)

    def _prototypes(self, setting: Setting) -> PrototypeSampler:
        represent = self._represent(setting)
        if setting.restoring is not None:
            centres = np.asarray(setting.restoring["prototypes"], dtype=np.float64)
            recent = np.asarray(setting.restoring["recent"], dtype=np.float64)
        else:
            samples = self.samples or min(10 * self.prototypes, MOST_SAMPLES)
            centres, recent = cluster(
                setting.space, setting.rng, represent, prototypes=self.prototypes, samples=samples
            )
        return PrototypeSampler(
            setting.space,
            setting.rng,
            represent=represent,
            prototypes=centres,
            recent=recent,
            temperature=self.temperature,
            rate=self.rate,
            update=self.update,
            scaled=self.scaled,
            previous=setting.previous,
        )

    def _represent(self, setting: Setting) -> Represent:
        if self.representation == "logits":

            def logits(architectures: Sequence[Architecture]) -> FloatArray:
                outputs = setting.estimator.outputs(architectures)
                return outputs.reshape(len(outputs), -1)

            return logits
        eyes = [np.eye(len(choice.options)) for choice in setting.space.choices]

        def one_hot(architectures: Sequence[Architecture]) -> FloatArray:
            rows = [
                np.concatenate([eye[option] for eye, option in zip(eyes, a, strict=True)])
                for a in architectures
            ]
            return np.stack(rows)

        return one_hot

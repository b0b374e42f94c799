"""A balanced mixture of supernets."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from nas_ext.oneshot import OnTrainingBatch
from nas_ext.oneshot.mixture import MixtureStrategy
from nas_ext.samplers import Sampler, UniformSampler
from nas_ext.samplers.mixture import MixtureSampler, TabularMixtureSampler
from nas_ext.samplers.mixture_space import MixtureSpace
from nas_ext.samplers.reused_mixture import ReusedMixtureSampler
from nas_ext.saved import source_setting
from nas_ext.saved_mixture import MixtureSource, load_mixture, read_mixture
from nas_ext.schedule import Schedule, linear
from nas_ext.search import Phase, Setting
from nas_ext.strategies.rewarded import RewardedStrategy

__all__ = ["BalancedMixture"]

STAIRS = 1_000
"""The largest number of temperatures of a search whose mixture is balanced at every step."""


@dataclass(kw_only=True, eq=False)
class BalancedMixture(RewardedStrategy, MixtureStrategy):
    """Share the architectures out among M supernets, each of which has as many as the others.

    Architectures are drawn uniformly; the supernet that trains one is drawn from p(m|c), a
    softmax of the running rewards of architecture c in each supernet, balanced by Iterative
    Proportional Fitting. In the end each architecture is evaluated in the supernet of its highest
    p(m|c) among those that trained it. Every supernet gets 1/M of the steps: give M times as many
    steps as one supernet needs. With `models=1` it is `Uniform`, draw for draw and bit for bit,
    and no rewards are computed.

    `schedule` "inverse" raises s = 1/tau linearly from 1 to `final_inverse_temperature` (None: 100
    for each model), "temperature" lowers tau linearly between the same ends. `ipf_refresh` "step"
    keeps the mixture balanced within `tolerance` at every step, the temperature in up to 1,000
    stairs; a number k balances it every k steps and uses those prices in between, with k the
    steps of an epoch as in the published code. `decay` is the beta of the moving averages,
    `initial_value` their value before the first reward. `candidates` are those of the highest
    running reward; None evaluates every architecture once. Spaces up to `max_architectures`: the
    mixture has a row for each.

    `mixture` is one that was learned before, on other images perhaps: a file of `save_mixture`, a
    search's folder or `search.json`, or what these hold. Its p(m|c) is then the law of the
    supernets from the first step to the last; running rewards are of other weights and start
    anew, and the settings of temperature and fitting change nothing. It must have as many
    supernets as `models` and be of the same space, known by name and size. The reuse is ours.

    On a table there are no supernets: the search is uniform, the rewards of an architecture are
    spread over the M columns, and what is found says little about a mixture that is trained.

    Source: chapter 2, section 2.2, with these readings. p(m|c) sums to 1 over models, not over
    configurations (D2-1). The fitting starts from a softmax over models, which has the same limit
    as the joint one that is printed (D2-2). The text lowers tau linearly to 1/(100 M), which
    leaves all specialisation to the last 5 % of the steps; the published code, and this default,
    raise 1/tau to the same end (D2-3). One pair per architecture is evaluated, as in the text, not
    all pairs (D2-4). The published ResNet18 trainer leaves the mixture unused (D2-5) and the loops
    run an epoch too many (D2-6): not followed. Optimizer and schedule are the evaluator's; those
    printed for ResNet18 and ResNet50 belong to retraining (D2-14). D2-7 to D2-13 concern the
    numbers around the method, not the method. Departures: pairs that were never trained are left
    out of the final argmax, and the initial value is taken out of the running rewards that choose
    the candidates. The published code balances once an epoch and decays by .9 on most spaces.
    """

    schedule: Literal["inverse", "temperature"] = "inverse"
    final_inverse_temperature: float | None = None
    initial_value: float = 1.0
    ipf_refresh: Literal["step"] | int = "step"
    tolerance: float = 1e-4
    max_architectures: int = 100_000
    mixture: MixtureSource | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.schedule not in ("inverse", "temperature"):
            raise ValueError(f"schedule must be inverse or temperature, got {self.schedule!r}")
        final = self.final_inverse_temperature
        if final is not None and not 1.0 <= final < math.inf:
            raise ValueError(f"final_inverse_temperature must be at least 1, got {final}")
        if not 0 <= self.initial_value <= 1:
            raise ValueError(f"initial_value must lie in [0, 1], got {self.initial_value}")
        refresh = self.ipf_refresh
        if refresh != "step" and (type(refresh) is not int or refresh < 1):
            raise ValueError(f"ipf_refresh must be 'step' or a positive integer, got {refresh!r}")
        if not 0 < self.tolerance < math.inf:
            raise ValueError(f"tolerance must be positive, got {self.tolerance}")
        if self.max_architectures < 1:
            raise ValueError(f"max_architectures must be at least 1, got {self.max_architectures}")
        self._saved = None if self.mixture is None else read_mixture(self.mixture)
        self._check_models()

    def _check_models(self) -> None:
        """Raise ValueError for a mixture of another number of models, or for what one lacks."""
        if self._saved is not None and self._saved["state"]["models"] != self.models:
            raise ValueError(
                f"models must be the {self._saved['state']['models']} of the mixture, "
                f"got {self.models}"
            )
        if self.models > 1:
            return
        if self._saved is not None:
            raise ValueError("models must be at least 2 to reuse a mixture, got 1")
        if isinstance(self.reward, OnTrainingBatch):
            raise ValueError(
                "reward must be on validation data for models=1, which asks for no rewards, "
                f"got {self.reward!r}"
            )
        if self.relative is not None:
            raise ValueError(
                "relative must be None for models=1, which asks for no rewards, "
                f"got {self.relative!r}"
            )

    @property
    def settings(self) -> dict[str, Any]:
        """Return the settings as JSON values; a mixture that is no file by a digest of it."""
        return {**super().settings, "mixture": source_setting(self.mixture, self._saved)}

    def phases(self, steps: int) -> tuple[Phase, ...]:
        return (Phase("mixture", steps, lambda setting: self._sampler(setting, steps)),)

    def inverse_temperature(self, steps: int) -> Schedule:
        """Return s = 1/tau at each of so many steps."""
        final = self.final_inverse_temperature
        end = 100.0 * self.models if final is None else final
        if self.schedule == "inverse":
            return linear(1.0, end, steps)
        temperature = linear(1.0, 1.0 / end, steps)
        return lambda step: 1.0 / temperature(step)

    def _sampler(self, setting: Setting, steps: int) -> Sampler:
        if self.models == 1:
            return UniformSampler(setting.space, setting.rng)
        space = setting.space
        placed = space if isinstance(space, MixtureSpace) else MixtureSpace(space, self.models)
        mixture = self._mixture_sampler(placed, setting, steps)
        return mixture if isinstance(space, MixtureSpace) else TabularMixtureSampler(mixture)

    def _mixture_sampler(
        self, space: MixtureSpace, setting: Setting, steps: int
    ) -> MixtureSampler:
        kept: dict[str, Any] = {
            "decay": self.decay,
            "initial": self.initial_value,
            "limit": self.max_architectures,
            "relative": self.shaping(setting),
        }
        if self._saved is not None:
            law = load_mixture(self._saved, space.base).probabilities
            return ReusedMixtureSampler(space, setting.rng, probabilities=law, **kept)
        return MixtureSampler(
            space,
            setting.rng,
            inverse_temperature=self.inverse_temperature(steps),
            hold=-(-steps // STAIRS) if self.ipf_refresh == "step" else self.ipf_refresh,
            rebalanced=self.ipf_refresh == "step",
            tolerance=self.tolerance,
            **kept,
        )

"""A search: phases that follow each other, each with a sampler of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nas_ext.architecture import Architecture, SearchSpace
from nas_ext.draws import Draw, Draws
from nas_ext.estimation import PerformanceEstimator
from nas_ext.samplers import Sampler

__all__ = ["Draw", "Phase", "Ranked", "Search", "SearchFinished", "Setting"]


class SearchFinished(RuntimeError):
    """Raised by `Search.ask` when every phase has had its steps."""


@dataclass(frozen=True)
class Setting:
    """Hand a phase what it may build its sampler from.

    `previous` is the sampler of the phase before, for a phase that goes on with its tree.
    `restoring` is the state that the new sampler will load: a builder whose work is costly (the
    outputs of all architectures) takes the outcome from there instead of doing it again.
    """

    space: SearchSpace
    estimator: PerformanceEstimator
    rng: np.random.Generator
    previous: Sampler | None = None
    restoring: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Phase:
    """Name a number of steps and say how the sampler is built when the phase is entered.

    `reinitialise` starts the weights again once the sampler is built: what the builder asked the
    estimator, it asked of the weights that the phases before had trained.
    """

    name: str
    steps: int
    build: Callable[[Setting], Sampler]
    reinitialise: bool = False

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps of phase {self.name!r} must be at least 1, got {self.steps}")


@dataclass(frozen=True)
class Ranked:
    """An architecture with its share right on the whole validation set."""

    architecture: Architecture
    accuracy: float


class Search:
    """Lead samplers through their phases, one `ask` a step, and keep the record.

    The search does not care who runs it: a supernet under Lightning or a loop over a table.
    """

    def __init__(self, phases: Sequence[Phase], setting: Setting) -> None:
        if not phases:
            raise ValueError("phases must not be empty, got []")
        self.phases = tuple(phases)
        self.setting = setting
        self.draws = Draws()
        self._phase = -1
        self._step_of_phase = 0
        self._sampler: Sampler | None = None
        self._open: dict[Architecture, int] = {}

    @property
    def steps(self) -> int:
        """Return the number of steps of all phases."""
        return sum(phase.steps for phase in self.phases)

    @property
    def step(self) -> int:
        """Return the number of steps that were asked for so far."""
        return sum(phase.steps for phase in self.phases[: max(self._phase, 0)]) + (
            self._step_of_phase
        )

    @property
    def phase(self) -> Phase:
        """Return the phase of the last step, or the first one before any."""
        return self.phases[max(self._phase, 0)]

    @property
    def sampler(self) -> Sampler:
        """Return the sampler of the phase; RuntimeError before the first step."""
        if self._sampler is None:
            raise RuntimeError("a search has no sampler before its first step")
        return self._sampler

    @property
    def segment(self) -> tuple[int, int]:
        """Return first and last-but-one step for which the weights train without a new start.

        A learning rate schedule runs over these steps.
        """
        starts = [0]
        for index in range(1, len(self.phases)):
            if self.phases[index].reinitialise:
                starts.append(sum(phase.steps for phase in self.phases[:index]))
        begun = sum(phase.steps for phase in self.phases[: max(self._phase, 0)])
        first = max(start for start in starts if start <= begun)
        return first, min([start for start in starts if start > begun], default=self.steps)

    @property
    def at_phase_end(self) -> bool:
        """Say whether the last step was the last one of its phase."""
        return self._phase >= 0 and self._step_of_phase == self.phases[self._phase].steps

    @property
    def next_is_fresh(self) -> bool:
        """Say whether the next `ask` enters a phase that starts the weights again."""
        entering = self._phase + 1
        ended = self._phase < 0 or self.at_phase_end
        return ended and entering < len(self.phases) and self.phases[entering].reinitialise

    def ask(self) -> tuple[Architecture, ...]:
        """Return the architectures of the next step, entering the next phase when one is over.

        Raises SearchFinished after the last step.
        """
        if self._phase < 0 or self._step_of_phase == self.phases[self._phase].steps:
            self._enter(self._phase + 1)
        architectures = self.sampler.ask()
        self._open = {}
        for architecture in architectures:
            self._open[architecture] = len(self.draws)
            self.draws.append(Draw(self._phase, self.step, architecture))
        self._step_of_phase += 1
        return architectures

    def _enter(self, phase: int) -> None:
        if phase == len(self.phases):
            raise SearchFinished(f"the search has had all its {self.steps} steps")
        built = self.phases[phase].build(replace(self.setting, previous=self._sampler))
        if self.phases[phase].reinitialise:
            self.setting.estimator.reinitialise()
        self._phase, self._step_of_phase, self._sampler = phase, 0, built

    def tell(self, architecture: Architecture, reward: float) -> None:
        """Pass a reward to the sampler, and record it if the last step drew the architecture."""
        self.sampler.tell(architecture, reward)
        if (place := self._open.pop(architecture, None)) is not None:
            self.draws.tell(place, float(reward))

    def rank(self, candidates: int | None) -> tuple[Ranked, ...]:
        """Evaluate candidates on the whole validation set, best first, ties in their order.

        `candidates` is how many the sampler may name; None takes the whole space, which must then
        be enumerable.
        """
        if candidates is not None and candidates < 1:
            raise ValueError(f"candidates must be at least 1, got {candidates}")
        space = self.setting.space
        named = space.enumerate() if candidates is None else self.sampler.candidates(candidates)
        accuracies = self.setting.estimator.accuracies(named)
        if not np.isfinite(accuracies).all():
            raise ValueError("accuracies of the candidates must be finite, got NaN or infinity")
        order = np.argsort(-accuracies, kind="stable").tolist()
        return tuple(Ranked(named[i], float(accuracies[i])) for i in order)

    def state_dict(self) -> dict[str, Any]:
        """Return phase, sampler, record and generator as numbers, strings, lists and dicts."""
        return {
            "phase": self._phase,
            "step_of_phase": self._step_of_phase,
            "sampler": None if self._sampler is None else self._sampler.state_dict(),
            "rng": self.setting.rng.bit_generator.state,
            "open": [[list(a), place] for a, place in self._open.items()],
            "draws": [[d.phase, d.step, list(d.architecture), d.reward] for d in self.draws],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a search with the same phases; the phase in hand is not built anew.

        Raises ValueError when the state speaks of a phase that this search does not have.
        """
        if not -1 <= state["phase"] < len(self.phases):
            raise ValueError(
                f"phase of the state must lie in [-1, {len(self.phases)}), got {state['phase']}"
            )
        self._phase, self._step_of_phase = int(state["phase"]), int(state["step_of_phase"])
        self._sampler = None
        if state["sampler"] is not None:
            setting = replace(self.setting, restoring=state["sampler"])
            self._sampler = self.phases[self._phase].build(setting)
            self._sampler.load_state_dict(state["sampler"])
        self.setting.rng.bit_generator.state = state["rng"]
        self._open = {tuple(a): int(place) for a, place in state["open"]}
        self.draws = Draws(Draw(p, s, tuple(a), reward) for p, s, a, reward in state["draws"])

"""Importance sampling of each choice by itself."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nas_ext.architecture import Architecture, SearchSpace
from nas_ext.product_law import ProductLaw
from nas_ext.reward_shaping import RelativeReward
from nas_ext.samplers.base import Sampler, distinct
from nas_ext.schedule import Schedule
from nas_ext.tree import Node, backup, unbiased

__all__ = ["IndependentSampler"]


class IndependentSampler(Sampler):
    """Draw p(a) = prod_l softmax_o(C_l[o] / T), conditioned on the architecture's existence.

    C_l[o] is the moving average of the rewards of all architectures that took option o of choice
    l: one reward moves one entry a choice. `temperature` None draws uniformly over architectures
    while rewards are learned; `final_temperature` serves the draws of `candidates`. `initial` None
    takes the first reward as value; an option nobody took then stands at 1. `exploration` adds
    lambda sqrt(ln n / n_l[o]) with n_l[o] at least 1 (ours; the source has none). `after` hands
    over what another sampler knows. Section 3.1.
    """

    def __init__(
        self,
        space: SearchSpace,
        rng: np.random.Generator,
        *,
        temperature: Schedule | None,
        final_temperature: float,
        decay: float,
        initial: float | None = 1.0,
        exploration: float = 0.0,
        after: IndependentSampler | None = None,
        relative: RelativeReward | None = None,
    ) -> None:
        super().__init__(space, rng, relative=relative)
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay must lie in [0, 1), got {decay}")
        if not exploration >= 0.0:
            raise ValueError(f"exploration must not be negative, got {exploration}")
        if not final_temperature > 0.0:
            raise ValueError(f"final_temperature must be positive, got {final_temperature}")
        self.temperature = temperature
        self.final_temperature = final_temperature
        self.decay = decay
        self.initial = initial
        self.exploration = exploration
        self.step = 0
        self.told = 0
        self._nodes = [[Node() for _ in choice.options] for choice in space.choices]
        if after is not None:
            self._load_table(after._table())

    def ask(self) -> tuple[Architecture, ...]:
        if self.temperature is None:
            chosen = self.space.draw(self.rng)
        else:
            chosen = self.law(self.temperature(self.step)).draw(self.rng)
        self.step += 1
        return (chosen,)

    def diagnostics(self) -> dict[str, float]:
        """Return the temperature of the last draw, and the largest probability of one."""
        if self.temperature is None:
            return {}
        temperature = self.temperature(max(0, self.step - 1))
        law = self.law(temperature)
        share = math.exp(law.log_probability(law.mode()))
        return {"temperature": float(temperature), "maximum_share": share}

    def law(self, temperature: float) -> ProductLaw:
        """Return the law of the draws at a temperature; ValueError unless it is positive."""
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        log_told = math.log(max(1, self.told))
        rows = []
        for nodes in self._nodes:
            scores = []
            for node in nodes:
                value = self._prior if node.visits == 0 else node.value
                if self.exploration:
                    value += self.exploration * math.sqrt(log_told / max(1, node.visits))
                scores.append(value / temperature)
            rows.append(scores)
        return ProductLaw(self.space, rows)

    @property
    def _prior(self) -> float:
        return 1.0 if self.initial is None else self.initial

    def _update(self, architecture: Architecture, reward: float) -> None:
        self.told += 1
        for nodes, option in zip(self._nodes, architecture, strict=True):
            backup(nodes[option], reward, decay=self.decay, initial=self.initial)

    def candidates(self, count: int) -> tuple[Architecture, ...]:
        """Return the most probable architecture, then others by probability or by draws.

        The most probable one takes the best option of each choice where that exists. A space of
        no more than `count` is sorted; otherwise `count` - 1 draws at the final temperature
        follow, fewer without repetitions. Options nobody took are left out, and the initial value
        is taken out of the others first, as in `TreeSampler`. Raises ValueError when no reward
        was told yet.
        """
        if not self.told:
            raise ValueError("a reward must have been told to name candidates, got none")
        value = unbiased(decay=self.decay, initial=self.initial)
        rows = [
            [value(n) / self.final_temperature if n.visits else -math.inf for n in nodes]
            for nodes in self._nodes
        ]
        law = ProductLaw(self.space, rows)
        if self.space.size <= count:
            known = [a for a in self.space if law.log_probability(a) > -math.inf]
            return tuple(sorted(known, key=law.log_probability, reverse=True))
        return distinct([law.mode(), *(law.draw(self.rng) for _ in range(count - 1))])

    def _table(self) -> list[list[list[float]]]:
        return [[[node.visits, node.value] for node in nodes] for nodes in self._nodes]

    def _load_table(self, rows: list[list[list[float]]]) -> None:
        for nodes, numbers in zip(self._nodes, rows, strict=True):
            for node, (visits, value) in zip(nodes, numbers, strict=True):
                node.visits, node.value = int(visits), float(value)
        self.told = sum(node.visits for node in self._nodes[0])

    def _state(self) -> dict[str, Any]:
        return {"step": self.step, "values": self._table()}

    def _load_state(self, state: dict[str, Any]) -> None:
        self.step = int(state["step"])
        self._load_table(state["values"])

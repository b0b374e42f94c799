"""Boltzmann, independent, strictly fair and communicating strategies, without a network."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from nas_ext.architecture import Architecture
from nas_ext.benchmarks import pooling_table, run
from nas_ext.oneshot import SampledStrategy
from nas_ext.oneshot.reward_variants import likelihood
from nas_ext.reward_shaping import RelativeReward
from nas_ext.samplers import Sampler, TreeSampler
from nas_ext.samplers.boltzmann import BoltzmannSampler
from nas_ext.samplers.communication import Broadcast, SharedValues
from nas_ext.samplers.independent import IndependentSampler
from nas_ext.search import Phase, Search, Setting
from nas_ext.strategies.boltzmann import Boltzmann
from nas_ext.strategies.independent import Independent
from nas_ext.strategies.mcts import MCTS
from nas_ext.strategies.strict_fairness import StrictFairness
from nas_ext.testing import FakeSupernet, small_space

SPACE = small_space()
ANNEALED: list[type[Boltzmann] | type[Independent]] = [Boltzmann, Independent]


def make(strategy: SampledStrategy, steps: int, seed: int = 0) -> Search:
    rng = np.random.default_rng(1)
    supernet = FakeSupernet(SPACE, {a: float(rng.random()) for a in SPACE})
    return Search(strategy.phases(steps), Setting(SPACE, supernet, np.random.default_rng(seed)))


def advance(search: Search, steps: int) -> list[Architecture]:
    asked = []
    for _ in range(steps):
        for architecture in search.ask():
            if search.sampler.needs_reward:
                search.tell(architecture, search.setting.estimator.reward(architecture))
            asked.append(architecture)
    return asked


def last(phases: tuple[Phase, ...], rng: np.random.Generator) -> Sampler:
    sampler: Sampler | None = None
    for phase in phases:
        sampler = phase.build(replace(Setting(SPACE, FakeSupernet(SPACE), rng), previous=sampler))
    assert sampler is not None
    return sampler


@pytest.mark.parametrize("strategy", ANNEALED)
def test_two_phases_share_the_steps_as_the_trees_do(strategy: Callable[..., Any]) -> None:
    phases = strategy().phases(1000)
    assert [(p.name, p.steps) for p in phases] == [("warm-up", 650), ("search", 350)]
    (only,) = strategy(shares=(1,)).phases(1000)
    assert (only.name, only.steps) == ("search", 1000)
    with pytest.raises(ValueError, match="steps must be at least 1 for each of 2 phases, got 1"):
        strategy().phases(1)


@pytest.mark.parametrize("strategy", ANNEALED)
def test_values_are_learned_in_the_warm_up_and_go_on(strategy: Callable[..., Any]) -> None:
    search = make(strategy(), 100)
    advance(search, 65)
    before = search.sampler.state_dict()["values"]
    search.ask()
    assert search.sampler.state_dict()["values"] == before
    assert sum(draw.reward is not None for draw in search.draws) == 65


@pytest.mark.parametrize("strategy", ANNEALED)
def test_the_temperature_falls_over_the_last_phase_alone(strategy: Callable[..., Any]) -> None:
    first, second = (last(strategy().phases(1000)[:n], np.random.default_rng(0)) for n in (1, 2))
    assert isinstance(first, BoltzmannSampler | IndependentSampler)
    assert isinstance(second, BoltzmannSampler | IndependentSampler)
    assert first.temperature is None
    assert second.temperature is not None
    assert second.temperature(0) == 0.02
    assert second.temperature(349) == pytest.approx(0.0025)


def test_the_inverse_temperature_of_chapter_2_rises_linearly() -> None:
    made = Boltzmann(schedule="inverse", temperature=1.0, final_temperature=0.01, shares=(1,))
    cooling = made.cooling(100)
    # 1 / T from 1 to 100 over 100 steps
    assert [1 / cooling(step) for step in (0, 1, 50, 99)] == pytest.approx([1.0, 2.0, 51.0, 100.0])


def test_settings_reach_the_samplers() -> None:
    strategy = Independent(decay=0.5, initial_value=None, exploration=0.3, final_temperature=0.01)
    for phases in (strategy.phases(10)[:1], strategy.phases(10)):
        sampler = last(phases, np.random.default_rng(0))
        assert isinstance(sampler, IndependentSampler)
        assert (sampler.decay, sampler.initial, sampler.exploration) == (0.5, None, 0.3)
        assert sampler.final_temperature == 0.01
    boltzmann = last(Boltzmann(decay=0.5, initial_value=0.2).phases(10), np.random.default_rng(0))
    assert isinstance(boltzmann, BoltzmannSampler)
    assert (boltzmann.decay, boltzmann.initial) == (0.5, 0.2)


@pytest.mark.parametrize(
    ("name", "kind"), [("shared", SharedValues), ("broadcast", Broadcast), (None, type(None))]
)
def test_communication_and_relative_rewards_go_on_into_the_walks(name: Any, kind: type) -> None:
    made = MCTS(communication=name, relative="accuracy", communication_decay=0.9)
    search = make(made, 100)
    advance(search, 65)
    warm = search.sampler
    assert isinstance(warm, TreeSampler)
    advance(search, 1)
    assert isinstance(search.sampler, TreeSampler)
    assert search.sampler is not warm
    assert type(warm.communication) is kind
    assert search.sampler.communication is warm.communication
    assert search.sampler.relative is warm.relative
    assert isinstance(warm.relative, RelativeReward)
    if name is not None:
        assert warm.communication is not None
        assert warm.communication.decay == 0.9  # type: ignore[attr-defined]  # both kinds have it


def test_without_communication_the_tree_search_is_what_it_was() -> None:
    sampler = last(MCTS().phases(10), np.random.default_rng(0))
    assert isinstance(sampler, TreeSampler)
    assert sampler.communication is None
    assert sampler.relative is None
    assert set(sampler.state_dict()) == {"rng", "step", "tree"}


def test_strict_fairness_has_one_phase_and_asks_for_no_reward() -> None:
    made = StrictFairness()
    assert [(p.name, p.steps) for p in made.phases(7)] == [("strict fairness", 7)]
    assert made.candidates is None
    search = make(made, 7)
    assert len(advance(search, 7)) == 7 * made.passes_per_step(SPACE) == 21
    assert not search.sampler.needs_reward
    # pitfall 17: the record counts passes, a step's architectures share its number
    assert [draw.step for draw in search.draws[:4]] == [0, 0, 0, 1]


@pytest.mark.parametrize(
    "strategy",
    [
        Boltzmann(),
        Boltzmann(schedule="inverse", temperature=1.0, final_temperature=0.01, shares=(1,)),
        Independent(exploration=0.1),
        MCTS(communication="shared", relative="accuracy"),
        MCTS(communication="broadcast"),
        MCTS(relative="loss", reward=likelihood),
        StrictFairness(candidates=5),
    ],
)
@pytest.mark.parametrize("stop", [10, 64, 66, 90])
def test_a_search_resumed_in_mid_phase_goes_on_as_if_it_had_not_stopped(
    strategy: SampledStrategy, stop: int
) -> None:
    whole, first, second = make(strategy, 100), make(strategy, 100), make(strategy, 100, seed=5)
    expected = advance(whole, 100)
    before = advance(first, stop)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert before + advance(second, 100 - stop) == expected
    assert second.state_dict() == whole.state_dict()
    assert second.rank(5) == whole.rank(5)


@pytest.mark.parametrize(
    "strategy",
    [
        Boltzmann(),
        Independent(),
        StrictFairness(candidates=1),
        MCTS(communication="shared"),
        MCTS(communication="broadcast"),
    ],
)
def test_phases_run_on_the_pooling_table(strategy: SampledStrategy) -> None:
    table = pooling_table()
    found = run(strategy.phases(300), table, seed=0)
    assert found.found in table.space
    # strict fairness spends 9 evaluations a step here
    assert found.evaluations == 300 * (9 if isinstance(strategy, StrictFairness) else 1)
    assert run(strategy.phases(300), table, seed=0).search.draws == found.search.draws
    assert run(strategy.phases(300), table, seed=1).search.draws != found.search.draws


@pytest.mark.parametrize(
    "strategy", [Boltzmann(), Independent(), MCTS(communication="shared", exploration=0.0)]
)
def test_the_last_phase_prefers_the_best_of_the_table(strategy: SampledStrategy) -> None:
    # Uniform draws fall on the 5 best of 36 with p = 5/36: over 700 draws, 5 sigma are .066.
    shares = [
        run(strategy.phases(2000), pooling_table(), seed=seed).top_share for seed in range(3)
    ]
    assert min(shares) > 5 / 36 + 0.066


WRONG_WHEN_ANNEALED: list[tuple[dict[str, Any], str]] = [
    ({"seed": -1}, "seed must not be negative, got -1"),
    ({"temperature": 0.0}, "temperature must be positive, got 0.0"),
    ({"final_temperature": float("nan")}, "final_temperature must be positive, got nan"),
    ({"final_temperature": 0.03}, "final_temperature must not exceed temperature 0.02, got 0.03"),
    ({"decay": 1.0}, r"decay must lie in \[0, 1\), got 1.0"),
    ({"initial_value": 1.5}, r"initial_value must lie in \[0, 1\] or be None: 1.5"),
    ({"shares": ()}, r"shares must be 1 or 2 positive numbers, got \[\]"),
    ({"shares": (1.0, 0.0)}, r"shares must be 1 or 2 positive numbers, got \[1.0, 0.0\]"),
]
WRONG: list[tuple[Any, dict[str, Any], str]] = [
    *((strategy, *case) for strategy in ANNEALED for case in WRONG_WHEN_ANNEALED),
    (Boltzmann, {"schedule": "cosine"}, "schedule must be temperature or inverse, got 'cosine'"),
    (Independent, {"exploration": -0.5}, "exploration must not be negative, got -0.5"),
    (StrictFairness, {"candidates": 0}, "candidates must be at least 1, got 0"),
    (MCTS, {"communication": "all"}, "communication must be shared, broadcast or None, got 'all'"),
    (MCTS, {"communication_weight": -1.0}, "communication_weight must not be negative, got -1.0"),
    (MCTS, {"communication_decay": 1.0}, r"communication_decay must lie in \[0, 1\), got 1.0"),
    (MCTS, {"relative": "error"}, "relative must be accuracy, loss or None, got 'error'"),
    (MCTS, {"relative": "loss"}, r"reward must be exp\(-loss\) for relative='loss', got accuracy"),
]


@pytest.mark.parametrize(("strategy", "settings", "message"), WRONG)
def test_a_wrong_setting_is_named(
    strategy: Callable[..., Any], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        strategy(**settings)


@pytest.mark.parametrize("strategy", [Boltzmann, Independent, StrictFairness, MCTS])
def test_settings_survive_json(strategy: Any) -> None:
    made = strategy(seed=3)
    settings = json.loads(json.dumps(made.settings))
    assert set(settings) == {field.name for field in fields(strategy)} - {"out"}
    assert settings.pop("reward") == "accuracy"
    again = strategy(**settings)
    assert json.loads(json.dumps(again.settings)) == json.loads(json.dumps(made.settings))
    with pytest.raises(TypeError, match="positional"):
        strategy(0)

"""Phases, records, ranking and resuming."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest

from nas_ext.architecture import Architecture
from nas_ext.samplers import TreeSampler, UniformSampler
from nas_ext.schedule import linear
from nas_ext.search import Draw, Phase, Search, SearchFinished, Setting
from nas_ext.testing import FakeSupernet, small_space
from nas_ext.tree import layer_tree, tree_from_state

SPACE = small_space()
ACCURACIES = {a: (i + 1) / 20 for i, a in enumerate(SPACE)}


def uniform(steps: int, name: str = "uniform", *, reinitialise: bool = False) -> Phase:
    return Phase(name, steps, lambda s: UniformSampler(s.space, s.rng), reinitialise)


def build_tree(setting: Setting) -> TreeSampler:
    if setting.restoring is not None:
        tree = tree_from_state(setting.space, setting.restoring["tree"])
    else:
        setting.estimator.outputs(tuple(setting.space))
        tree = layer_tree(setting.space)
    return TreeSampler(
        setting.space,
        setting.rng,
        tree=tree,
        temperature=linear(0.1, 0.01, 30),
        final_temperature=0.01,
        exploration=0.5,
        decay=0.95,
    )


def fake() -> FakeSupernet:
    return FakeSupernet(SPACE, ACCURACIES, logits=np.zeros((18, 2, 2)))


def make(phases: Sequence[Phase], seed: int = 0) -> Search:
    return Search(phases, Setting(SPACE, fake(), np.random.default_rng(seed)))


def advance(search: Search, steps: int) -> list[Architecture]:
    asked = []
    for _ in range(steps):
        for architecture in search.ask():
            search.tell(architecture, search.setting.estimator.reward(architecture))
            asked.append(architecture)
    return asked


def test_phases_follow_each_other_after_their_steps() -> None:
    search = make([uniform(3, "a"), uniform(2, "b")])
    assert (search.step, search.steps, search.phase.name) == (0, 5, "a")
    names = []
    for _ in range(5):
        search.ask()
        names.append(search.phase.name)
    assert names == ["a", "a", "a", "b", "b"]
    assert search.step == 5
    with pytest.raises(SearchFinished, match="all its 5 steps"):
        search.ask()


def test_a_phase_is_built_when_it_is_entered_and_sees_the_one_before() -> None:
    seen: list[tuple[int, object]] = []

    def second(setting: Setting) -> UniformSampler:
        seen.append((len(search.draws), setting.previous))
        return UniformSampler(setting.space, setting.rng)

    search = make([uniform(3), Phase("second", 1, second)])
    advance(search, 3)
    first = search.sampler
    assert seen == []
    advance(search, 1)
    assert seen == [(3, first)]


def test_weights_start_again_after_the_phase_was_built_from_the_old_ones() -> None:
    order: list[str] = []
    estimator = fake()
    estimator.reinitialise = lambda: order.append("weights")  # type: ignore[method-assign]

    def build(setting: Setting) -> UniformSampler:
        order.append("built")
        return UniformSampler(setting.space, setting.rng)

    phases = [uniform(1), Phase("b", 1, build, reinitialise=True)]
    advance(Search(phases, Setting(SPACE, estimator, np.random.default_rng(0))), 2)
    assert order == ["built", "weights"]


def test_segments_are_the_steps_between_starts_of_the_weights() -> None:
    search = make([uniform(4), uniform(3, reinitialise=True), uniform(2)])
    assert search.segment == (0, 4)
    segments = []
    for _ in range(9):
        search.ask()
        segments.append(search.segment)
    assert segments == [(0, 4)] * 4 + [(4, 9)] * 5


def test_the_record_has_every_draw_with_its_phase_and_reward() -> None:
    search = make([uniform(2, "a"), uniform(1, "b")])
    asked = advance(search, 2)
    (last,) = search.ask()
    assert search.draws == [
        Draw(0, 0, asked[0], ACCURACIES[asked[0]]),
        Draw(0, 1, asked[1], ACCURACIES[asked[1]]),
        Draw(1, 2, last, None),
    ]


def test_candidates_are_ranked_best_first_with_ties_in_their_order() -> None:
    search = make([uniform(1)])
    search.ask()
    ranking = search.rank(None)
    assert [r.architecture for r in ranking] == list(SPACE)[::-1]
    assert [r.accuracy for r in ranking] == sorted(ACCURACIES.values(), reverse=True)
    tied = Search([uniform(1)], Setting(SPACE, FakeSupernet(SPACE), np.random.default_rng(0)))
    tied.ask()
    assert [r.architecture for r in tied.rank(None)] == list(SPACE)


@pytest.mark.parametrize("stop", range(1, 60, 7))
def test_a_search_resumed_at_any_step_goes_on_as_if_it_had_not_stopped(stop: int) -> None:
    phases = [uniform(20), Phase("tree", 30, build_tree), uniform(10)]
    whole, first = make(phases), make(phases)
    expected = advance(whole, 60)
    before = advance(first, stop)
    state = json.loads(json.dumps(first.state_dict()))
    second = make(phases, seed=123)
    second.load_state_dict(state)
    assert before + advance(second, 60 - stop) == expected
    assert second.draws == whole.draws
    assert second.state_dict() == whole.state_dict()
    if stop > 20:
        estimator = second.setting.estimator
        assert isinstance(estimator, FakeSupernet)
        assert estimator.asked["outputs"] == 0, "the tree was built a second time"


def test_a_reward_told_before_resuming_still_finds_its_draw() -> None:
    search = make([uniform(2)])
    (architecture,) = search.ask()
    again = make([uniform(2)])
    again.load_state_dict(json.loads(json.dumps(search.state_dict())))
    again.tell(architecture, 0.25)
    assert again.draws[0].reward == 0.25


def test_a_reward_that_is_no_number_stops_the_search() -> None:
    search = make([uniform(2)])
    (architecture,) = search.ask()
    with pytest.raises(ValueError, match="reward must be a share"):
        search.tell(architecture, float("nan"))
    assert search.draws[0].reward is None


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="phases must not be empty"):
        make([])
    with pytest.raises(ValueError, match="steps of phase 'p' must be at least 1, got 0"):
        uniform(0, "p")
    search = make([uniform(1)])
    with pytest.raises(RuntimeError, match="no sampler before its first step"):
        _ = search.sampler
    search.ask()
    with pytest.raises(ValueError, match="candidates must be at least 1, got 0"):
        search.rank(0)
    state = {**search.state_dict(), "phase": 7}
    with pytest.raises(ValueError, match="phase of the state must lie in"):
        make([uniform(1)]).load_state_dict(state)


def test_accuracies_that_are_no_numbers_are_not_ranked() -> None:
    estimator = FakeSupernet(SPACE, {**ACCURACIES, (0, 0, 0): float("nan")})
    search = Search([uniform(1)], Setting(SPACE, estimator, np.random.default_rng(0)))
    search.ask()
    with pytest.raises(ValueError, match="accuracies of the candidates must be finite"):
        search.rank(None)

"""Nodes that share rewards, against the same sums kept by hand."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import chisquare

from nas_ext.architecture import Architecture
from nas_ext.pooling import PoolingSpace
from nas_ext.reward_shaping import RelativeReward
from nas_ext.samplers import Sampler, TreeSampler
from nas_ext.samplers.communication import Broadcast, Communication, SharedValues
from nas_ext.schedule import Schedule, linear
from nas_ext.testing import SamplerContract, small_space
from nas_ext.tree import (
    Tree,
    layer_tree,
    leaf_probabilities,
    most_valued_leaf,
    prefix_of,
    rank_tree,
)

SPACE = small_space()
DECAY, GAMMA = 0.95, 0.99


def shared(weight: float = 1.0, initial: float | None = 1.0) -> SharedValues:
    return SharedValues(SPACE, weight=weight, decay=GAMMA, node_decay=DECAY, initial=initial)


def broadcast(initial: float | None = 1.0) -> Broadcast:
    return Broadcast(decay=GAMMA, node_decay=DECAY, initial=initial)


def make_sampler(
    communication: Communication | None,
    *,
    rng: np.random.Generator | None = None,
    tree: Tree | None = None,
    temperature: Schedule | None = None,
    initial: float | None = 1.0,
    relative: RelativeReward | None = None,
) -> TreeSampler:
    return TreeSampler(
        SPACE,
        np.random.default_rng(0) if rng is None else rng,
        tree=layer_tree(SPACE) if tree is None else tree,
        temperature=temperature,
        final_temperature=0.01,
        exploration=0.5,
        decay=DECAY,
        initial=initial,
        communication=communication,
        relative=relative,
    )


class TestShared(SamplerContract):
    def make(self, rng: np.random.Generator) -> Sampler:
        return make_sampler(shared(), rng=rng, temperature=linear(0.2, 0.05, 100))


class TestBroadcast(SamplerContract):
    def make(self, rng: np.random.Generator) -> Sampler:
        return make_sampler(broadcast(), rng=rng, temperature=linear(0.2, 0.05, 100))


class TestRelativeRewards(SamplerContract):
    def make(self, rng: np.random.Generator) -> Sampler:
        schedule = linear(0.2, 0.05, 100)
        relative = RelativeReward(of="loss")
        return make_sampler(shared(initial=None), rng=rng, temperature=schedule, relative=relative)


def rewards(count: int, seed: int = 0) -> list[tuple[Architecture, float]]:
    rng = np.random.default_rng(seed)
    return [(SPACE.draw(rng), float(rng.random())) for _ in range(count)]


@pytest.mark.parametrize("initial", [1.0, None])
def test_a_shared_value_averages_every_iteration_that_used_the_option(
    initial: float | None,
) -> None:
    together = shared(initial=initial)
    sampler = make_sampler(together, initial=initial)
    means: dict[tuple[int, int], float] = {}
    for architecture, reward in rewards(200):
        sampler.tell(architecture, reward)
        for place in enumerate(architecture):
            old = means.get(place, reward if initial is None else initial)
            means[place] = GAMMA * old + (1 - GAMMA) * reward
    assert len(means) == 3 + 2 + 3
    for (choice, option), mean in means.items():
        assert together.shared(choice, option) == pytest.approx(mean)


def test_the_shared_value_is_added_to_the_score() -> None:
    # Section 3.4: score = C + lambda sqrt(ln n_p / n) + c G, here written out for the root.
    together = shared(weight=2.0)
    sampler = make_sampler(together, temperature=lambda step: 0.5)
    for architecture, reward in rewards(100):
        sampler.tell(architecture, reward)
    root = sampler.tree.root
    scores = [
        child.value
        + 0.5 * math.sqrt(math.log(root.visits) / child.visits)
        + 2.0 * together.shared(0, place)
        for place, child in enumerate(root.children)
    ]
    expected = np.exp(np.asarray(scores) / 0.5) / np.exp(np.asarray(scores) / 0.5).sum()
    p = leaf_probabilities(root, temperature=0.5, exploration=0.5, value=together.value)
    first = [sum(share for a, share in p.items() if a[0] == option) for option in range(3)]
    np.testing.assert_allclose(first, expected)
    counts = Counter(sampler.ask()[0] for _ in range(5000))
    assert chisquare([counts[a] for a in p], [5000 * s for s in p.values()]).pvalue > 1e-4


def test_without_weight_nothing_is_shared() -> None:
    ours = make_sampler(shared(weight=0.0), temperature=linear(0.2, 0.05, 100))
    plain = make_sampler(None, temperature=linear(0.2, 0.05, 100))
    for _ in range(100):
        assert ours.ask() == plain.ask()
        for sampler in (ours, plain):
            sampler.tell(SPACE.at(sampler.step % 18), 0.1 + sampler.step % 7 / 10)
    assert ours.candidates(5) == plain.candidates(5)


@pytest.mark.parametrize("initial", [1.0, None])
def test_a_broadcast_moves_all_visited_equivalent_nodes(initial: float | None) -> None:
    # By hand: each reward moves the nodes of its path by beta, and nodes of the same level and
    # option that were visited before by rho; `left` is what remains of the initial value.
    together = broadcast(initial)
    sampler = make_sampler(together, initial=initial)
    values: dict[Architecture, float] = {}
    left: dict[Architecture, float] = {}
    for architecture, reward in rewards(80):
        sampler.tell(architecture, reward)
        path = {architecture[: length + 1] for length in range(3)}
        for prefix in values:
            same = (len(prefix), prefix[-1]) in {(len(own), own[-1]) for own in path}
            if same and prefix not in path:
                values[prefix] = GAMMA * values[prefix] + (1 - GAMMA) * reward
                left[prefix] *= GAMMA
        for own in path:
            old = values.get(own, reward if initial is None else initial)
            values[own] = DECAY * old + (1 - DECAY) * reward
            left[own] = DECAY * left.get(own, 0.0 if initial is None else 1.0)
    nodes = {prefix_of(n): n for n in sampler.tree.nodes() if n.visits and prefix_of(n)}
    assert set(nodes) == set(values)
    for prefix, node in nodes.items():
        assert node.value == pytest.approx(values[prefix])
        expected = (values[prefix] - left[prefix] * (initial or 0.0)) / (1 - left[prefix])
        assert together.final_value(node) == pytest.approx(expected)
    assert sampler.tree.root.visits == 80, "a broadcast is no visit"


def test_a_constant_reward_is_every_final_value_whatever_was_broadcast() -> None:
    for communication in (broadcast(), broadcast(None)):
        sampler = make_sampler(communication, initial=communication.initial)
        for architecture, _ in rewards(60):
            sampler.tell(architecture, 0.3)
        nodes = [n for n in sampler.tree.nodes() if n.visits and n.parent]
        assert [communication.final_value(n) for n in nodes] == pytest.approx([0.3] * len(nodes))


@pytest.mark.parametrize("communication", [shared(initial=None), broadcast(None)])
def test_an_option_that_pays_elsewhere_is_found_where_it_was_seen_once(
    communication: Communication,
) -> None:
    # Under (1, 1) every last option was seen once, with the same reward; under (0, 0) the last
    # option 2 pays 0.9 and the last option 0 pays 0.1. Only communication can tell them apart.
    sampler, plain = make_sampler(communication, initial=None), make_sampler(None, initial=None)
    for each in (sampler, plain):
        for last in range(3):
            each.tell((1, 1, last), 0.5)
        for _ in range(200):
            each.tell((0, 0, 2), 0.9)
            each.tell((0, 0, 0), 0.1)
    node, alone = (each.tree.leaf((1, 1, 0)).parent for each in (sampler, plain))
    assert node is not None
    assert alone is not None
    found = most_valued_leaf(node, value=communication.value)
    assert most_valued_leaf(alone).architecture == (1, 1, 0)
    assert found.architecture == (1, 1, 2)


def test_the_final_choice_is_by_the_nodes_own_values() -> None:
    # Section 3.4: final as for the other trees, softmax of C alone. Option 1 of the first choice
    # has the leaf of .9 and is worth less on average than option 0.
    sampler = make_sampler(shared(weight=100.0, initial=None), initial=None)
    for _ in range(50):
        for architecture, reward in (((0, 0, 0), 0.6), ((1, 1, 2), 0.1), ((1, 0, 0), 0.9)):
            sampler.tell(architecture, reward)
    plain = make_sampler(None, initial=None)
    plain.tree = sampler.tree
    assert sampler.candidates(1) == plain.candidates(1)
    assert most_valued_leaf(sampler.tree.root).architecture == sampler.candidates(1)[0]


def test_trees_without_levels_are_refused() -> None:
    tree = rank_tree(list(SPACE), [0.5] * 18)
    with pytest.raises(ValueError, match="node must belong to a layer tree, got a Node"):
        make_sampler(shared(), tree=tree)


def test_a_missing_sibling_of_a_pooling_space_is_simply_not_there() -> None:
    space = PoolingSpace(layers=5, poolings=2)
    together = SharedValues(space, weight=1.0, decay=GAMMA, node_decay=DECAY, initial=1.0)
    sampler = TreeSampler(
        space,
        np.random.default_rng(0),
        tree=layer_tree(space),
        temperature=linear(0.1, 0.01, 100),
        final_temperature=0.01,
        exploration=0.5,
        decay=DECAY,
        communication=together,
    )
    for _ in range(100):
        (architecture,) = sampler.ask()
        assert architecture in space
        sampler.tell(architecture, 0.5)


@pytest.mark.parametrize("make", [shared, broadcast])
def test_a_state_restores_values_and_what_is_left_of_initial_ones(
    make: Callable[[], Communication],
) -> None:
    first, second = make_sampler(make()), make_sampler(make())
    for architecture, reward in rewards(50):
        first.tell(architecture, reward)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for architecture, reward in rewards(50, seed=1):
        first.tell(architecture, reward)
        second.tell(architecture, reward)
    assert second.state_dict() == first.state_dict()
    assert second.candidates(18) == first.candidates(18)


def test_relative_rewards_reach_the_tree_squashed() -> None:
    sampler = make_sampler(None, initial=None, relative=RelativeReward())
    sampler.tell((0, 0, 0), 0.8)
    sampler.tell((1, 0, 0), 0.4)
    # the mean is .95 .8 + .05 .4 = .78
    assert sampler.tree.leaf((0, 0, 0)).value == 0.5
    assert sampler.tree.leaf((1, 0, 0)).value == pytest.approx(0.4 / (0.4 + 0.78))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight": -1.0, "decay": 0.9}, "weight must not be negative, got -1.0"),
        ({"weight": math.inf, "decay": 0.9}, "weight must not be negative, got inf"),
        ({"weight": 1.0, "decay": 1.0}, r"decay must lie in \[0, 1\), got 1.0"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SharedValues(SPACE, node_decay=0.9, initial=1.0, **settings)
    if settings["decay"] == 1.0:
        with pytest.raises(ValueError, match=message):
            Broadcast(decay=1.0, node_decay=0.9, initial=1.0)

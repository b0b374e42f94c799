"""Trees that are built before any training: by proxies, encodings or untrained outputs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from nas_ext.architecture import Architecture
from nas_ext.benchmarks import pooling_table, run
from nas_ext.data import digits, loader
from nas_ext.estimation import FloatArray, ProxyName
from nas_ext.nni import Lightning, Trainer
from nas_ext.oneshot import SearchExperiment, SupernetTraining
from nas_ext.results import SearchResult
from nas_ext.search import Search, Setting
from nas_ext.spaces import PoolingResNet
from nas_ext.strategies import LearnedTree
from nas_ext.testing import FakeSupernet, small_space
from nas_ext.tree import BinaryTree, Node, rank_tree

SPACE = small_space()
SCORES = np.random.default_rng(5).random(18)


class Scored(FakeSupernet):
    """A stub whose proxies are chosen numbers."""

    def __init__(self, scores: FloatArray) -> None:
        super().__init__(SPACE)
        self.scores = scores
        self.asked["proxy"] = 0

    def proxy(self, name: ProxyName, architectures: Sequence[Architecture]) -> FloatArray:
        self.asked["proxy"] += len(architectures)
        return self.scores[[SPACE.index(a) for a in architectures]]


def setting(scores: FloatArray = SCORES, seed: int = 0) -> Setting:
    return Setting(SPACE, Scored(scores), np.random.default_rng(seed))


def below(node: Node) -> list[Architecture]:
    if node.architecture is not None:
        return [node.architecture]
    return [a for child in node.children for a in below(child)]


@pytest.mark.parametrize("name", get_args(ProxyName))
def test_the_better_half_by_the_proxy_is_on_the_left(name: Any) -> None:
    tree = LearnedTree(distance=name).learn(setting())
    order = [SPACE.at(int(i)) for i in np.argsort(-SCORES)]
    assert below(tree.root) == order
    assert below(tree.root.children[0]) == order[:9]


def test_only_the_order_of_the_scores_counts() -> None:
    # -inf is naswot's worst score, and a flow may lie anywhere
    other = np.log(SCORES) * 1e6
    other[SCORES.argmin()] = -np.inf
    made = LearnedTree(distance="naswot").learn(setting(other))
    expected = rank_tree(list(SPACE), SCORES.tolist())
    assert isinstance(made, BinaryTree)
    assert made.merges == expected.merges


def test_scores_are_clustered_by_average_linkage_where_that_is_asked_for() -> None:
    scores = np.asarray([0.0, 1.0, 5.0, 6.5] + [100.0 + 10 * i for i in range(14)])
    made = LearnedTree(distance="synflow", proxy_tree="average").learn(setting(scores))
    assert isinstance(made, BinaryTree)
    # golden number 21: the first four merge at 1, 1.5 and 5.25, before all that are 10 apart
    assert [height for _, _, height in made.merges[:3]] == [1.0, 1.5, 5.25]
    assert below(made.root) == [SPACE.at(int(i)) for i in np.argsort(-scores)]


def test_scores_without_a_place_on_the_line_are_refused_by_average_linkage() -> None:
    scores = SCORES.copy()
    scores[3] = -np.inf
    with pytest.raises(ValueError, match="scores of naswot must be finite for proxy_tree 'aver"):
        LearnedTree(distance="naswot", proxy_tree="average").learn(setting(scores))
    with pytest.raises(ValueError, match="proxy_tree 'average' needs distance synflow or naswot"):
        LearnedTree(distance="kl", proxy_tree="average")
    with pytest.raises(ValueError, match="proxy_tree must be halves or average, got 'ward'"):
        LearnedTree(distance="synflow", proxy_tree="ward")  # type: ignore[arg-type]


@pytest.mark.parametrize("settings", [{"distance": "synflow"}, {"shares": (0.25, 0.35)}])
def test_a_zero_cost_tree_has_no_phase_before_it(settings: dict[str, Any]) -> None:
    phases = LearnedTree(**settings).phases(1000)
    assert [phase.name for phase in phases] == ["tree warm-up", "search"]
    # the published 25 to 35, without the 40: 1000 * 25 / 60 and 1000 * 35 / 60
    assert [phase.steps for phase in phases] == [417, 583]
    assert not any(phase.reinitialise for phase in phases)


def test_the_proxy_is_asked_once_before_the_first_step() -> None:
    given = setting()
    supernet = given.estimator
    assert isinstance(supernet, Scored)
    search = Search(LearnedTree(distance="synflow").phases(12), given)
    for _ in range(12):
        (architecture,) = search.ask()
        assert supernet.asked["proxy"] == 18
        search.tell(architecture, supernet.reward(architecture))
    assert supernet.asked["outputs"] == supernet.asked["reinitialise"] == 0


@pytest.mark.parametrize("stop", [1, 5, 6, 11])
def test_a_search_resumed_anywhere_goes_on_without_the_proxy(stop: int) -> None:
    phases = LearnedTree(distance="grad-norm").phases(12)

    def steps(search: Search, count: int) -> list[Architecture]:
        drawn = []
        for _ in range(count):
            (architecture,) = search.ask()
            search.tell(architecture, SPACE.index(architecture) / 20)
            drawn.append(architecture)
        return drawn

    whole, first = Search(phases, setting()), Search(phases, setting())
    expected = steps(whole, 12)
    before = steps(first, stop)
    second = Search(phases, setting(seed=9))
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert before + steps(second, 12 - stop) == expected
    assert second.state_dict() == whole.state_dict()
    supernet = second.setting.estimator
    assert isinstance(supernet, Scored)
    assert supernet.asked["proxy"] == 0


def test_a_table_has_no_proxies_but_encodings() -> None:
    table = pooling_table()
    with pytest.raises(ValueError, match=r"distance 'synflow' needs a network, TabularEstimator"):
        run(LearnedTree(distance="synflow").phases(10), table, seed=0)
    strategy = LearnedTree(distance="encoding", shares=(0.25, 0.35))
    found = run(strategy.phases(300), table, seed=0)
    assert found.evaluations == 300
    assert len(found.search.phases) == 2


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (np.full(18, 2.0), "scores of synflow must tell architectures apart, all are 2.0"),
        (np.full(18, np.nan), "scores of synflow must be 18 numbers"),
    ],
)
def test_scores_that_say_nothing_are_refused(scores: FloatArray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LearnedTree(distance="synflow").learn(setting(scores))


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ValueError, match="linkage 'ward' needs distance l2 or encoding, got 'syn"):
        LearnedTree(distance="synflow", linkage="ward")
    with pytest.raises(ValueError, match="max_architectures must be at least 1, got 0"):
        LearnedTree(distance="naswot", max_architectures=0)
    with pytest.raises(ValueError, match="shares must be 2 positive numbers"):
        LearnedTree(shares=(1.0, 0.0))
    with pytest.raises(ValueError, match="has 18 architectures, it must have at most 17"):
        LearnedTree(distance="naswot", max_architectures=17).learn(setting())


def train(strategy: LearnedTree, folder: Path, steps: int = 24) -> SearchResult:
    """Train on the digits for some steps, and read what was saved."""
    data = digits(seed=0)
    trainer = Trainer(
        max_steps=steps,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        accelerator="cpu",
    )
    evaluator = Lightning(
        SupernetTraining(),
        trainer,
        train_dataloaders=loader(data.train, data, batch_size=32, train=True, seed=0),
        val_dataloaders=loader(data.val, data, batch_size=64, train=False, drop_last=True),
    )
    torch.manual_seed(0)
    space = PoolingResNet(widths=(4, 4, 4, 8, 8), poolings=2, num_classes=10, in_chs=1)
    experiment = SearchExperiment(space, evaluator, strategy, out=folder)
    experiment.run()
    assert len(experiment.export_top_models(2, formatter="dict")) == 2
    experiment.stop()
    return SearchResult.load(folder)


@pytest.mark.parametrize("name", get_args(ProxyName))
def test_a_short_training_searches_a_zero_cost_tree(
    name: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    result = train(LearnedTree(distance=name, out=tmp_path / "run"), tmp_path / "run")
    assert result.phases == (("tree warm-up", 10), ("search", 14))
    assert all(draw.reward is not None for draw in result.draws)
    assert result.budget.output_passes == 6  # the proxy of each architecture
    assert result.tree is not None
    assert len(result.tree["architectures"]) == 6
    assert result.settings["distance"] == name

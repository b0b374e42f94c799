"""Trees whose warm-up draws by density: which law, when, and on which strategies."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax

from nas_ext.benchmarks import pooling_table, run
from nas_ext.data import digits, loader
from nas_ext.nni import Lightning, Trainer
from nas_ext.oneshot import SearchExperiment, SupernetTraining
from nas_ext.results import SearchResult
from nas_ext.samplers import Sampler, TreeSampler
from nas_ext.samplers.weighted_tree import WeightedTreeSampler
from nas_ext.search import Search, Setting
from nas_ext.spaces import PoolingResNet
from nas_ext.strategies import MCTS, IterativeMCTS, LearnedTree
from nas_ext.testing import FakeSupernet, SamplerContract, small_space

SPACE = small_space()
LOGITS = np.random.default_rng(0).normal(size=(18, 4, 3)) + np.linspace(0, 2, 18)[:, None, None]

DENSE: dict[str, Any] = {"warm_up_sampling": "density", "warm_up_temperature": 20.0}


def setting(rng: np.random.Generator | None = None) -> Setting:
    given = np.random.default_rng(0) if rng is None else rng
    return Setting(SPACE, FakeSupernet(SPACE, logits=LOGITS), given)


class TestDensityWarmUpOfMCTS(SamplerContract):
    def make(self, rng: np.random.Generator) -> Sampler:
        return MCTS(**DENSE).phases(100)[0].build(setting(rng))


class TestDensityWarmUpWithCommunication(SamplerContract):
    def make(self, rng: np.random.Generator) -> Sampler:
        return MCTS(communication="shared", **DENSE).phases(100)[0].build(setting(rng))


@pytest.mark.parametrize("strategy", [MCTS(**DENSE), LearnedTree(**DENSE)])
def test_the_warm_up_draws_by_the_law_and_the_walks_go_on_with_its_tree(strategy: Any) -> None:
    *_, warm, search = strategy.phases(100)
    sampler = warm.build(setting())
    assert isinstance(sampler, WeightedTreeSampler)
    # Equations 5.5 and 5.7, pair by pair, in percent (D5-1)
    rows = LOGITS.reshape(18, -1)
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    distances = (1 - units @ units.T).sum(axis=1) / 17
    np.testing.assert_allclose(sampler.probabilities, softmax(100 * distances / 20), rtol=1e-9)
    sampler.tell(SPACE.at(3), 0.25)
    walks = search.build(replace(setting(), previous=sampler))
    assert type(walks) is TreeSampler
    assert walks.tree is sampler.tree
    assert walks.tree.leaf(SPACE.at(3)).visits == 1


def test_uniform_is_the_default_and_builds_the_plain_sampler() -> None:
    sampler = MCTS().phases(10)[0].build(setting())
    assert type(sampler) is TreeSampler
    other = np.random.default_rng(0)
    assert [sampler.ask() for _ in range(20)] == [(SPACE.draw(other),) for _ in range(20)]
    assert "probabilities" not in sampler.state_dict()


def test_the_law_is_computed_when_the_warm_up_is_entered_and_before_a_new_start() -> None:
    given = setting()
    supernet = given.estimator
    assert isinstance(supernet, FakeSupernet)
    search = Search(LearnedTree(reinitialise=True, **DENSE).phases(20), given)
    for step in range(20):
        (architecture,) = search.ask()
        if search.sampler.needs_reward:
            search.tell(architecture, supernet.reward(architecture))
        # once for the tree and once for the law, after 40 % of the steps
        assert supernet.asked["outputs"] == (0 if step < 8 else 36)
    assert supernet.asked["reinitialise"] == 1


@pytest.mark.parametrize("strategy", [MCTS(**DENSE), LearnedTree(**DENSE)])
@pytest.mark.parametrize("stop", [10, 12, 19])
def test_a_search_resumed_anywhere_goes_on_with_the_same_law(strategy: Any, stop: int) -> None:
    def steps(search: Search, count: int) -> list[Any]:
        drawn: list[Any] = []
        for _ in range(count):
            drawn += search.ask()
            search.tell(drawn[-1], SPACE.index(drawn[-1]) / 20)
        return drawn

    phases = strategy.phases(20)
    whole, first = Search(phases, setting()), Search(phases, setting())
    expected = steps(whole, 20)
    before = steps(first, stop)
    second = Search(phases, setting(np.random.default_rng(9)))
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert before + steps(second, 20 - stop) == expected
    assert second.state_dict() == whole.state_dict()
    supernet = second.setting.estimator
    assert isinstance(supernet, FakeSupernet)
    assert supernet.asked["outputs"] == 0


@pytest.mark.parametrize("make", [MCTS, lambda **s: LearnedTree(distance="encoding", **s)])
def test_encodings_serve_tables(make: Any) -> None:
    table = pooling_table()
    strategy = make(warm_up_sampling="density", warm_up_distance="encoding")
    found = run(strategy.phases(400), table, seed=0)
    assert found.evaluations == 400
    uniform = run(make().phases(400), table, seed=0)
    assert [d.architecture for d in found.search.draws] != [
        d.architecture for d in uniform.search.draws
    ]
    with pytest.raises(ValueError, match="has no network outputs"):
        run(make(warm_up_sampling="density").phases(400), table, seed=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"warm_up_sampling": "even"}, "warm_up_sampling must be uniform or density, got 'even'"),
        ({"warm_up_distance": "cka"}, r"warm_up_distance must be one of \[.*\], got 'cka'"),
        ({"warm_up_temperature": 0.0}, "warm_up_temperature must be positive, got 0.0"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], message: str) -> None:
    for strategy in (MCTS, LearnedTree, IterativeMCTS):
        with pytest.raises(ValueError, match=f"^{message}"):
            strategy(**settings)


def test_a_space_too_large_to_be_compared_is_refused_at_the_first_step() -> None:
    search = Search(LearnedTree(max_architectures=17, **DENSE).phases(20), setting())
    with pytest.raises(ValueError, match="has 18 architectures, it must have at most 17"):
        search.ask()
    assert LearnedTree(max_architectures=50_000).density_limit == 50_000


def test_trees_of_rankings_have_no_warm_up() -> None:
    with pytest.raises(ValueError, match="warm_up_sampling must be uniform, the trees of rank"):
        IterativeMCTS(**DENSE)


def test_settings_survive_json() -> None:
    settings = json.loads(json.dumps(MCTS(**DENSE).settings))
    assert settings["warm_up_sampling"] == "density"
    settings.pop("reward")
    assert MCTS(**settings).settings == MCTS(**DENSE).settings


@pytest.mark.parametrize("distance", ["cosine", "gradient"])
def test_a_short_training_warms_the_tree_by_density(
    distance: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    data = digits(seed=0)
    trainer = Trainer(
        max_steps=24,
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
    out = tmp_path / "run"
    strategy = LearnedTree(
        warm_up_sampling="density", warm_up_distance=distance, warm_up_temperature=50.0, out=out
    )
    experiment = SearchExperiment(space, evaluator, strategy, out=out)
    experiment.run()
    experiment.stop()
    result = SearchResult.load(out)
    assert [name for name, _ in result.phases] == ["uniform", "tree warm-up", "search"]
    assert len(result.draws) == 24
    assert result.budget.output_passes == 12  # the tree's and the law's
    assert result.settings["warm_up_sampling"] == "density"

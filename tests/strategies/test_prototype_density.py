"""Sampling by prototypes, on stubs, on the table, and trained."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nas_ext.benchmarks import pooling_table, run
from nas_ext.data import digits, loader
from nas_ext.nni import Lightning, Trainer
from nas_ext.oneshot import SearchExperiment, SupernetTraining
from nas_ext.results import SearchResult
from nas_ext.samplers.prototype import PrototypeSampler
from nas_ext.search import Search, Setting
from nas_ext.spaces import PoolingResNet
from nas_ext.strategies.prototype_density import PrototypeDensity
from nas_ext.testing import FakeSupernet, small_space

SPACE = small_space()
LOGITS = np.random.default_rng(0).normal(size=(18, 4, 3))
FOUR = PrototypeDensity(prototypes=4, rate=0.001)


def setting(seed: int = 0) -> Setting:
    return Setting(SPACE, FakeSupernet(SPACE, logits=LOGITS), np.random.default_rng(seed))


def test_the_defaults_are_the_published_ones() -> None:
    made = PrototypeDensity()
    # Table 5.4: 100 prototypes; section 7: rate .05, temperature 1 in units of the deviation;
    # the warm-up of NAS-Bench-Macro, 20 of 50 epochs
    assert (made.prototypes, made.rate, made.temperature) == (100, 0.05, 1.0)
    assert (made.update, made.scaled) == ("printed", True)
    assert [phase.steps for phase in made.phases(50)] == [20, 30]
    assert made.candidates == 50


def test_steps_are_divided_among_the_rounds() -> None:
    phases = PrototypeDensity(rounds=3).phases(100)
    assert [(phase.name, phase.steps) for phase in phases] == [
        ("uniform warm-up", 40),
        ("density 1", 20),
        ("density 2", 20),
        ("density 3", 20),
    ]
    with pytest.raises(ValueError, match="steps must be at least 1 for each of 4 phases, got 3"):
        PrototypeDensity(rounds=3).phases(3)


def test_each_proposal_costs_one_forward_pass_and_none_a_reward() -> None:
    given = setting()
    supernet = given.estimator
    assert isinstance(supernet, FakeSupernet)
    search = Search(FOUR.phases(50), given)
    for _ in range(50):
        search.ask()
        assert not search.sampler.needs_reward
    assert isinstance(search.sampler, PrototypeSampler)
    # 18 <= 40 samples: the space is taken whole, then once for each proposal
    assert supernet.asked["outputs"] == 18 + search.sampler.proposals
    assert search.sampler.proposals > 30
    assert supernet.asked["reward"] == 0
    assert len(search.draws) == 50


def test_each_round_clusters_the_weights_as_they_stand() -> None:
    given = setting()
    supernet = given.estimator
    assert isinstance(supernet, FakeSupernet)
    search = Search(replace(FOUR, rounds=2).phases(20), given)
    for _ in range(14):
        search.ask()
    assert search.phase.name == "density 1"
    before = search.sampler
    search.ask()
    assert search.phase.name == "density 2"
    assert search.sampler is not before
    assert search.sampler.diagnostics()["prototype_spread"] == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("stop", [1, 8, 9, 20, 29])
def test_a_search_resumed_anywhere_goes_on_and_clusters_nothing_again(stop: int) -> None:
    phases = FOUR.phases(30)  # 12 and 18 steps
    whole, first = Search(phases, setting()), Search(phases, setting())
    expected = [whole.ask() for _ in range(30)]
    before = [first.ask() for _ in range(stop)]
    second = Search(phases, setting(99))
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    if stop > 12:
        supernet = second.setting.estimator
        assert isinstance(supernet, FakeSupernet)
        assert supernet.asked["outputs"] == 0
    assert before + [second.ask() for _ in range(30 - stop)] == expected
    assert second.state_dict() == whole.state_dict()


def test_phases_run_on_the_pooling_table() -> None:
    table = pooling_table()
    strategy = PrototypeDensity(representation="encoding", prototypes=5, rate=0.001)
    found = run(strategy.phases(400), table, seed=0)
    assert found.evaluations == 400
    assert found.accuracy == table.accuracies[found.found]
    assert run(strategy.phases(400), table, seed=0).search.draws == found.search.draws
    with pytest.raises(ValueError, match="has no network outputs"):
        run(PrototypeDensity(prototypes=5).phases(10), table, seed=0)


def test_more_prototypes_than_architectures_are_refused_at_the_first_step() -> None:
    search = Search(PrototypeDensity().phases(10), setting())
    with pytest.raises(ValueError, match=r"prototypes must be at most the 18 .* got 100"):
        search.ask()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prototypes": 1}, "prototypes must be at least 2, got 1"),
        ({"samples": 99}, "samples must be at least the 100 prototypes, got 99"),
        ({"prototypes": 3000}, "samples must be given for 3000 prototypes, got None"),
        ({"rate": -0.1}, r"rate must lie in \[0, 1\], got -0.1"),
        ({"temperature": float("inf")}, "temperature must be positive, got inf"),
        ({"update": "soft"}, "update must be 'printed' or 'inverse', got 'soft'"),
        ({"representation": "cka"}, "representation must be 'logits' or 'encoding', got 'cka'"),
        ({"rounds": 0}, "rounds must be at least 1, got 0"),
        ({"shares": (1, 1, 1)}, "shares must be 2 positive numbers"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        PrototypeDensity(**settings)


def test_settings_survive_json() -> None:
    settings = json.loads(json.dumps(PrototypeDensity(update="inverse", rounds=2).settings))
    settings.pop("reward")
    again = json.loads(json.dumps(PrototypeDensity(**settings).settings))
    assert again == {**settings, "reward": "accuracy"}


def test_a_short_training_finds_samples_and_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    torch.manual_seed(0)
    space = PoolingResNet(widths=(4, 4, 4, 8, 8), poolings=2, num_classes=10, in_chs=1)
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
    strategy = PrototypeDensity(prototypes=3, rate=0.01, out=tmp_path / "run")
    experiment = SearchExperiment(space, evaluator, strategy, out=tmp_path / "run")
    experiment.run()
    assert len(experiment.export_top_models(2, formatter="dict")) == 2
    experiment.stop()
    result = SearchResult.load(tmp_path / "run")
    module: Any = strategy.oneshot_module
    sampler = module.search.sampler
    assert [steps for _, steps in result.phases] == [10, 14]
    assert result.budget.train_passes == 24
    # The six architectures were clustered, then one pass for each proposal, taken or not.
    assert result.budget.output_passes == 6 + sampler.proposals
    assert sampler.proposals > 14
    assert len(result.ranking) == 6

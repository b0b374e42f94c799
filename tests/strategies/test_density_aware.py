"""Density-aware sampling, on stubs, on the table, and trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax

from nas_ext.benchmarks import pooling_table, run
from nas_ext.data import digits, loader
from nas_ext.density import log_density, mean_cosine, mean_of_condensed
from nas_ext.kmeans import unit_rows
from nas_ext.nni import Lightning, Trainer
from nas_ext.oneshot import SearchExperiment, SupernetTraining
from nas_ext.results import SearchResult
from nas_ext.samplers import Sampler
from nas_ext.samplers.weighted import WeightedSampler
from nas_ext.search import Search, Setting
from nas_ext.similarity import DISTANCES
from nas_ext.spaces import PoolingResNet
from nas_ext.sparsity import perplexity, probabilities
from nas_ext.strategies.density_aware import DensityAware
from nas_ext.testing import FakeSupernet, small_space

SPACE = small_space()
LOGITS = np.random.default_rng(0).normal(size=(18, 4, 3)) + np.linspace(0, 2, 18)[:, None, None]
ROWS = LOGITS.reshape(18, -1)


def setting(seed: int = 0) -> Setting:
    return Setting(SPACE, FakeSupernet(SPACE, logits=LOGITS), np.random.default_rng(seed))


def last(strategy: DensityAware, given: Setting) -> Sampler:
    sampler: Sampler | None = None
    for phase in strategy.phases(100):
        sampler = phase.build(replace(given, previous=sampler))
    assert sampler is not None
    return sampler


def test_the_defaults_are_the_published_ones() -> None:
    made = DensityAware()
    # Section 5.2: 50 of 300 epochs warm up, temperature 5, in percent (D5-1); all are ranked
    assert [phase.steps for phase in made.phases(300)] == [50, 250]
    assert [phase.name for phase in made.phases(300)] == ["uniform warm-up", "density-aware"]
    assert (made.distance, made.temperature, made.scale) == ("cosine", 5.0, 100.0)
    assert made.candidates is None
    assert not any(phase.reinitialise for phase in made.phases(300))


def test_fewer_steps_than_phases_are_refused() -> None:
    assert [phase.steps for phase in DensityAware().phases(2)] == [1, 1]
    with pytest.raises(ValueError, match="steps must be at least 1 for each of 2 phases, got 1"):
        DensityAware().phases(1)


def test_the_law_is_the_softmax_of_mean_distances_in_percent() -> None:
    law = DensityAware().law(setting())
    # Equations 5.5 and 5.7, pair by pair
    units = ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True)
    distances = (1 - units @ units.T).sum(axis=1) / 17
    np.testing.assert_allclose(law, softmax(100 * distances / 5), rtol=1e-9)


def test_the_published_temperature_on_raw_distances_is_uniform_sampling() -> None:
    # Pitfall 21
    law = DensityAware(scale=1.0).law(setting())
    assert perplexity(law) > 0.99
    assert perplexity(DensityAware().law(setting())) < 0.9


@pytest.mark.parametrize("distance", ["cosine", "l2", "kl", "cross-entropy"])
def test_each_output_distance_is_averaged_over_the_others(distance: Any) -> None:
    expected = mean_of_condensed(DISTANCES[distance](LOGITS))
    np.testing.assert_allclose(
        DensityAware(distance=distance).sparsity(setting()), expected, rtol=1e-9
    )


def test_the_kernel_variant_inverts_a_density() -> None:
    made = DensityAware(density="kde", bandwidth=0.5).sparsity(setting())
    np.testing.assert_allclose(made, np.exp(-log_density(unit_rows(ROWS), bandwidth=0.5)))
    assert ((made >= 1) & (made <= 18)).all()
    p = softmax(LOGITS, axis=-1).reshape(18, -1) / 2  # root mean square over 4 samples
    made = DensityAware(density="kde", distance="l2").sparsity(setting())
    np.testing.assert_allclose(made, np.exp(-log_density(p)))


def test_a_perplexity_is_met() -> None:
    made = last(DensityAware(mode="perplexity", perplexity=0.6), setting())
    assert made.diagnostics()["perplexity"] == pytest.approx(0.6)


def test_one_that_takes_over_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="of all draws, the perplexity is"):
        last(DensityAware(temperature=0.1), setting())


def test_densities_are_computed_once_after_the_warm_up_and_no_rewards_are_asked() -> None:
    given = setting()
    supernet = given.estimator
    assert isinstance(supernet, FakeSupernet)
    search = Search(DensityAware(temperature=50.0).phases(12), given)
    for step in range(12):
        search.ask()
        assert not search.sampler.needs_reward
        assert supernet.asked["outputs"] == (0 if step < 2 else 18)
    assert supernet.asked["reward"] == supernet.asked["reinitialise"] == 0
    assert len(search.rank(None)) == 18


@pytest.mark.parametrize("stop", [1, 3, 4, 15, 29])
def test_a_search_resumed_anywhere_goes_on_and_compares_nothing_again(stop: int) -> None:
    phases = DensityAware(temperature=50.0).phases(30)
    whole, first = Search(phases, setting()), Search(phases, setting())
    expected = [whole.ask() for _ in range(30)]
    before = [first.ask() for _ in range(stop)]
    second = Search(phases, setting(99))
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert before + [second.ask() for _ in range(30 - stop)] == expected
    assert second.state_dict() == whole.state_dict()
    supernet = second.setting.estimator
    assert isinstance(supernet, FakeSupernet)
    assert supernet.asked["outputs"] == (18 if stop <= 5 else 0)


def test_phases_run_on_the_pooling_table() -> None:
    table = pooling_table()
    found = run(DensityAware(distance="encoding").phases(700), table, seed=0)
    assert found.evaluations == 700
    assert found.accuracy == table.accuracies[found.found]
    last_sampler = found.search.sampler
    assert isinstance(last_sampler, WeightedSampler)
    # By hand: [1,1,8] is at resolution 2 nearly throughout, far from most; mixtures are near.
    law = dict(zip(table.space, last_sampler.probabilities, strict=True))
    corner = table.space.index(max(law, key=lambda a: law[a]))
    assert corner in (0, 7, 35)  # [1,1,8], [1,8,1], [8,1,1]


def test_a_table_has_neither_outputs_nor_gradients() -> None:
    table = pooling_table()
    with pytest.raises(ValueError, match="has no network outputs"):
        run(DensityAware().phases(10), table, seed=0)
    with pytest.raises(ValueError, match=r"distance 'gradient' needs a supernet, got Tabular"):
        run(DensityAware(distance="gradient").phases(10), table, seed=0)


def test_a_space_too_large_is_refused_at_the_first_step() -> None:
    search = Search(DensityAware(max_architectures=17).phases(10), setting())
    with pytest.raises(ValueError, match="has 18 architectures, it must have at most 17"):
        search.ask()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"distance": "euclid"}, r"distance must be one of \[.*\], got 'euclid'"),
        ({"density": "knn"}, "density must be 'mean' or 'kde', got 'knn'"),
        ({"density": "kde", "distance": "kl"}, "density 'kde' needs distance cosine or l2"),
        ({"mode": "auto"}, "mode must be 'temperature' or 'perplexity', got 'auto'"),
        ({"temperature": 0.0}, "temperature must be positive, got 0.0"),
        ({"scale": float("nan")}, "scale must be positive, got nan"),
        ({"bandwidth": -1.0}, "bandwidth must be positive, got -1.0"),
        ({"perplexity": 1.0}, r"perplexity must lie in \(0, 1\), got 1.0"),
        ({"distance": "representational"}, r"layers must name modules .* got \[\]"),
        ({"layers": ("stem",)}, r"layers must name modules .* got \['stem'\] for 'cosine'"),
        ({"max_architectures": 0}, "max_architectures must be at least 1, got 0"),
        ({"shares": (1.0,)}, "shares must be 2 positive numbers"),
        ({"candidates": 0}, "candidates must be at least 1, got 0"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        DensityAware(**settings)


def test_settings_survive_json() -> None:
    made = DensityAware(distance="representational", layers=("blocks.1", "blocks.3"))
    settings = json.loads(json.dumps(made.settings))
    settings.pop("reward")
    assert json.loads(json.dumps(DensityAware(**settings).settings)) == {
        **settings,
        "reward": "accuracy",
    }


def tiny() -> PoolingResNet:
    torch.manual_seed(0)
    return PoolingResNet(widths=(4, 4, 4, 8, 8), poolings=2, num_classes=10, in_chs=1)


def train(strategy: Any, folder: Path, steps: int = 24) -> SearchResult:
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
    experiment = SearchExperiment(tiny(), evaluator, strategy, out=folder)
    experiment.run()
    assert len(experiment.export_top_models(2, formatter="dict")) == 2
    experiment.stop()
    return SearchResult.load(folder)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"distance": "gradient"},
        {"distance": "representational", "layers": ("blocks.1", "blocks.3")},
    ],
    ids=["functional", "gradient", "representational"],
)
def test_a_short_training_finds_samples_and_is_saved(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    strategy = DensityAware(mode="perplexity", perplexity=0.9, out=tmp_path / "run", **settings)
    result = train(strategy, tmp_path / "run")
    assert result.phases == (("uniform warm-up", 4), ("density-aware", 20))
    assert len(result.draws) == 24
    assert all(draw.reward is None for draw in result.draws)
    assert len(result.ranking) == 6
    assert result.budget.output_passes == 6
    assert result.settings["mode"] == "perplexity"
    module: Any = strategy.oneshot_module
    assert module.search.sampler.diagnostics()["perplexity"] == pytest.approx(0.9)


def test_all_distances_of_one_supernet_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    strategy = DensityAware(mode="perplexity", out=tmp_path / "run")
    train(strategy, tmp_path / "run")
    module: Any = strategy.oneshot_module
    given = Setting(module.supernet.space, module.supernet, np.random.default_rng(0))
    make: list[Callable[[], DensityAware]] = [
        DensityAware,
        lambda: DensityAware(distance="gradient"),
        lambda: DensityAware(distance="representational", layers=("blocks.3",)),
        lambda: DensityAware(distance="encoding"),
    ]
    found = [one().sparsity(given) for one in make]
    assert all((values > 0).all() and np.ptp(values) > 0 for values in found)
    logits = module.supernet.outputs(tuple(given.space))
    np.testing.assert_allclose(found[0], mean_cosine(logits.reshape(len(logits), -1)))
    assert probabilities(found[0], temperature=1.0).sum() == pytest.approx(1.0)
    assert len({tuple(np.round(values, 6)) for values in found}) == 4

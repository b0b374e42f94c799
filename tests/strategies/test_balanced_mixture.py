"""The balanced mixture: its settings, its phases, and supernets that leave each other alone."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nni.nas.experiment import NasExperiment
from nni.nas.nn.pytorch import LayerChoice
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nas_ext.architecture import Architecture
from nas_ext.benchmarks import pooling_table, run
from nas_ext.data import digits, loader
from nas_ext.nni import Lightning, ModelSpace, Trainer
from nas_ext.oneshot import SearchExperiment, SupernetTraining
from nas_ext.oneshot.mixture import MixtureModel
from nas_ext.results import SearchResult
from nas_ext.samplers import Sampler
from nas_ext.samplers.mixture import MixtureSampler, TabularMixtureSampler
from nas_ext.samplers.mixture_space import MixtureSpace
from nas_ext.search import Search, Setting
from nas_ext.spaces import PoolingResNet
from nas_ext.strategies import Uniform
from nas_ext.strategies.balanced_mixture import BalancedMixture
from nas_ext.testing import FakeSupernet, SamplerContract, small_space

BASE = small_space()
SPACE = MixtureSpace(BASE, 3)
MIXTURE = BalancedMixture(models=3)


def sampler_of(
    strategy: BalancedMixture, space: Any, rng: np.random.Generator | None = None, steps: int = 100
) -> Sampler:
    (phase,) = strategy.phases(steps)
    return phase.build(Setting(space, FakeSupernet(space), rng or np.random.default_rng(0)))


class TestMixtureOfTheStrategy(SamplerContract):
    space = SPACE

    def make(self, rng: np.random.Generator) -> Sampler:
        return sampler_of(MIXTURE, self.space, rng)


# Settings.


def test_the_defaults_are_the_readings_of_the_published_method() -> None:
    # Section 2.2: s from 1 to 100 M, beta .95, a = 1, KL under 1e-4; large spaces: the best 50
    assert (MIXTURE.schedule, MIXTURE.decay, MIXTURE.initial_value) == ("inverse", 0.95, 1.0)
    assert (MIXTURE.ipf_refresh, MIXTURE.tolerance, MIXTURE.candidates) == ("step", 1e-4, 50)
    for models in (2, 8):
        s = BalancedMixture(models=models).inverse_temperature(1000)
        assert (s(0), s(999)) == (1.0, 100.0 * models)


def test_the_inverse_temperature_rises_early_and_the_temperature_falls_late() -> None:
    # D2-3, pitfall 2: with s_max of 100, s passes 20 after 19 % of the steps; a linear tau leaves
    # it below 20 for 95 % of them
    steps = 10_000
    for schedule, share in (("inverse", 0.192), ("temperature", 0.9596)):
        made = BalancedMixture(
            models=4,
            schedule=schedule,  # type: ignore[arg-type]  # each name is a schedule
            final_inverse_temperature=100.0,
        )
        s = made.inverse_temperature(steps)
        assert [s(0), s(steps - 1)] == pytest.approx([1.0, 100.0])
        below = sum(s(step) < 20.0 for step in range(steps)) / steps
        assert below == pytest.approx(share, abs=1e-3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"models": 0}, "models must be at least 1, got 0"),
        ({"schedule": "cosine"}, "schedule must be inverse or temperature, got 'cosine'"),
        ({"final_inverse_temperature": 0.5}, "final_inverse_temperature must be at least 1, got"),
        ({"final_inverse_temperature": math.nan}, "final_inverse_temperature must be at least 1"),
        ({"decay": 1.0}, r"decay must lie in \[0, 1\), got 1.0"),
        ({"decay": math.nan}, r"decay must lie in \[0, 1\), got nan"),
        ({"initial_value": -0.1}, r"initial_value must lie in \[0, 1\], got -0.1"),
        ({"initial_value": math.nan}, r"initial_value must lie in \[0, 1\], got nan"),
        (
            {"ipf_refresh": "epoch"},
            "ipf_refresh must be 'step' or a positive integer, got 'epoch'",
        ),
        ({"ipf_refresh": 0}, "ipf_refresh must be 'step' or a positive integer, got 0"),
        ({"ipf_refresh": True}, "ipf_refresh must be a text or a whole number, got True"),
        ({"tolerance": 0.0}, "tolerance must be positive, got 0.0"),
        ({"tolerance": math.inf}, "tolerance must be positive, got inf"),
        ({"max_architectures": 0}, "max_architectures must be at least 1, got 0"),
        ({"seed": -1}, "seed must not be negative, got -1"),
        ({"candidates": 0}, "candidates must be at least 1, got 0"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        BalancedMixture(**settings)


def test_settings_survive_json() -> None:
    made = BalancedMixture(models=2, ipf_refresh=10, seed=3)
    settings = json.loads(json.dumps(made.settings))
    settings.pop("reward")
    again = BalancedMixture(**settings)
    assert json.loads(json.dumps(again.settings)) == json.loads(json.dumps(made.settings))
    assert (again.models, again.ipf_refresh, again.seed) == (2, 10, 3)


# Phases.


def test_there_is_one_phase_and_it_needs_a_step() -> None:
    assert [(p.name, p.steps, p.reinitialise) for p in MIXTURE.phases(7)] == [
        ("mixture", 7, False)
    ]
    with pytest.raises(ValueError, match="steps of phase 'mixture' must be at least 1, got 0"):
        MIXTURE.phases(0)


@pytest.mark.parametrize(
    ("refresh", "steps", "hold"),
    [("step", 900, 1), ("step", 1000, 1), ("step", 1001, 2), ("step", 38_800, 39), (10, 100, 10)],
)
def test_the_temperature_is_held_where_nobody_could_tell(
    refresh: Any, steps: int, hold: int
) -> None:
    sampler = sampler_of(BalancedMixture(models=3, ipf_refresh=refresh), SPACE, steps=steps)
    assert isinstance(sampler, MixtureSampler)
    assert sampler.hold == hold
    assert sampler.balance.rebalanced == (refresh == "step")


def test_settings_reach_the_sampler() -> None:
    made = BalancedMixture(
        models=3, decay=0.5, initial_value=0.2, tolerance=1e-3, final_inverse_temperature=7.0
    )
    sampler = sampler_of(made, SPACE)
    assert isinstance(sampler, MixtureSampler)
    assert (sampler.decay, sampler.initial, sampler.balance.tolerance) == (0.5, 0.2, 1e-3)
    assert sampler.inverse_temperature(99) == 7.0
    with pytest.raises(ValueError, match="has 18 architectures, it must have at most 17"):
        sampler_of(BalancedMixture(models=3, max_architectures=17), SPACE)


@pytest.mark.parametrize("stop", [1, 20, 33])
@pytest.mark.parametrize("space", [SPACE, BASE], ids=["supernets", "table"])
def test_a_search_resumed_in_mid_phase_goes_on_as_if_it_had_not_stopped(
    stop: int, space: Any
) -> None:
    accuracies = {a: 0.3 + 0.5 * i / space.size for i, a in enumerate(space)}

    def search(seed: int) -> Search:
        setting = Setting(space, FakeSupernet(space, accuracies), np.random.default_rng(seed))
        return Search(MIXTURE.phases(50), setting)

    def advance(one: Search, steps: int) -> list[Architecture]:
        asked = []
        for _ in range(steps):
            (architecture,) = one.ask()
            one.tell(architecture, one.setting.estimator.reward(architecture))
            asked.append(architecture)
        return asked

    whole, first, second = search(0), search(0), search(9)
    expected = advance(whole, 50)
    before = advance(first, stop)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert before + advance(second, 50 - stop) == expected
    assert second.state_dict() == whole.state_dict()
    assert second.rank(5) == whole.rank(5)


@pytest.mark.parametrize("models", [1, 4])
def test_on_a_table_its_draws_are_uniform(models: int) -> None:
    table = pooling_table()
    found = run(BalancedMixture(models=models).phases(700), table, seed=0)
    again = run(BalancedMixture(models=models).phases(700), table, seed=0)
    assert again.search.draws == found.search.draws
    assert found.found in table.space
    assert found.evaluations == 700
    assert isinstance(found.search.sampler, TabularMixtureSampler) == (models > 1)
    # 5 sigma of the largest of 36 binomials with p = 1/36, n = 700: 19 + 22
    assert max(Counter(d.architecture for d in found.search.draws).values()) < 41


def test_one_model_finds_on_a_table_what_uniform_finds() -> None:
    table = pooling_table()
    one = run(BalancedMixture(models=1).phases(300), table, seed=3)
    uniform = run(Uniform().phases(300), table, seed=3)
    assert (one.found, one.search.draws) == (uniform.found, uniform.search.draws)


# Real supernets.


class Tiny(ModelSpace):  # type: ignore[misc]  # NNI has no types
    """Two choices of two layers on the pixels of a digit, with a norm that tracks statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8))
        self.layers = nn.ModuleList(
            LayerChoice([nn.Linear(8, 8), nn.Sequential(nn.Linear(8, 8), nn.Tanh())], label=name)
            for name in ("one", "two")
        )
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for layer in self.layers:
            x = layer(x)
        logits: Tensor = self.head(x)
        return logits


class Shared(ModelSpace):  # type: ignore[misc]  # NNI has no types
    """A model space whose layers were built outside."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.choice = LayerChoice([layer, nn.Identity()], label="choice")

    def forward(self, x: Tensor) -> Any:
        return self.choice(x)


def tiny() -> Any:
    """Build a `Tiny`; NNI lets type checkers think that it may be any module."""
    return Tiny()


class Watch(Callback):
    """Keep the state of a model before the first step and after each."""

    def __init__(self) -> None:
        self.states: list[dict[str, Tensor]] = []
        self.asked: list[Architecture] = []

    def _note(self, module: Any) -> None:
        state = module.training_module.model.state_dict()
        self.states.append({name: value.clone() for name, value in state.items()})

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._note(pl_module)

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._note(pl_module)
        self.asked += [draw.architecture for draw in pl_module.search.draws[-1:]]


Train = Callable[..., Any]


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Run a strategy on digits, 10 steps an epoch, and return its experiment."""
    monkeypatch.setenv("HOME", str(tmp_path))
    data = digits(seed=0)
    images, validation = (part.select(torch.arange(80)) for part in (data.train, data.val))

    def fit(
        strategy: Any,
        space: Any = None,
        *,
        stock: bool = False,
        shuffled: bool = False,
        **given: Any,
    ) -> Any:
        if space is None:
            torch.manual_seed(0)
            space = PoolingResNet(widths=(2, 2, 2, 4), poolings=1, in_chs=1)
        torch.manual_seed(1)
        trainer = Trainer(
            **{
                "accelerator": "cpu",
                "logger": False,
                "enable_checkpointing": False,
                "enable_progress_bar": False,
                "enable_model_summary": False,
                "limit_val_batches": 0,
                "max_epochs": 3,
                **{name: value for name, value in given.items() if name != "ckpt_path"},
            }
        )
        loaders: Any = (
            loader(images, data, batch_size=8, train=True),
            loader(validation, data, batch_size=40, train=False),
        )
        if shuffled:  # torch's own loaders draw from the global generator
            sets = [TensorDataset(i.pixels.float() / 16, i.labels) for i in (images, validation)]
            loaders = (DataLoader(sets[0], batch_size=8, shuffle=True), DataLoader(sets[1], 40))
        evaluator = Lightning(
            SupernetTraining(learning_rate=0.1),
            trainer,
            train_dataloaders=loaders[0],
            val_dataloaders=loaders[1],
            fit_kwargs={"ckpt_path": given["ckpt_path"]} if "ckpt_path" in given else {},
        )
        if stock:
            experiment = NasExperiment(space, evaluator, strategy)
        else:
            experiment = SearchExperiment(space, evaluator, strategy, out=tmp_path / "out")
        experiment.run()
        experiment.stop()
        return experiment

    return fit


@pytest.mark.parametrize("stock", [True, False])
def test_a_mixture_is_searched_and_exported_in_the_users_own_space(
    stock: bool, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    strategy = BalancedMixture(models=3, out=tmp_path)
    experiment = train(strategy, stock=stock)
    result = SearchResult.load(tmp_path)
    space = PoolingResNet(widths=(2, 2, 2, 4), poolings=1, in_chs=1)
    base = space.search_space
    assert sorted(line.architecture for line in result.ranking) == list(base)
    assert all(draw.architecture in base and draw.reward is not None for draw in result.draws)
    assert [line.name for line in result.ranking] == [
        base.describe(line.architecture) for line in result.ranking
    ]
    for line in result.ranking:
        assert line.macs == space.macs(line.architecture, image_size=(8, 8))
        assert line.parameters == space.parameter_count(line.architecture)
    assert result.space == {"name": base.name, "size": 3, "arguments": space.arguments}
    budget = result.budget
    assert (budget.steps, budget.train_passes, budget.reward_passes) == (30, 30, 30)
    # 30 training batches of 8 cost three passes, 30 rewards of 40 and 3 rankings of 80 one
    images = Counter({a: 80 for a in base})
    for draw in result.draws:
        images[draw.architecture] += 3 * 8 + 40
    assert budget.macs == sum(n * space.macs(a, image_size=(8, 8)) for a, n in images.items())
    samples = experiment.export_top_models(2, formatter="dict")
    assert samples == [dict(line.sample) for line in result.ranking[:2]]
    assert set(strategy.supernets) == set(base)
    assert set(strategy.supernets.values()) <= {0, 1, 2}


def test_an_exported_network_has_the_weights_of_its_own_supernet(train: Train) -> None:
    strategy = BalancedMixture(models=3)
    experiment = train(strategy)
    images = torch.rand(5, 1, 8, 8)
    exported = experiment.export_top_models(3, formatter="instance")
    for line, network in zip(strategy.result.ranking, exported, strict=True):
        supernet: Any = strategy.supernet
        searched = strategy.searched_space
        architecture = (*line.architecture, strategy.supernets[line.architecture])
        for module in supernet.modules():
            if hasattr(module, "resample"):
                module.resample(memo=searched.decode(architecture))
        assert (network(images) == supernet(images)).all()
        with torch.no_grad():  # a copy: changing it leaves the supernet as it is
            before = supernet(images)
            next(iter(network.parameters())).zero_()
            assert (supernet(images) == before).all()
            frozen = supernet.freeze(searched.decode(architecture))
            assert (frozen(images) == before).all()


def test_the_ranking_evaluates_each_architecture_in_its_own_supernet(train: Train) -> None:
    strategy = BalancedMixture(models=3, candidates=None)
    train(strategy)
    module: Any = strategy.oneshot_module
    assert len(strategy.result.ranking) == 3
    for line in strategy.result.ranking:
        architecture = (*line.architecture, strategy.supernets[line.architecture])
        assert module.supernet.accuracies([architecture])[0] == line.accuracy


@pytest.mark.parametrize("space", [None, tiny])
def test_a_supernet_that_is_not_trained_does_not_move_by_a_bit(space: Any, train: Train) -> None:
    # SupernetTraining: SGD with momentum .9 and weight decay 1e-3, one optimizer for all
    watch, strategy = Watch(), BalancedMixture(models=3)
    train(strategy, None if space is None else space(), callbacks=[watch], max_epochs=4)
    assert {a[-1] for a in watch.asked} == {0, 1, 2}
    for before, after, architecture in zip(
        watch.states[:-1], watch.states[1:], watch.asked, strict=True
    ):
        moved = {n.split(".")[1] for n, v in after.items() if not torch.equal(v, before[n])}
        assert moved == {str(architecture[-1])}
    optimizer: Any = strategy.oneshot_module.trainer.optimizers[0]
    model: Any = strategy.supernet
    assert len(optimizer.param_groups[0]["params"]) == len(list(model.parameters()))


def test_a_supernet_that_was_never_trained_has_no_optimizer_state(train: Train) -> None:
    strategy = BalancedMixture(models=8)
    train(strategy, max_epochs=1, max_steps=3)
    module: Any = strategy.oneshot_module
    trained = {draw.architecture[-1] for draw in module.search.draws}
    state = module.trainer.optimizers[0].state
    model: Any = strategy.supernet
    for number, member in enumerate(model.members):
        held = [parameter in state for parameter in member.parameters()]
        assert all(held) if number in trained else not any(held)


@pytest.mark.parametrize("shuffled", [False, True])
def test_one_model_is_uniform_bit_for_bit(shuffled: bool, train: Train) -> None:
    one, uniform = BalancedMixture(models=1, seed=4), Uniform(seed=4)
    for strategy in (one, uniform):
        train(strategy, shuffled=shuffled)
    assert one.result.draws == uniform.result.draws
    assert one.result.ranking == uniform.result.ranking
    expected: Any = uniform.supernet
    found: Any = one.supernet
    assert found.state_dict().keys() == expected.state_dict().keys()
    for name, value in expected.state_dict().items():
        assert torch.equal(found.state_dict()[name], value), name
    assert one.result.budget.reward_passes == 0
    assert set(one.supernets.values()) == {0}


def test_supernets_begin_apart_and_depend_on_the_seed_alone() -> None:
    torch.manual_seed(0)
    own = tiny()
    weight = own.head.weight.clone()
    before = torch.get_rng_state()
    mixture: Any = BalancedMixture(models=3, seed=5).mutate_model(own)
    assert (torch.get_rng_state() == before).all()
    assert mixture.members[0] is own
    assert torch.equal(mixture.members[0].head.weight, weight)
    heads = [member.head.weight for member in mixture.members]
    assert len({tuple(head.flatten().tolist()) for head in heads}) == 3
    torch.manual_seed(99)
    again: Any = BalancedMixture(models=3, seed=5).mutate_model(tiny())
    assert torch.equal(again.members[2].head.weight, heads[2])
    other: Any = BalancedMixture(models=3, seed=6).mutate_model(tiny())
    assert not torch.equal(other.members[2].head.weight, heads[2])


def test_new_weights_are_new_for_every_supernet_and_fit_the_mixture() -> None:
    strategy = BalancedMixture(models=3)
    mixture: Any = strategy.mutate_model(tiny())
    fresh = strategy._renewed(7)
    assert fresh.keys() == mixture.state_dict().keys()
    weights = [fresh[f"members.{m}.head.weight"] for m in range(3)]
    weights += [member.head.weight for member in mixture.members]
    assert len({tuple(w.flatten().tolist()) for w in weights}) == 6
    assert strategy._mutated_model() is mixture


def test_a_checkpoint_in_mid_search_goes_on_as_if_it_had_not_stopped(
    train: Train, tmp_path: Path
) -> None:
    whole = BalancedMixture(models=3)
    saved = ModelCheckpoint(dirpath=tmp_path, every_n_train_steps=10, save_top_k=-1)
    train(whole, enable_checkpointing=True, callbacks=[saved])
    (path,) = tmp_path.glob("*step=10.ckpt")
    second = BalancedMixture(models=3)
    train(second, ckpt_path=str(path))
    assert second.result.draws == whole.result.draws
    assert second.result.ranking == whole.result.ranking
    assert second.supernets == whole.supernets
    expected: Any = whole.supernet
    found: Any = second.supernet
    for name, value in expected.state_dict().items():
        assert torch.equal(found.state_dict()[name], value), name


def test_a_mixture_refuses_what_it_cannot_do() -> None:
    shared: Any = Shared(nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"its arguments hold parameter 'choice\..*weight'"):
        BalancedMixture(models=2).mutate_model(shared)
    mixture: Any = MixtureModel([tiny(), tiny()])
    with pytest.raises(RuntimeError, match="a supernet must be chosen before"):
        mixture(torch.zeros(2, 1, 8, 8))
    for wrong in ({}, {"supernet": 2}, {"supernet": -1}, {"supernet": "0"}):
        with pytest.raises(ValueError, match="sample must have a 'supernet' below 2, got"):
            mixture.resample(wrong)
    with pytest.raises(ValueError, match="must not be a supernet already"):
        BalancedMixture(models=2).mutate_model(BalancedMixture(models=2).mutate_model(tiny()))
    with pytest.raises(RuntimeError):
        _ = BalancedMixture(models=2).supernets


def test_a_mixture_says_of_itself_what_its_model_space_says() -> None:
    space = PoolingResNet.mini()
    architecture = space.search_space.at(3)
    expected = (space.macs(architecture, image_size=(8, 8)), space.parameter_count(architecture))
    mixture: Any = BalancedMixture(models=2).mutate_model(space)
    assert mixture.macs(architecture, image_size=(8, 8)) == expected[0]
    assert mixture.parameter_count(architecture) == expected[1]
    assert mixture.arguments == space.arguments
    assert mixture.search_space is space.search_space
    plain = MixtureModel([tiny(), tiny()])
    assert getattr(plain, "macs", None) is None
    assert getattr(plain, "arguments", None) is None

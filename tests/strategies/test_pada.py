"""PA&DA: settings, phases, what it learns in a real training, and what it cannot watch."""

from __future__ import annotations

import json
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
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from nas_ext.architecture import Architecture, Choice, SearchSpace
from nas_ext.benchmarks import pooling_table, run
from nas_ext.data import Augmentation, digits, loader
from nas_ext.nni import Lightning, ModelSpace, Trainer
from nas_ext.oneshot import SearchExperiment, SupernetTraining
from nas_ext.oneshot.data_order import reordered
from nas_ext.oneshot.option_parameters import gradient_norms, option_parameters
from nas_ext.samplers import Sampler
from nas_ext.samplers.path_importance import PathImportanceSampler
from nas_ext.search import Search, Setting
from nas_ext.spaces import PoolingResNet
from nas_ext.strategies import Uniform
from nas_ext.strategies.pada import PADA
from nas_ext.testing import FakeSupernet, SamplerContract, small_space

SPACE = small_space()


class TestSamplerOfTheStrategy(SamplerContract):
    def make(self, rng: np.random.Generator) -> Sampler:
        (phase,) = PADA().phases(100)
        return phase.build(Setting(self.space, FakeSupernet(self.space), rng))


# Settings and phases.


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path_sampling": 1}, "path_sampling must be true or false, got 1"),
        ({"data_sampling": None}, "data_sampling must be true or false, got None"),
        ({"candidates": 0}, "candidates must be at least 1, got 0"),
        ({"seed": -1}, "seed must not be negative, got -1"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        PADA(**settings)


def test_settings_survive_json() -> None:
    made = PADA(path_sampling=False, seed=3)
    settings = json.loads(json.dumps(made.settings))
    settings.pop("reward")
    again = PADA(**settings)
    assert again.settings == made.settings
    assert (again.path_sampling, again.data_sampling, again.seed) == (False, True, 3)


def test_there_is_one_phase_and_it_needs_a_step() -> None:
    assert [(p.name, p.steps, p.reinitialise) for p in PADA().phases(7)] == [
        ("importance", 7, False)
    ]
    with pytest.raises(ValueError, match="steps of phase 'importance' must be at least 1, got 0"):
        PADA().phases(0)


@pytest.mark.parametrize("paths", [True, False])
def test_on_a_table_its_draws_are_uniform(paths: bool) -> None:
    found = run(PADA(path_sampling=paths).phases(700), pooling_table(), seed=0)
    assert isinstance(found.search.sampler, PathImportanceSampler) == paths
    assert found.found in pooling_table().space
    # 5 sigma of the largest of 36 binomials with p = 1/36, n = 700: 19 + 22
    assert max(Counter(d.architecture for d in found.search.draws).values()) < 41


@pytest.mark.parametrize("stop", [1, 15, 24])
def test_a_search_resumed_in_mid_phase_goes_on_as_if_it_had_not_stopped(stop: int) -> None:
    def search(seed: int) -> Search:
        setting = Setting(SPACE, FakeSupernet(SPACE), np.random.default_rng(seed))
        return Search(PADA().phases(40), setting)

    def advance(one: Search, first: int, last: int) -> list[Architecture]:
        asked = []
        for step in range(first, last):
            (architecture,) = one.ask()
            sampler: Any = one.sampler
            sampler.learn(architecture, [1.0 + option for option in architecture])
            if step % 10 == 9:
                sampler.end_epoch((step // 10) / 4)
            asked.append(architecture)
        return asked

    whole, first, second = search(0), search(0), search(9)
    expected = advance(whole, 0, 40)
    before = advance(first, 0, stop)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert before + advance(second, stop, 40) == expected
    assert second.state_dict() == whole.state_dict()


# Real trainings.


class Tiny(ModelSpace):  # type: ignore[misc]  # NNI has no types
    """Two choices on the pixels of a digit; the second has an option without parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Flatten(), nn.Linear(64, 8))
        self.one = LayerChoice([nn.Linear(8, 8), nn.Sequential(nn.Linear(8, 8))], label="one")
        self.two = LayerChoice([nn.Linear(8, 8), nn.Identity()], label="two")
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.two(self.one(self.stem(x))))
        return logits


def tiny() -> Any:
    """Build a `Tiny`; NNI lets type checkers think that it may be any module."""
    torch.manual_seed(0)
    return Tiny()


def pooling() -> Any:
    torch.manual_seed(0)
    return PoolingResNet(widths=(2, 2, 2, 4), poolings=1, in_chs=1)


class Told(SupernetTraining):
    """Write down what each training step was about, for a second calculation."""

    def __init__(self) -> None:
        super().__init__(learning_rate=0.1)
        self.steps: list[dict[str, Any]] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        images, labels = batch
        logits = self(images)
        error = logits.detach().softmax(dim=1) - nn.functional.one_hot(labels, 10)
        self.steps.append({"images": images.clone(), "scores": error.pow(2).sum(1).sqrt()})
        return nn.functional.cross_entropy(logits, labels)

    def on_after_backward(self) -> None:
        self.steps[-1]["norms"] = {
            name: float(p.grad.pow(2).sum().sqrt())
            for name, p in self.model.named_parameters()
            if p.grad is not None
        }


class Laws(Callback):
    """Keep, at the first batch of each epoch, the laws it was drawn by.

    Evaluates other images within each step, which must not pass for the step's own.
    """

    def __init__(self, strategy: PADA) -> None:
        self.strategy = strategy
        self.paths: list[Any] = []
        self.data: list[Any] = []

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
        with torch.no_grad():
            pl_module.training_module(torch.ones(8, 1, 8, 8))

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == 0 and self.strategy.path_sampling:
            self.paths.append(pl_module.search.sampler.probabilities)
        if batch_idx == 0 and self.strategy.data_sampling:
            self.data.append(self.strategy._observer.order.importance.probabilities)


DATA = digits(seed=0)
TRAIN, VAL = (part.select(torch.arange(80)) for part in (DATA.train, DATA.val))
PIXELS = TRAIN.pixels.float() / 16
Train = Callable[..., Any]


def vectorised() -> Any:
    return loader(TRAIN, DATA, batch_size=8, train=True, augmentation=Augmentation())


def plain() -> Any:
    return DataLoader(TensorDataset(PIXELS, TRAIN.labels), batch_size=8, shuffle=True)


def subset() -> Any:
    """The 80 images, backwards, behind 20 others that are not trained on."""
    images = torch.cat([torch.full_like(PIXELS[:20], 9.0), PIXELS])
    labels = torch.cat([TRAIN.labels[:20], TRAIN.labels])
    sampler = SubsetRandomSampler(list(range(99, 19, -1)))
    return DataLoader(TensorDataset(images, labels), batch_size=8, sampler=sampler)


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Run a strategy on digits, 10 batches an epoch, and return its experiment."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def fit(
        strategy: Any,
        space: Any = None,
        *,
        data: Any = None,
        module: Any = None,
        stock: bool = False,
        ckpt_path: str | None = None,
        **given: Any,
    ) -> Any:
        model = pooling() if space is None else space
        torch.manual_seed(1)
        trainer = Trainer(
            **{
                "accelerator": "cpu",
                "logger": False,
                "enable_checkpointing": False,
                "enable_progress_bar": False,
                "enable_model_summary": False,
                "limit_val_batches": 0,
                "max_epochs": 4,
                **given,
            }
        )
        evaluator = Lightning(
            module or SupernetTraining(learning_rate=0.1),
            trainer,
            train_dataloaders=vectorised() if data is None else data,
            val_dataloaders=loader(VAL, DATA, batch_size=40, train=False),
            fit_kwargs={} if ckpt_path is None else {"ckpt_path": ckpt_path},
        )
        if stock:
            experiment = NasExperiment(model, evaluator, strategy)
        else:
            experiment = SearchExperiment(model, evaluator, strategy, out=tmp_path / "out")
        experiment.run()
        experiment.stop()
        return experiment

    return fit


def workers() -> Any:
    return DataLoader(
        TensorDataset(PIXELS, TRAIN.labels),
        batch_size=8,
        shuffle=True,
        num_workers=1,
        persistent_workers=True,
    )


def data_laws(steps: list[dict[str, Any]], known: Tensor, epochs: int) -> list[Any]:
    """The laws of the samples after each epoch but the last, calculated a second time."""
    laws = [np.full(80, 1 / 80)]
    for epoch in range(epochs - 1):
        scores: dict[int, float] = {}
        for step in steps[10 * epoch : 10 * epoch + 10]:
            for image, score in zip(step["images"], step["scores"].tolist(), strict=True):
                (place,) = (known == image).flatten(1).all(dim=1).nonzero().flatten().tolist()
                scores[place] = (scores[place] + score) / 2 if place in scores else score
        row = np.asarray([scores.get(place, 0.0) for place in range(80)])
        tau = epoch / epochs
        laws.append(tau * row / row.sum() + (1 - tau) / 80)
    return laws


@pytest.mark.parametrize("made", [vectorised, plain, workers, subset])
def test_samples_are_drawn_by_their_errors_of_the_epoch_before(made: Any, train: Train) -> None:
    strategy, module, given = PADA(), Told(), made()
    laws = Laws(strategy)
    train(strategy, data=given, module=module, callbacks=[laws])
    known = PIXELS
    if made is vectorised:
        known = next(iter(loader(TRAIN, DATA, batch_size=80, train=False)))[0]
    if made is subset:  # positions are those of the training subset, which is backwards
        known = known.flip(0)
    expected = data_laws(module.steps, known, 4)
    assert len(laws.data) == 4
    for found, wanted in zip(laws.data, expected, strict=True):
        assert found == pytest.approx(wanted, rel=1e-5)
    assert laws.data[3].max() > 1.2 * laws.data[3].min()
    # the first epoch shows each image once; the others are bootstraps, of about 63 %
    seen = [
        len({tuple(i.flatten().tolist()) for s in steps for i in s["images"]})
        for steps in (module.steps[10 * e : 10 * e + 10] for e in range(4))
    ]
    images = len({tuple(i.flatten().tolist()) for i in known})
    assert seen[0] == images == 80
    assert all(30 < count < 70 for count in seen[1:])


@pytest.mark.parametrize("made", [pooling, tiny])
def test_options_are_drawn_by_their_gradients_of_the_epoch_before(made: Any, train: Train) -> None:
    strategy, module = PADA(data_sampling=False), Told()
    laws = Laws(strategy)
    train(strategy, made(), module=module, callbacks=[laws], gradient_clip_val=0.01)
    draws = [draw.architecture for draw in strategy.result.draws]
    options = len(strategy.search_space.choices)

    def prefix(place: int, option: int) -> str:
        return f"blocks.{place}." if made is pooling else f"{('one', 'two')[place]}.{option}."

    for epoch in range(3):
        tau = epoch / 4
        norms = np.zeros((options, 2))
        for step, draw in zip(module.steps[10 * epoch :][:10], draws[10 * epoch :], strict=False):
            for place, option in enumerate(draw):
                names = [n for n in step["norms"] if n.startswith(prefix(place, option))]
                if names:
                    norm = sum(step["norms"][name] for name in names)
                    norms[place, option] = (norms[place, option] + norm) / 2
        for found, row in zip(laws.paths[epoch + 1], norms, strict=True):
            assert found == pytest.approx(tau * row / row.sum() + (1 - tau) / 2, rel=1e-5)
    assert max(max(row) for row in laws.paths[3]) > 0.52
    if made is tiny:  # pitfall 18: an option without parameters has the uniform share alone
        assert laws.paths[3][1][1] == pytest.approx((1 - 2 / 4) / 2)
    assert strategy.result.budget.reward_passes == 0


@pytest.mark.parametrize("stock", [True, False])
def test_a_search_ends_with_a_ranking_and_leaves_the_users_things_alone(
    stock: bool, train: Train
) -> None:
    strategy, given = PADA(), vectorised()
    sampler = given.sampler.sampler
    experiment = train(strategy, data=given, stock=stock, accumulate_grad_batches=3)
    # 10 batches by threes are 4 steps an epoch; tau of the last end is 3/4 as with 10
    assert strategy.result.phases == (("importance", 16),)
    module: Any = strategy.oneshot_module
    assert module.search.sampler.tau == 3 / 4
    assert sorted(r.architecture for r in strategy.result.ranking) == list(strategy.search_space)
    assert len(experiment.export_top_models(2, formatter="dict")) == 2
    assert given.sampler.sampler is sampler
    assert isinstance(sampler, RandomSampler)
    assert not any(part._forward_hooks for part in module.training_module.modules())


def test_the_epochs_of_a_trainer_that_counts_steps_are_counted(train: Train) -> None:
    strategy = PADA()
    train(strategy, max_epochs=-1, max_steps=25)
    module: Any = strategy.oneshot_module
    # 25 steps by tens are 3 epochs, of which the last is short: its end is 2/3, if it has one
    assert module.search.sampler.tau == pytest.approx(2 / 3)


def test_without_either_it_is_uniform_bit_for_bit(train: Train) -> None:
    neither = PADA(path_sampling=False, data_sampling=False, seed=4)
    uniform = Uniform(seed=4)
    for strategy in (neither, uniform):
        train(strategy, data=plain())
    assert neither.result.draws == uniform.result.draws
    assert neither.result.ranking == uniform.result.ranking
    expected: Any = uniform.supernet
    found: Any = neither.supernet
    for name, value in expected.state_dict().items():
        assert torch.equal(found.state_dict()[name], value), name


@pytest.mark.parametrize("made", [vectorised, plain])
@pytest.mark.parametrize(
    "when",  # after an epoch; after its last step, before it ended; while validating
    [{"every_n_epochs": 2}, {"every_n_train_steps": 20}, {"monitor": "val_acc"}],
    ids=["epoch", "step", "validation"],
)
def test_a_checkpoint_goes_on_as_if_it_had_not_stopped(
    made: Any, when: dict[str, Any], train: Train, tmp_path: Path
) -> None:
    whole, given = PADA(), {"limit_val_batches": 1 if "monitor" in when else 0}
    saved = ModelCheckpoint(dirpath=tmp_path, save_top_k=-1, **when)
    train(whole, data=made(), enable_checkpointing=True, callbacks=[saved], **given)
    (path,) = tmp_path.glob("*step=20.ckpt")
    second = PADA()
    train(second, data=made(), ckpt_path=str(path), **given)
    assert second.result.draws == whole.result.draws
    assert second.result.ranking == whole.result.ranking
    for one, other in zip(
        whole._observer.order.importance.state_dict().values(),
        second._observer.order.importance.state_dict().values(),
        strict=True,
    ):
        assert one == other
    expected: Any = whole.supernet
    found: Any = second.supernet
    for name, value in expected.state_dict().items():
        assert torch.equal(found.state_dict()[name], value), name


class Regression(SupernetTraining):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.model.head.fc.weight.sum()  # type: ignore[no-any-return]  # NNI has no types


def test_a_step_that_never_calls_the_model_is_refused(train: Train) -> None:
    with pytest.raises(ValueError, match="training step must call the model and get logits"):
        train(PADA(), module=Regression())


# What it cannot watch.


class Endless(IterableDataset):  # type: ignore[type-arg]  # of anything
    def __iter__(self) -> Any:
        return iter([PIXELS[0]])


SET = TensorDataset(PIXELS, TRAIN.labels)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([1, 2], r"training loader must be one DataLoader for data sampling, got \[1, 2\]"),
        ([DataLoader(SET)], "training loader must be one DataLoader for data sampling"),
        (DataLoader(Endless()), "training set must be indexed .* IterableDataset Endless"),
        (
            DataLoader(SET, sampler=WeightedRandomSampler([1.0] * 80, 80)),
            "must give each sample once, .* got WeightedRandomSampler",
        ),
        (
            DataLoader(SET, sampler=RandomSampler(SET, replacement=True)),
            "must give each sample once, .* got RandomSampler",
        ),
        (
            DataLoader(SET, sampler=RandomSampler(SET, num_samples=10)),
            "must give each sample once, .* got RandomSampler",
        ),
        (
            DataLoader(SET, batch_size=None),
            "must draw its batches by a BatchSampler for data sampling, got SequentialSampler",
        ),
        (
            DataLoader(SET, batch_sampler=[[0, 1], [2]]),
            "must draw its batches by a BatchSampler for data sampling, got list",
        ),
    ],
)
def test_a_loader_whose_samples_it_cannot_draw_is_refused(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        reordered(given, seed=0)


def test_a_changed_loader_keeps_all_else_of_the_users() -> None:
    generator = torch.Generator().manual_seed(3)

    def collate(samples: list[Any]) -> int:
        return len(samples)

    def begin(worker: int) -> None:
        return None

    given = DataLoader(
        SET,
        batch_sampler=BatchSampler(RandomSampler(SET, generator=generator), 12, drop_last=True),
        collate_fn=collate,
        worker_init_fn=begin,
        generator=generator,
    )
    changed, order = reordered(given, seed=0)
    assert list(changed) == [12] * 6
    assert (changed.collate_fn, changed.worker_init_fn) == (collate, begin)
    assert changed.generator is generator
    assert order.generator is generator
    assert [order.take(12) for _ in range(6)] == [order._epoch[12 * i :][:12] for i in range(6)]
    with pytest.raises(ValueError, match=r"at most the 8 samples that are left .* got 12"):
        order.take(12)


def test_gradients_are_summed_over_all_layers_of_a_label() -> None:
    class Twice(ModelSpace):  # type: ignore[misc]  # NNI has no types
        def __init__(self) -> None:
            super().__init__()
            self.a = LayerChoice([nn.Linear(1, 1, bias=False), nn.Identity()], label="x")
            self.b = LayerChoice([nn.Linear(1, 1, bias=False), nn.Identity()], label="x")

        def forward(self, x: Tensor) -> Any:
            return self.b(self.a(x))

    strategy = Uniform()
    given: Any = Twice()
    model: Any = strategy.mutate_model(given)
    parameters = option_parameters(model, strategy.search_space)
    assert [[len(option) for option in choice] for choice in parameters] == [[2, 0]]
    model.a[0].weight.grad = torch.tensor([[3.0]])
    model.b[0].weight.grad = torch.tensor([[-4.0]])
    assert gradient_norms(parameters, (0,)) == [7.0]
    assert gradient_norms(parameters, (1,)) == [0.0]
    model.a[0].weight.grad = None  # frozen
    assert gradient_norms(parameters, (0,)) == [4.0]


def test_a_choice_without_layers_is_refused() -> None:
    widths = SearchSpace("widths", [Choice("width", (4, 8))])
    with pytest.raises(ValueError, match=r"must be layer choices or poolings .* 'width'"):
        option_parameters(nn.Linear(8, 8), widths)
    with pytest.raises(ValueError, match="model_space must have 3 blocks, one behind each"):
        option_parameters(nn.Identity(), pooling().search_space)


def test_a_supernet_that_is_only_ranked_needs_no_training_loader() -> None:
    assert PADA().train_dataloader(lambda: None, list) is None

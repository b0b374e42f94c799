"""The two steps of a differentiable search, each on its own data and its own parameters."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from nni.nas.nn.pytorch import InputChoice, LayerChoice
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins.precision import MixedPrecision
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nas_ext.nni import ModelSpace
from nas_ext.oneshot import SupernetTraining
from nas_ext.oneshot.differentiable import STATE_KEY
from nas_ext.results import SearchResult
from nas_ext.spaces import PoolingResNet
from nas_ext.spaces.resolution_resnet import ResolutionResNet
from nas_ext.strategies import Uniform
from nas_ext.strategies.gaea import GAEA
from nas_ext.strategies.resolution_darts import ResolutionDARTS

Make = Callable[..., Any]

BOTH = pytest.mark.parametrize("strategy", [ResolutionDARTS, GAEA])


class Watched(SupernetTraining):
    """Note what every training step sees: its rows, the weights, the architecture's values."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.seen: list[tuple[Tensor, list[Tensor], list[Tensor]]] = []
        self.hooks: list[str] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        search: Any = self.trainer.lightning_module
        model: Any = self.model
        values = search.architecture.values
        weights = [value.detach().clone() for value in model.parameters()]
        self.seen.append((batch[0].clone(), weights, [value.clone() for value in values]))
        self.log("mean", batch[0].mean())
        return super().training_step(batch, batch_idx)

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self.hooks.append("on_before_optimizer_step")

    def on_after_backward(self) -> None:
        self.hooks.append("on_after_backward")

    def on_before_zero_grad(self, optimizer: Any) -> None:
        self.hooks.append("on_before_zero_grad")


class Normed(ModelSpace):  # type: ignore[misc]  # NNI has no types
    """A choice around batch norms that track the statistics of what they train on."""

    def __init__(self) -> None:
        super().__init__()
        self.first = LayerChoice([nn.Linear(6, 4), nn.Linear(6, 4)], label="first")
        self.norm = nn.BatchNorm1d(4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(self.first(x)))
        return logits


class Toy(ModelSpace):  # type: ignore[misc]  # NNI has no types
    """In each layer one option passes everything on, the others almost nothing."""

    def __init__(self) -> None:
        super().__init__()

        def options(good: int) -> list[nn.Module]:
            return [nn.Identity() if at == good else Damp() for at in range(3)]

        self.one = LayerChoice(options(2), label="one")
        self.two = LayerChoice(options(1), label="two")
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.two(self.one(x)))
        return logits


class Damp(nn.Module):
    """Return a hundredth of the input."""

    def forward(self, x: Tensor) -> Tensor:
        return 0.01 * x


def images(count: int, seed: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    return TensorDataset(
        torch.randn(count, 1, 8, 8, generator=generator),
        torch.randint(3, (count,), generator=generator),
    )


def resolutions() -> ResolutionResNet:
    torch.manual_seed(0)
    return ResolutionResNet(widths=(3, 3), num_classes=3, in_chs=1)


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def saving(folder: Path, **settings: Any) -> dict[str, Any]:
    """Trainer settings that save a checkpoint every epoch."""
    callback = ModelCheckpoint(dirpath=folder, filename="{epoch}", save_top_k=-1, **settings)
    return {"enable_checkpointing": True, "callbacks": [callback]}


# The two steps.


@BOTH
def test_weights_step_on_training_data_and_the_architecture_on_validation_data(
    strategy: Any, search: Make, train: Make, val: Make
) -> None:
    module = Watched(weight_decay=0.1)
    done = search(strategy(), module=module, max_epochs=2)
    assert done.oneshot_module.steps == 10
    trained, validated = module.seen[0:20:2], module.seen[1:20:2]
    # 5 training batches and 4 validation batches, in order, each going round on its own
    for place, (rows, _, _) in enumerate(trained):
        assert torch.equal(rows, list(train())[place % 5][0])
    for place, (rows, _, _) in enumerate(validated):
        assert torch.equal(rows, list(val())[place % 4][0])
    for place in range(10):
        _, before, values = trained[place]
        _, after, still = validated[place]
        assert same(values, still), "the step of the weights moved the architecture"
        assert not same(before, after)
        if place < 9:
            _, weights, moved = trained[place + 1]
            assert same(after, weights), "the step of the architecture moved the weights"
            assert not same(still, moved)


@BOTH
def test_the_architecture_takes_no_gradient_from_the_training_loss(
    strategy: Any, search: Make
) -> None:
    done = search(strategy(), max_epochs=1)
    module = done.oneshot_module
    loss = module.training_step((torch.randn(8, 6), torch.zeros(8, dtype=torch.long)), 0)
    loss.backward()
    assert all(value.grad is None for value in module.architecture.values)


@BOTH
def test_the_step_of_the_architecture_leaves_gradients_and_statistics_of_the_model_alone(
    strategy: Any, search: Make
) -> None:
    torch.manual_seed(0)
    done = search(strategy(), space=Normed(), max_epochs=1)
    module, model = done.oneshot_module, done.supernet
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 7.0)
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    assert buffers["norm.num_batches_tracked"] == 5  # the five training batches, no other
    module.train()
    module.architecture_gradients((torch.randn(8, 6), torch.zeros(8, dtype=torch.long)))
    assert all(torch.equal(p.grad, torch.full_like(p, 7.0)) for p in model.parameters())
    assert all(torch.equal(value, buffers[name]) for name, value in model.named_buffers())
    assert model.norm.track_running_stats


def cost_of(strategy: Any, search: Make, batch: Any, penalty: float) -> tuple[Any, Any]:
    """Gradients of the architecture, and the function they are the gradients of, in float64."""
    made = strategy(penalty=penalty, candidates=2)
    loader = DataLoader(images(16, 0), batch_size=8)
    done = search(made, space=resolutions(), train=loader, val=loader, max_epochs=1)
    module = done.oneshot_module.double()
    model = done.supernet

    def value(values: list[Tensor]) -> float:
        with torch.no_grad():
            weights = module.architecture.relax(values)
            module.mix(weights)
            loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
            # definition: macs weighted by the product of probabilities over all 9 architectures
            macs = torch.zeros((), dtype=torch.float64)
            largest = model.macs((0, 0), image_size=(8, 8))
            for first in range(3):
                for second in range(3):
                    share = model.macs((first, second), image_size=(8, 8)) / largest
                    macs += weights[0][first] * weights[1][second] * share
            return float(loss + penalty * macs)

    return module, value


@BOTH
@pytest.mark.parametrize("penalty", [0.0, 0.5])
def test_the_gradients_of_loss_and_penalty_agree_with_finite_differences(
    strategy: Any, penalty: float, search: Make
) -> None:
    x, y = images(8, 1).tensors
    batch = (x.double(), y)
    module, value = cost_of(strategy, search, batch, penalty)
    gradients = module.architecture_gradients(batch)
    start = [v.detach().clone() for v in module.architecture.values]
    step = 1e-6
    # Directions that keep the sum of a layer's values: GAEA's never leave the simplex, where the
    # expectation over products is defined, and a softmax does not see the others.
    for row in range(2):
        for gain, loss in ((0, 1), (1, 2), (2, 0)):
            direction = torch.zeros(3, dtype=torch.float64)
            direction[gain], direction[loss] = 1.0, -1.0
            ends = []
            for sign in (1, -1):
                moved = [v.clone() for v in start]
                moved[row] += sign * step * direction
                ends.append(value(moved))
            slope = (ends[0] - ends[1]) / (2 * step)
            assert abs(slope) > 1e-5
            assert float(gradients[row] @ direction) == pytest.approx(slope, rel=1e-3, abs=1e-7)


@BOTH
def test_a_penalty_makes_the_expected_cost_fall(strategy: Any, search: Make) -> None:
    loader = DataLoader(images(32, 0), batch_size=8)

    def probability_of_full(penalty: float) -> float:
        made = strategy(penalty=penalty, candidates=1)
        search(made, space=resolutions(), train=loader, val=loader, max_epochs=5)
        return float(min(row[0] for row in made.probabilities.values()))

    assert probability_of_full(20.0) < probability_of_full(0.0) - 0.02


def test_a_penalty_needs_macs_that_are_known(search: Make) -> None:
    with pytest.raises(ValueError, match=r"penalty must be 0 for Tiny, which has no closed form"):
        search(ResolutionDARTS(penalty=0.1))


# Lightning's side.


def test_gradient_clipping_and_accumulation_are_the_trainers(search: Make) -> None:
    module = Watched(learning_rate=0.1, momentum=1e-9, weight_decay=0.0)
    done = search(
        ResolutionDARTS(),
        module=module,
        max_epochs=2,
        gradient_clip_val=1e-3,
        accumulate_grad_batches=2,
    )
    trainer = done.oneshot_module.trainer
    # 5 batches an epoch in windows of 2 make 3 steps, the last one of one batch
    assert trainer.global_step == done.oneshot_module.steps == 6
    assert done.result.budget.train_passes == 2 * 10
    assert done.result.budget.reward_passes == 2 * 6
    weights = [step[1] for step in module.seen]
    first = torch.cat([value.flatten() for value in weights[0]])
    last = torch.cat([value.flatten() for value in weights[-1]])
    # each of 6 steps moves by at most the learning rate times the clipped norm
    assert 0 < float((last - first).norm()) <= 6 * 0.1 * 1e-3 * 1.001
    assert not same(module.seen[0][2], module.seen[-1][2])


def test_hooks_of_the_module_are_called_and_validation_batches_log_nothing(
    search: Make, train: Make
) -> None:
    module = Watched()
    done = search(ResolutionDARTS(), module=module, max_epochs=1)
    for name in ("on_before_optimizer_step", "on_after_backward", "on_before_zero_grad"):
        assert module.hooks.count(name) == 5, name
    logged = done.oneshot_module.trainer.callback_metrics["mean"]
    assert float(logged) == pytest.approx(float(list(train())[-1][0].mean()))


@BOTH
def test_mixed_precision_without_a_loss_scale_works(strategy: Any, search: Make) -> None:
    done = search(strategy(), max_epochs=1, precision="bf16-mixed")
    rows = done.oneshot_module.architecture.values
    assert all(row.dtype == torch.float32 and bool(row.isfinite().all()) for row in rows)


def test_the_trainer_validates_the_mixture(search: Make) -> None:
    done = search(ResolutionDARTS(), max_epochs=1, limit_val_batches=1.0)
    assert 0 <= float(done.oneshot_module.trainer.callback_metrics["val_acc"]) <= 1


@BOTH
@pytest.mark.parametrize("own_generator", [False, True])
@pytest.mark.parametrize("validating", [False, True])
def test_a_search_goes_on_exactly_from_the_end_of_every_epoch(
    strategy: Any,
    own_generator: bool,
    validating: bool,
    search: Make,
    train: Make,
    tmp_path: Path,
) -> None:
    limit = {"max_epochs": 3, "limit_val_batches": 2 if validating else 0}

    def shuffled() -> Any:
        generator = torch.Generator().manual_seed(3) if own_generator else None
        return train(shuffle=True, generator=generator)

    def left(done: Any) -> dict[str, Any]:
        values = asdict(done.result)
        values["budget"].pop("seconds")
        return {**values, "probabilities": done.probabilities}

    saved = saving(tmp_path, save_on_train_epoch_end=not validating)
    whole = search(strategy(), train=shuffled(), **limit, **saved)
    for epoch in range(3):
        torch.manual_seed(1000 + epoch)  # another process begins elsewhere
        resumed = search(
            strategy(), train=shuffled(), **limit, ckpt_path=tmp_path / f"epoch={epoch}.ckpt"
        )
        assert left(resumed) == left(whole)
        weights = whole.supernet.state_dict()
        for name, value in resumed.supernet.state_dict().items():
            assert torch.equal(value, weights[name]), name


def test_a_checkpoint_of_something_else_is_refused(search: Make, tmp_path: Path) -> None:
    search(ResolutionDARTS(), max_epochs=1, **saving(tmp_path))
    kept = torch.load(tmp_path / "epoch=0.ckpt", weights_only=True)
    kept.pop(STATE_KEY)
    torch.save(kept, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match="checkpoint must come from a mixture"):
        search(ResolutionDARTS(), max_epochs=2, ckpt_path=tmp_path / "other.ckpt")


def test_what_cannot_be_trained_so_is_refused(search: Make, val: Make) -> None:
    by_hand = SupernetTraining()
    by_hand.automatic_optimization = False

    class Silent(SupernetTraining):
        calls = 0

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.calls += 1  # the second call is that of the architecture
            return None if self.calls == 2 else super().training_step(batch, batch_idx)

    class Lost(SupernetTraining):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return super().training_step(batch, batch_idx) * float("nan")

    with pytest.raises(ValueError, match="must optimize automatically"):
        search(ResolutionDARTS(), module=by_hand)
    with pytest.raises(ValueError, match="training_step must return a loss for a validation"):
        search(ResolutionDARTS(), module=Silent())
    with pytest.raises(FloatingPointError, match=r"the loss became nan at step 1 of .*'mixture'"):
        search(ResolutionDARTS(), module=Lost())
    scaled = MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu"))
    with pytest.raises(ValueError, match="trainer precision must need no loss scale, got '16-mi"):
        search(ResolutionDARTS(), plugins=[scaled])
    with pytest.raises(ValueError, match="trainer must run on one device"):
        search(ResolutionDARTS(), devices=2)
    with pytest.raises(ValueError, match="validation set must fill at least one batch"):
        search(ResolutionDARTS(), val=val(4))


# Which model spaces.


@BOTH
def test_a_space_whose_choices_limit_each_other_is_refused(strategy: Any, search: Make) -> None:
    with pytest.raises(ValueError, match=r"must be a plain product of choices.*'mini-pooling'"):
        search(strategy(), space=PoolingResNet.mini())


def test_a_supernet_is_not_mutated_again(search: Make, tiny: Make) -> None:
    used = search(Uniform(), run=False).supernet
    with pytest.raises(ValueError, match="must not be a supernet already"):
        search(ResolutionDARTS(), space=used)


def test_a_choice_that_is_not_between_layers_is_refused(search: Make) -> None:
    class Inputs(ModelSpace):  # type: ignore[misc]  # NNI has no types
        def __init__(self) -> None:
            super().__init__()
            self.layer = LayerChoice([nn.Linear(6, 6), nn.Identity()], label="layer")
            self.choice = InputChoice(2, 1, label="input")

    with pytest.raises(TypeError):
        search(ResolutionDARTS(), space=Inputs())


@BOTH
def test_the_clearly_better_option_of_each_layer_is_found(
    strategy: Any, search: Make, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    made = strategy(candidates=4, out=tmp_path, learning_rate=0.05 if strategy is not GAEA else 1)
    search(made, space=Toy(), max_epochs=16)
    assert made.result.best.sample == {"one": 2, "two": 1}
    shares = made.probabilities
    assert shares["one"][2] > 0.5
    assert shares["two"][1] > 0.5
    # alone on its path, without the options that damp, it is the most accurate of the four too
    assert made.result.best.accuracy == max(r.accuracy for r in made.result.ranking)


# What is left.


@BOTH
def test_the_ranking_is_by_the_product_of_probabilities_with_accuracies_of_single_paths(
    strategy: Any, search: Make, tmp_path: Path, val: Make
) -> None:
    made = strategy(candidates=5, out=tmp_path)
    done = search(made, max_epochs=4)
    rows = [list(row.values()) for row in made.probabilities.values()]
    assert [sum(row) for row in rows] == pytest.approx([1.0] * 3, abs=1e-12)
    assert [len(row) for row in rows] == [2] * 3

    def product(architecture: tuple[int, ...]) -> float:
        return float(math.prod(row[k] for row, k in zip(rows, architecture, strict=True)))

    whole = sorted(made.search_space, key=product, reverse=True)
    ranking = made.result.ranking
    assert [line.architecture for line in ranking] == whole[:5]
    data = [batch for batch in val()]
    for line, model in zip(ranking, done.list_models(limit=5), strict=True):
        network = model.executable_model().eval()
        with torch.no_grad():
            right = [float((network(x).argmax(1) == y).double().mean()) for x, y in data]
        assert line.accuracy == model.metrics.final == pytest.approx(sum(right) / len(right))
        assert model.sample == line.sample
    best = done.oneshot_module.export()
    assert best == ranking[0].sample
    assert SearchResult.load(tmp_path) == made.result
    assert made.result.draws == ()
    assert made.result.phases == (("mixture", 20),)


def test_a_found_network_shares_nothing_with_the_supernet(search: Make) -> None:
    done = search(ResolutionDARTS(), max_epochs=1)
    before = {name: value.clone() for name, value in done.supernet.state_dict().items()}
    network = next(iter(done.list_models(limit=1))).executable_model()
    for parameter in network.parameters():
        parameter.data.fill_(9.0)
    assert all(torch.equal(v, before[n]) for n, v in done.supernet.state_dict().items())


def test_the_budget_counts_every_candidate_of_every_pass(search: Make) -> None:
    loader = DataLoader(images(16, 0), batch_size=8)
    made = ResolutionDARTS(candidates=2)
    search(made, space=resolutions(), train=loader, val=loader, max_epochs=3)
    model: Any = made.supernet
    stem = 9 * 1 * 3 * 64
    # one pass runs the stem once and every block at every resolution
    one = stem + sum(model.macs((r, r), image_size=(8, 8)) - stem for r in range(3))
    budget = made.result.budget
    assert budget.steps == 6
    assert budget.train_passes == budget.reward_passes == 3 * 6
    assert (budget.evaluated, budget.output_passes) == (2, 0)
    # 48 training images and 48 validation images forward and backward, 16 for each of two paths
    paths = sum(16 * (line.macs or 0) for line in made.result.ranking)
    assert budget.macs == 3 * (48 + 48) * one + paths


def test_models_and_results_exist_only_after_the_search(search: Make) -> None:
    made = ResolutionDARTS()
    with pytest.raises(RuntimeError, match="no search space before it is initialized"):
        _ = made.search_space
    with pytest.raises(RuntimeError, match="no result before it has run"):
        _ = made.result
    search(made, max_epochs=1)
    with pytest.raises(ValueError, match="limit must be at least 1, got 0"):
        next(made.list_models(limit=0))

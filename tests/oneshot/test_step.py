"""One architecture a step: asked for, trained, rewarded, and nothing else touched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from nni.nas.nn.pytorch import LayerChoice
from torch import Tensor, nn

from nas_ext.nni import ModelSpace
from nas_ext.oneshot import SupernetTraining, accuracy
from nas_ext.strategies import MCTS, LearnedTree, Uniform

Make = Callable[..., Any]

STRATEGIES = [Uniform, MCTS, LearnedTree]


def net(module: Any) -> Any:
    return module.model


def parameters_off(model: Any, active: tuple[int, ...]) -> dict[str, Tensor]:
    """The parameters of a tiny supernet that lie off the active path, by name."""
    on = [f"layers.{layer}.{option}." for layer, option in enumerate(active)]
    return {
        name: value
        for name, value in model.named_parameters()
        if name.startswith("layers.") and not name.startswith(tuple(on))
    }


class Watched(SupernetTraining):
    """Note the active path of every training step, and what its gradients touch."""

    def __init__(self, path: Make) -> None:
        super().__init__(learning_rate=0.1, momentum=0.9, weight_decay=0.1)
        self.path = path
        self.trained: list[tuple[int, ...]] = []
        self.before: dict[str, Tensor] = {}
        self.moved: list[str] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.trained.append(self.path(self.model))
        self.before = {n: v.detach().clone() for n, v in self.model.named_parameters()}
        return super().training_step(batch, batch_idx)

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        off = parameters_off(self.model, self.trained[-1])
        for name, value in self.model.named_parameters():
            assert (value.grad is None) == (name in off), name

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        off = parameters_off(self.model, self.trained[-1])
        for name, value in self.model.named_parameters():
            if not torch.equal(value, self.before[name]):
                self.moved.append(name)
                assert name not in off, f"{name} moved though it was not sampled"


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_architecture_asked_is_trained_and_rewarded(
    strategy: Any, search: Make, path: Make
) -> None:
    rewarded: list[tuple[int, ...]] = []

    def reward(module: Any, batch: Any) -> float:
        rewarded.append(path(module.model))
        return accuracy(module, batch)

    module = Watched(path)
    done = search(strategy(reward=reward, candidates=8), module=module, max_epochs=4)
    draws = done.result.draws
    assert [draw.architecture for draw in draws] == module.trained
    asked = [draw.architecture for draw in draws if draw.reward is not None]
    assert rewarded[: len(asked)] == asked
    assert len(set(module.trained)) > 1
    # what is on the path does move: the stem in every step
    assert module.moved.count("stem.weight") == len(draws) == 20


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_only_phases_that_need_rewards_spend_validation_batches(
    strategy: Any, search: Make
) -> None:
    done = search(strategy(), max_epochs=4).result
    rewarded = [draw.phase for draw in done.draws if draw.reward is not None]
    needing = {"Uniform": [], "MCTS": [0, 1], "LearnedTree": [1, 2]}[done.strategy]
    expected = [phase for phase in needing for _ in range(done.phases[phase][1])]
    assert rewarded == expected
    assert done.budget.reward_passes == len(expected)
    assert done.budget.steps == sum(steps for _, steps in done.phases) == 20


def test_rewards_come_from_validation_batches_in_turn(search: Make, val: Make) -> None:
    seen: list[Tensor] = []

    def reward(module: Any, batch: Any) -> float:
        seen.append(batch[0])
        return accuracy(module, batch)

    search(MCTS(reward=reward))
    batches = [inputs for inputs, _ in val()]
    for index, inputs in enumerate(seen[:10]):  # 10 steps, then the ranking
        assert torch.equal(inputs, batches[index % 4])


class Ordered(SupernetTraining):
    """Note the first layer's weights before and after each step."""

    def __init__(self) -> None:
        super().__init__()
        self.before: list[Tensor] = []
        self.after: list[Tensor] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        assert self.training
        assert torch.is_grad_enabled()
        assert all(module.training for module in self.modules())
        self.before.append(net(self).stem.weight.detach().clone())
        return super().training_step(batch, batch_idx)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.after.append(net(self).stem.weight.detach().clone())


def test_a_reward_sees_the_weights_after_its_step_in_eval_mode_without_gradients(
    search: Make,
) -> None:
    module = Ordered()
    seen: list[Tensor] = []

    def reward(given: Any, batch: Any) -> float:
        assert given is module
        assert not any(part.training for part in given.modules())
        assert not torch.is_grad_enabled()
        assert not given(batch[0]).requires_grad
        seen.append(given.model.stem.weight.detach().clone())
        return accuracy(given, batch)

    search(MCTS(reward=reward), module=module)
    for step in range(10):
        assert torch.equal(seen[step], module.after[step])
        assert not torch.equal(seen[step], module.before[step])


class Tracked(ModelSpace):  # type: ignore[misc]  # NNI has no types
    """One choice between two layers, and batch norm with running statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.choice = LayerChoice([nn.Linear(6, 4), nn.Linear(6, 4)], label="layer")
        self.norm = nn.BatchNorm1d(4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(self.choice(x)))
        return logits


class Statistics(SupernetTraining):
    """Hold the running statistics of the forward pass against those at the end of the step."""

    def on_after_backward(self) -> None:
        norm = net(self).norm
        self.held = [norm.running_mean.clone(), norm.running_var.clone()]
        self.batches = int(norm.num_batches_tracked)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        norm = net(self).norm
        assert torch.equal(self.held[0], norm.running_mean)
        assert torch.equal(self.held[1], norm.running_var)
        assert self.batches == int(norm.num_batches_tracked)
        assert norm.track_running_stats


def test_rewards_and_rankings_leave_running_statistics_alone(search: Make) -> None:
    space: Any = Tracked()
    module = Statistics()
    search(MCTS(candidates=2), module=module, space=space)
    # torch's own count: one training pass a step, none of the 10 rewards or the ranking
    assert int(space.norm.num_batches_tracked) == 10
    assert space.norm.training
    assert space.norm.track_running_stats


class Frozen(SupernetTraining):
    """Keep one module in evaluation mode, as for fine-tuning."""

    def on_train_start(self) -> None:
        net(self).norm.eval()

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        assert not net(self).norm.training
        assert net(self).head.training


def test_a_module_that_the_user_keeps_in_eval_mode_stays_there(search: Make) -> None:
    space: Any = Tracked()
    search(MCTS(), module=Frozen(), space=space)
    assert int(space.norm.num_batches_tracked) == 0


def test_an_accumulation_window_trains_one_architecture(search: Make, path: Make) -> None:
    module = Watched(path)
    # 5 batches an epoch: windows of 2, 2 and 1
    done = search(MCTS(), module=module, accumulate_grad_batches=2)
    draws = [draw.architecture for draw in done.result.draws]
    windows = [[0, 1], [2, 3], [4], [5, 6], [7, 8], [9]]
    assert len(draws) == done.result.budget.steps == len(windows)
    for drawn, window in zip(draws, windows, strict=True):
        assert {module.trained[batch] for batch in window} == {drawn}
    assert all(draw.reward is not None for draw in done.result.draws)
    assert done.result.budget.train_passes == 10
    assert done.result.budget.reward_passes == 6


def test_validation_inside_a_window_changes_neither_its_architecture_nor_its_gradients(
    search: Make, path: Make
) -> None:
    plain, checked = Watched(path), Watched(path)
    settings = {"accumulate_grad_batches": 5, "max_epochs": 4}
    one = search(MCTS(), module=plain, **settings)
    two = search(MCTS(), module=checked, limit_val_batches=2, val_check_interval=1, **settings)
    assert plain.trained == checked.trained
    for name, value in one.supernet.state_dict().items():
        assert torch.equal(value, two.supernet.state_dict()[name]), name


def test_validation_runs_the_architecture_that_was_trained_last(search: Make, path: Make) -> None:
    class Validated(Watched):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            if self.trained:
                assert self.path(self.model) == self.trained[-1]
            super().validation_step(batch, batch_idx)

    module = Validated(path)
    search(MCTS(), module=module, limit_val_batches=1.0, val_check_interval=1)
    assert len(module.trained) == 10

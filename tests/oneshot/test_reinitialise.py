"""Weights, momenta and learning rates where a search starts its supernet again."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from nni.nas.nn.pytorch import LayerChoice
from torch import Tensor, nn

from nas_ext.nni import ModelSpace
from nas_ext.oneshot import SupernetTraining
from nas_ext.strategies import MCTS, LearnedTree, Uniform

Make = Callable[..., Any]

# 6 epochs of 5 steps, cut 40 / 25 / 35: 12 and 7.5 and 10.5 steps, the larger remainder first
FIRST, TREE, WALKS = 12, 8, 10


class Noted(SupernetTraining):
    """Note weights, optimizer state and learning rate as each step begins."""

    def __init__(self) -> None:
        super().__init__(learning_rate=0.2)
        self.weights: list[dict[str, Tensor]] = []
        self.states: list[int] = []
        self.rates: list[float] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        optimizer = self.trainer.optimizers[0]
        self.weights.append({n: v.detach().clone() for n, v in self.model.state_dict().items()})
        self.states.append(len(optimizer.state))
        self.rates.append(optimizer.param_groups[0]["lr"])
        return super().training_step(batch, batch_idx)


def cosine(steps: int, total: int | None = None) -> list[float]:
    """Half a cosine from 0.2 towards 0: the formula of SGDR without restarts."""
    total = total or steps
    return [0.1 * (1 + math.cos(math.pi * step / total)) for step in range(steps)]


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    assert one.keys() == other.keys()
    return all(torch.equal(value, other[name]) for name, value in one.items())


def test_the_weights_after_the_tree_are_those_of_a_fresh_space(search: Make, tiny: Make) -> None:
    module = Noted()
    done = search(LearnedTree(seed=5, reinitialise=True), module=module, max_epochs=6)
    assert [steps for _, steps in done.result.phases] == [FIRST, TREE, WALKS]
    # The seed of the fresh weights is drawn after the 12 architectures of the first phase.
    rng = np.random.default_rng(5)
    for draw in done.result.draws[:FIRST]:
        assert done.search_space.draw(rng) == draw.architecture
    torch.manual_seed(int(rng.integers(2**31)))
    fresh = {name: value.detach() for name, value in tiny().state_dict().items()}
    assert equal(module.weights[FIRST], fresh)
    assert not equal(module.weights[FIRST - 1], fresh)
    assert not equal(module.weights[0], fresh)


def test_the_first_weights_are_those_of_the_users_space(search: Make, tiny: Make) -> None:
    torch.manual_seed(3)
    space = tiny()
    given = {name: value.clone() for name, value in space.state_dict().items()}
    module = Noted()
    search(LearnedTree(reinitialise=True), module=module, space=space)
    assert equal(module.weights[0], given)


def test_momenta_are_forgotten_and_weights_restart_once(search: Make) -> None:
    module = Noted()
    search(LearnedTree(reinitialise=True), module=module, max_epochs=6)
    assert module.states[0] == 0
    assert module.states[FIRST] == 0
    assert all(count > 0 for step, count in enumerate(module.states) if step not in (0, FIRST))


def test_the_cosine_runs_once_for_each_start(search: Make) -> None:
    module = Noted()
    search(LearnedTree(reinitialise=True), module=module, max_epochs=6)
    assert module.rates == pytest.approx(cosine(FIRST) + cosine(TREE + WALKS))


@pytest.mark.parametrize("strategy", [Uniform(), MCTS(), LearnedTree()])
def test_without_a_new_start_there_is_one_cosine_over_all_phases(
    strategy: Any, search: Make
) -> None:
    module = Noted()
    search(strategy, module=module, max_epochs=6)
    assert module.rates == pytest.approx(cosine(30))
    assert module.states.count(0) == 1


def test_the_cosine_counts_optimizer_steps_where_batches_accumulate(search: Make) -> None:
    module = Noted()
    search(LearnedTree(reinitialise=True), module=module, max_epochs=6, accumulate_grad_batches=5)
    # one step an epoch, each after 5 batches: 6 steps, split 2 / 2 / 2
    expected = [rate for rate in cosine(2) + cosine(4) for _ in range(5)]
    assert module.rates == pytest.approx(expected)


def test_weights_go_on_where_they_are_kept(search: Make) -> None:
    fresh, kept = Noted(), Noted()
    search(LearnedTree(reinitialise=True), module=fresh, max_epochs=6)
    search(LearnedTree(), module=kept, max_epochs=6)
    assert kept.states[FIRST] > 0
    # a step of rate 0.2 moves no weight by 1; a new start moves many by more than a step does
    name = "stem.weight"
    step = [float((kept.weights[i + 1][name] - kept.weights[i][name]).norm()) for i in range(29)]
    jump = float((fresh.weights[FIRST][name] - fresh.weights[FIRST - 1][name]).norm())
    assert step[FIRST - 1] <= max(step[: FIRST - 1])
    assert jump > max(step)


def test_a_users_own_schedule_starts_again(search: Make) -> None:
    class Steps(Noted):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.Adam(self.parameters(), lr=1.0)
            schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
            return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    module = Steps()
    search(LearnedTree(reinitialise=True), module=module, max_epochs=6)
    # by hand: halved every step, from 1, twice
    halves = [0.5**step for step in range(FIRST)] + [0.5**step for step in range(TREE + WALKS)]
    assert module.rates == pytest.approx(halves)


def test_a_new_start_leaves_the_global_random_generator_where_it_was(search: Make) -> None:
    class Random(SupernetTraining):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            numbers.append(float(torch.rand(())))
            return super().training_step(batch, batch_idx)

    both = []
    for reinitialise in (True, False):
        numbers: list[float] = []
        search(LearnedTree(reinitialise=reinitialise), module=Random(), max_epochs=6)
        both.append(numbers[: FIRST + 4])  # rewards of the later ones draw alike, too
    assert both[0] == both[1]


class Given(ModelSpace):  # type: ignore[misc]  # NNI has no types
    """A space that gets one of its layers from outside."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.choice = LayerChoice([nn.Linear(4, 3), nn.Linear(4, 3)], label="layer")

    def forward(self, x: Tensor) -> Any:
        return self.choice(self.body(x))


def test_layers_from_outside_are_refused_before_any_training_step(search: Make) -> None:
    class Never(SupernetTraining):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            raise AssertionError("a training step ran before the error")

    with pytest.raises(ValueError, match="Given was given some as arguments"):
        search(LearnedTree(reinitialise=True), space=Given(nn.Linear(6, 4)), module=Never())
    kept = search(LearnedTree(), space=Given(nn.Linear(6, 4)))
    assert kept.result.budget.steps == 10


def test_the_cosine_of_a_plain_fit_runs_to_its_end(trainer: Make, train: Make, tiny: Make) -> None:
    module = Noted()
    module.set_model(torch.nn.Linear(6, 3))
    trainer(max_epochs=6).fit(module, train())
    assert module.rates == pytest.approx(cosine(30))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate must be positive, got 0.0"),
        ({"learning_rate": math.nan}, "learning_rate must be positive, got nan"),
        ({"momentum": -0.1}, "momentum must be positive, got -0.1"),
        ({"weight_decay": -1e-3}, "weight_decay must not be negative, got -0.001"),
    ],
)
def test_wrong_training_settings_are_named(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SupernetTraining(**settings)

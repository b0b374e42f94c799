"""What a search does with unusual steps, samplers and trainers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from nas_ext.architecture import Architecture
from nas_ext.oneshot import SampledStrategy, SupernetTraining
from nas_ext.samplers import UniformSampler
from nas_ext.search import Phase
from nas_ext.strategies import MCTS, LearnedTree, Uniform

Make = Callable[..., Any]


class ThreeAtOnce(UniformSampler):
    """Ask three different architectures a step, and want their rewards."""

    needs_reward: ClassVar[bool] = True

    def ask(self) -> tuple[Architecture, ...]:
        places = self.rng.choice(self.space.size, size=3, replace=False)
        return tuple(self.space.at(int(place)) for place in places)


@dataclass(kw_only=True, eq=False)
class Three(SampledStrategy):
    """One phase of three architectures a step."""

    def phases(self, steps: int) -> tuple[Phase, ...]:
        return (Phase("three", steps, lambda s: ThreeAtOnce(s.space, s.rng)),)


class Descent(SupernetTraining):
    """Plain gradient descent, so that a step can be computed by hand."""

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.5)


def test_the_loss_of_several_architectures_is_their_sum(
    search: Make, tiny: Make, train: Make
) -> None:
    torch.manual_seed(0)
    space = tiny()
    start = {name: value.detach().clone() for name, value in space.named_parameters()}
    done = search(Three(), module=Descent(), space=space, max_steps=1)
    drawn = [draw.architecture for draw in done.result.draws]
    assert len(set(drawn)) == 3
    # the same step by hand: three networks of plain layers, their gradients added
    batch, labels = next(iter(train()))
    moved = {name: value.clone() for name, value in start.items()}
    for architecture in drawn:
        weights = {name: value.clone().requires_grad_() for name, value in start.items()}
        x = torch.nn.functional.linear(batch, weights["stem.weight"], weights["stem.bias"])
        for layer, option in enumerate(architecture):
            name = f"layers.{layer}.{option}"
            x = torch.nn.functional.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])
            x = torch.tanh(x)
        logits = torch.nn.functional.linear(x, weights["head.weight"], weights["head.bias"])
        loss: Any = torch.nn.functional.cross_entropy(logits, labels)
        loss.backward()
        for name, value in weights.items():
            if value.grad is not None:
                moved[name] -= 0.5 * value.grad
    for name, value in space.named_parameters():
        torch.testing.assert_close(value.detach(), moved[name])


def test_each_of_several_architectures_gets_a_reward(search: Make) -> None:
    result = search(Three()).result
    assert [draw.step for draw in result.draws] == [step for step in range(10) for _ in range(3)]
    assert all(draw.reward is not None for draw in result.draws)
    assert result.budget.steps == 10
    assert result.budget.train_passes == 30
    assert result.budget.reward_passes == 30


def test_several_losses_may_be_dictionaries_or_missing(search: Make) -> None:
    class Mixed(Descent):
        calls = 0

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.calls += 1
            loss = super().training_step(batch, batch_idx)
            return None if self.calls % 3 == 0 else {"loss": loss, "other": "kept out"}

    class Nothing(Descent):
        def training_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]  # as Lightning allows
            return None

    assert search(Three(), module=Mixed()).result.budget.train_passes == 30
    torch.manual_seed(0)
    done = search(Three(), module=Nothing())
    assert done.result.budget.steps == 10


@pytest.mark.parametrize("strategy", [Uniform, MCTS])
def test_a_step_without_a_loss_moves_nothing(strategy: Any, search: Make) -> None:
    class Skipping(Descent):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            network: Any = self.model
            held.append(network.stem.weight.detach().clone())
            return None if batch_idx == 2 else super().training_step(batch, batch_idx)

    held: list[Tensor] = []
    done = search(strategy(), module=Skipping())
    assert done.result.budget.steps == 10
    still = [step for step in range(9) if torch.equal(held[step], held[step + 1])]
    assert still == [2, 7]


def test_an_epoch_that_the_user_ends_asks_for_no_architecture(search: Make) -> None:
    class Two(SupernetTraining):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
            return -1 if batch_idx == 2 else None

    with pytest.warns(UserWarning, match="ended after 4 of 10 steps"):
        result = search(MCTS(), module=Two()).result
    assert result.budget.steps == len(result.draws) == 4


def test_several_optimizers_are_refused(search: Make) -> None:
    class Twice(SupernetTraining):
        def configure_optimizers(self) -> Any:
            return [torch.optim.SGD(self.parameters(), lr=0.1) for _ in range(2)]

    # Lightning's own rule for automatic optimization
    with pytest.raises(RuntimeError, match="multiple optimizers"):
        search(MCTS(), module=Twice())


def test_a_module_that_optimizes_by_hand_is_refused(search: Make) -> None:
    class Manual(SupernetTraining):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

    with pytest.raises(ValueError, match="must optimize automatically"):
        search(MCTS(), module=Manual(), run=False)


@pytest.mark.parametrize("strategy", [Uniform, MCTS, LearnedTree])
def test_a_trainer_without_an_end_is_refused(strategy: Any, search: Make) -> None:
    with pytest.raises(ValueError, match="must end after a number of steps, got inf"):
        search(strategy(), max_epochs=-1)


@pytest.mark.parametrize(("strategy", "phases"), [(MCTS, 2), (LearnedTree, 3)])
def test_fewer_steps_than_phases_are_refused(strategy: Any, phases: int, search: Make) -> None:
    with pytest.raises(ValueError, match=f"at least 1 for each of {phases} phases, got 1"):
        search(strategy(), max_steps=1)


class NeverTrained(SupernetTraining):
    """Fail the test when a training step is reached."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        raise AssertionError("a training step ran before the error")


def test_a_space_too_large_is_refused_before_any_training_step(search: Make) -> None:
    with pytest.raises(ValueError, match="has 8 architectures, it must have at most 7"):
        search(LearnedTree(max_architectures=7), module=NeverTrained())


def test_ranking_a_whole_large_space_is_refused_before_any_training_step(
    search: Make, tiny: Make
) -> None:
    space = tiny(layers=15)  # 2^15 = 32,768 architectures
    with pytest.raises(ValueError, match=r"candidates must be a number.*32,768.*20,000.*None"):
        search(Uniform(), space=space, module=NeverTrained(), run=False)
    assert search(Uniform(candidates=5), space=tiny(layers=15)).result.budget.evaluated == 5


@pytest.mark.parametrize("strategy", [Uniform, MCTS])
def test_wrong_validation_data_are_refused_before_any_training_step(
    strategy: Any, search: Make, val: Make
) -> None:
    with pytest.raises(ValueError, match="val_dataloaders must be one loader"):
        search(strategy(), module=NeverTrained(), val=[val(), val()])
    with pytest.raises(ValueError, match="at least one batch of 8, got 5 samples"):
        search(strategy(), module=NeverTrained(), val=val(5))


def test_a_strategy_serves_one_run(search: Make) -> None:
    strategy = MCTS()
    search(strategy)
    with pytest.raises(RuntimeError, match="already been initialized"):
        search(strategy)


def test_a_space_serves_one_run(search: Make, tiny: Make) -> None:
    space = tiny()
    search(MCTS(), space=space)
    with pytest.raises(ValueError, match="model_space must not be a supernet already"):
        search(MCTS(), space=space)


def test_results_do_not_exist_before_the_run(search: Make) -> None:
    with pytest.raises(RuntimeError, match="no search space before"):
        _ = MCTS().search_space
    with pytest.raises(RuntimeError, match="no result before"):
        _ = search(MCTS(), run=False).result

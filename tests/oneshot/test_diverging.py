"""Losses, outputs and weights that become infinite or NaN end a search before they teach it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor

from nas_ext.oneshot import SearchDiverged, SupernetTraining, accuracy
from nas_ext.oneshot.diverging import EVERY, FiniteLosses
from nas_ext.strategies import MCTS, BalancedMixture, LearnedTree, StrictFairness, Uniform

Make = Callable[..., Any]

REMEDY = "lower the learning rate, or clip gradients"


class Faulty(SupernetTraining):
    """Multiply the loss by something at one step."""

    def __init__(self, factor: float, at: int) -> None:
        super().__init__()
        self.factor, self.at, self.steps = factor, at, 0

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.steps += 1
        return super().training_step(batch, batch_idx) * (
            self.factor if self.steps == self.at else 1.0
        )


class Lost(SupernetTraining):
    """Give no numbers in evaluation mode."""

    def forward(self, images: Tensor) -> Any:
        return self.model(images) * (1.0 if self.training else float("nan"))


@pytest.mark.parametrize("strategy", [Uniform, MCTS, LearnedTree, BalancedMixture])
@pytest.mark.parametrize("factor", ["nan", "inf"])
def test_a_loss_that_is_no_number_ends_the_search_at_its_step(
    strategy: Any, factor: str, search: Make
) -> None:
    made = strategy()
    # two epochs of five batches
    wanted = (
        rf"the loss became {factor} at step 4 of 10, in phase '.+', architecture \S+: {REMEDY}"
    )
    with pytest.raises(SearchDiverged, match=wanted):
        search(made, module=Faulty(float(factor), 4))
    assert made.oneshot_module.trainer.global_step == 3
    for weight in made.oneshot_module.parameters():
        assert weight.isfinite().all()


def test_of_several_architectures_on_one_batch_the_one_that_diverged_is_named(
    search: Make,
) -> None:
    made = StrictFairness()
    with pytest.raises(SearchDiverged, match=r"at step 2 of 10, .*, architecture \S+: lower"):
        search(made, module=Faulty(float("nan"), 4))  # each step trains both options
    module: Any = made.oneshot_module
    drawn = [draw.architecture for draw in module.search.draws]
    assert len(drawn) == 4


def test_a_rate_that_is_too_high_leaves_only_whole_checkpoints(
    search: Make, tmp_path: Path
) -> None:
    kept = ModelCheckpoint(tmp_path, every_n_train_steps=1, save_top_k=-1)
    with pytest.raises(SearchDiverged, match=REMEDY):
        search(
            Uniform(),
            module=SupernetTraining(learning_rate=1e25),
            enable_checkpointing=True,
            callbacks=[kept],
            max_epochs=20,
        )
    left = sorted(tmp_path.glob("*.ckpt"))
    assert left
    for file in left:
        for name, value in torch.load(file, weights_only=True)["state_dict"].items():
            assert value.isfinite().all(), (file, name)


@pytest.mark.parametrize("strategy", [MCTS, LearnedTree, Uniform])
def test_outputs_that_are_no_numbers_never_become_a_reward(strategy: Any, search: Make) -> None:
    # as a reward, as a row of the tree, and in the final ranking
    made = strategy()
    wanted = (
        rf"outputs on validation data became infinite or NaN at step .* architecture .*{REMEDY}"
    )
    with pytest.raises(SearchDiverged, match=wanted):
        search(made, module=Lost())
    assert [draw.reward for draw in made.oneshot_module.search.draws if draw.reward] == []


class Identity(SupernetTraining):
    """A module whose logits are its inputs."""

    def forward(self, images: Tensor) -> Any:
        return images


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_accuracy_refuses_logits_that_exploded(value: str) -> None:
    logits = torch.tensor([[1.0, 0.0], [0.0, float(value)]])
    with pytest.raises(FloatingPointError, match="logits became infinite or NaN"):
        accuracy(Identity(), (logits, torch.tensor([0, 1])))


def test_minus_infinity_may_mask_a_class_but_not_all_of_them() -> None:
    masked = torch.tensor([[1.0, -torch.inf], [0.0, 2.0]])
    assert accuracy(Identity(), (masked, torch.tensor([0, 1]))) == 1.0
    with pytest.raises(FloatingPointError):
        accuracy(Identity(), (torch.full((1, 2), -torch.inf), torch.tensor([0])))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="losses wait on a GPU only")
def test_on_a_gpu_losses_are_looked_at_together_and_the_first_bad_one_is_named() -> None:
    losses = FiniteLosses(describe=str)
    for step in range(1, EVERY):
        losses.at(step, 100, "uniform")
        value = float("nan") if step >= 7 else 0.5
        losses.noted(torch.tensor(value, device="cuda"), (step, 0))
    with pytest.raises(
        SearchDiverged, match=r"at step 7 of 100, .*'uniform', architecture \(7, 0"
    ):
        losses.check()
    for _ in range(EVERY - 1):
        losses.noted(torch.tensor(float("nan"), device="cuda"))
    with pytest.raises(SearchDiverged, match="became nan"):
        losses.noted(torch.tensor(0.5, device="cuda"))

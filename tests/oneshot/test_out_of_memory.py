"""Memory that runs out names the architecture and what to lower, and nothing is left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from nni.nas.nn.pytorch import LayerChoice
from torch import Tensor, nn

from nas_ext.nni import ModelSpace
from nas_ext.out_of_memory import OutOfMemory, naming_memory, ran_out
from nas_ext.strategies import MCTS, Uniform

Make = Callable[..., Any]


class Hungry(nn.Linear):
    """A layer that asks for more bytes than there are addresses, in one of the two modes."""

    def __init__(self, width: int, *, training: bool) -> None:
        super().__init__(width, width)
        self.hungry = training

    def forward(self, input: Tensor) -> Tensor:
        if self.training == self.hungry:
            torch.empty(2**50)
        return super().forward(input)


class Unequal(ModelSpace):  # type: ignore[misc]  # NNI has no types
    """Two choices, of which the second option of the first one is hungry."""

    def __init__(self, *, training: bool) -> None:
        super().__init__()
        hungry = Hungry(6, training=training)
        self.one = LayerChoice([nn.Linear(6, 6), hungry], label="one")
        self.two = LayerChoice([nn.Linear(6, 3), nn.Linear(6, 3)], label="two")

    def forward(self, x: Tensor) -> Any:
        return self.two(self.one(x))


@pytest.mark.parametrize("strategy", [Uniform, MCTS])
def test_memory_that_runs_out_in_training_names_the_architecture(
    strategy: Any, search: Make
) -> None:
    wanted = (
        r"memory ran out in training architecture 1-[01]: lower the training batch size .*alloc"
    )
    with pytest.raises(OutOfMemory, match=wanted):
        search(strategy(), space=Unequal(training=True))


@pytest.mark.parametrize("strategy", [Uniform, MCTS])
def test_memory_that_runs_out_in_an_evaluation_names_the_architecture(
    strategy: Any, search: Make
) -> None:
    wanted = r"in the evaluation of architecture 1-[01]: lower the validation batch size"
    with pytest.raises(OutOfMemory, match=wanted):
        search(strategy(), space=Unequal(training=False))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_that_is_full_is_recognised() -> None:
    raised = pytest.raises(OutOfMemory, match="memory ran out in a test: lower nothing")
    with raised, naming_memory(lambda: "a test", lower="nothing"):
        torch.empty(2**45, device="cuda")


def test_only_a_want_of_memory_is_called_one() -> None:
    assert ran_out(MemoryError())
    assert ran_out(torch.OutOfMemoryError("CUDA out of memory"))
    assert not ran_out(RuntimeError("shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match=r"^other$"), naming_memory(lambda: "x", lower="y"):
        raise RuntimeError("other")

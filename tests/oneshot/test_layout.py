"""The layout of convolutions: a setting, measured on request, kept by checkpoints and results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from nas_ext.oneshot.layout import MemoryFormat, arrange, faster_layout
from nas_ext.spaces import PoolingResNet
from nas_ext.strategies import MCTS, BalancedMixture, Uniform

Make = Callable[..., Any]


def images(count: int) -> Any:
    generator = torch.Generator().manual_seed(count)
    inputs = torch.randn(count, 2, 8, 8, generator=generator)
    return DataLoader(TensorDataset(inputs, inputs[:, :, 0, 0].argmax(1)), batch_size=8)


def pooling() -> Any:
    torch.manual_seed(0)
    return PoolingResNet(widths=(3, 4, 5), poolings=1, in_chs=2, num_classes=2)


def run(search: Make, strategy: Any, **settings: Any) -> Any:
    given = {"space": pooling(), "train": images(40), "val": images(16), **settings}
    return search(strategy, **given)


def last(model: nn.Module) -> set[bool]:
    """Whether the weights of the 3 x 3 convolutions lie channels last."""
    kernels = [p for p in model.parameters() if p.ndim == 4 and min(p.shape) > 1]
    return {
        kernel.is_contiguous(memory_format=torch.channels_last)
        for kernel in kernels
        if kernel.shape[-1] == 3
    }


def test_arranging_moves_no_value_and_keeps_every_parameter() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv1d(4, 4, 3), nn.Linear(4, 2))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    parameters = list(model.parameters())
    arrange(model, "channels_last")
    assert last(model) == {True}
    assert all(one is other for one, other in zip(model.parameters(), parameters, strict=True))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    arrange(model, "contiguous")
    assert last(model) == {False}


@pytest.mark.parametrize("strategy", [Uniform, MCTS, BalancedMixture])
def test_supernets_are_channels_last_unless_told_otherwise(strategy: Any, search: Make) -> None:
    made = run(search, strategy(candidates=1))
    assert last(made.supernet) == {True}
    assert made.result.settings["memory_format"] == "channels_last"
    plain = run(search, strategy(candidates=1, memory_format="contiguous"))
    assert last(plain.supernet) == {False}
    assert plain.result.settings["memory_format"] == "contiguous"


def test_both_layouts_train_the_same_network_up_to_rounding(search: Make) -> None:
    made = [run(search, Uniform(memory_format=name)) for name in get_args(MemoryFormat)]
    for one, other in zip(*(strategy.supernet.parameters() for strategy in made), strict=True):
        # float32 has 24 bits; ten steps of SGD amplify what rounding leaves
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_a_measured_layout_is_named_by_the_result(search: Make) -> None:
    made = run(search, Uniform(candidates=1, memory_format="measure"))
    chosen = made.result.settings["memory_format"]
    assert chosen in get_args(MemoryFormat)
    assert last(made.supernet) == {chosen == "channels_last"}
    assert made.settings["memory_format"] == "measure"


def test_measuring_moves_neither_weights_nor_generators() -> None:
    model = nn.Sequential(nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    found, ratio = faster_layout(model, torch.randn(2, 2, 4, 4, generator=torch.Generator()))
    assert found in get_args(MemoryFormat)
    assert ratio >= 1
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_resumed_search_keeps_the_layout_of_its_checkpoint(search: Make, tmp_path: Path) -> None:
    keep = ModelCheckpoint(tmp_path, save_last=True)
    made = run(
        search,
        Uniform(candidates=1, memory_format="contiguous"),
        callbacks=[keep],
        enable_checkpointing=True,
        max_epochs=1,
    )
    assert made.result.budget.steps == 5
    resumed = run(
        search,
        Uniform(candidates=1, memory_format="measure"),
        ckpt_path=tmp_path / "last.ckpt",
        max_epochs=1,
    )
    assert resumed.result.settings["memory_format"] == "contiguous"
    assert last(resumed.supernet) == {False}


def test_an_unknown_layout_is_refused() -> None:
    with pytest.raises(ValueError, match=r"memory_format must be one of .*, got 'rows'"):
        Uniform(memory_format="rows")  # type: ignore[arg-type]

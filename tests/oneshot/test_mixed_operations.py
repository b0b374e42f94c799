"""Layers with searched arguments, and how they leave a supernet."""

from __future__ import annotations

from typing import Any

import nni
import pytest
import torch
from nni.nas.nn.pytorch import MutableBatchNorm2d, MutableConv2d, MutableLinear
from torch import Tensor

from nas_ext.nni import BaseSuperNetModule, ModelSpace, RandomOneShot
from nas_ext.oneshot.mixed_operations import MIXED_OPERATION_HOOKS


class Widths(ModelSpace):  # type: ignore[misc]  # NNI has no types
    """A convolution, a norm and a linear layer of searched sizes, none with a bias."""

    def __init__(self) -> None:
        super().__init__()
        width: Any = nni.choice("width", [2, 4])
        kernel: Any = nni.choice("kernel", [1, 3])
        self.conv = MutableConv2d(1, width, kernel, padding=kernel // 2, bias=False)
        self.norm = MutableBatchNorm2d(width)
        self.fixed = MutableBatchNorm2d(3, affine=False, track_running_stats=False)
        self.head = MutableConv2d(width, 3, 1, bias=False)
        self.linear = MutableLinear(3, 5, bias=False)

    def forward(self, x: Tensor) -> Any:
        return self.linear(self.fixed(self.head(self.norm(self.conv(x)))).mean((2, 3)))


def supernet(*hooks: Any) -> Any:
    torch.manual_seed(0)
    space: Any = Widths()
    return RandomOneShot(mutation_hooks=list(hooks)).mutate_model(space)


@pytest.mark.parametrize("width", [2, 4])
@pytest.mark.parametrize("kernel", [1, 3])
def test_layers_without_a_bias_leave_the_supernet_with_their_weights(
    width: int, kernel: int
) -> None:
    made, sample = supernet(*MIXED_OPERATION_HOOKS), {"width": width, "kernel": kernel}
    for module in made.modules():
        if isinstance(module, BaseSuperNetModule):
            module.resample(dict(sample))
    network, x = made.freeze(sample), torch.randn(4, 1, 6, 6)
    assert network.conv.weight.shape == (width, 1, kernel, kernel)
    assert torch.equal(network(x), made(x))


def test_nnis_own_layers_fail_to_leave_it() -> None:
    # Where this fails, NNI has mended it, and the hooks can go
    with pytest.raises(RuntimeError, match="Unexpected key"):
        supernet().freeze({"width": 2, "kernel": 1})

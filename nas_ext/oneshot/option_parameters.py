"""Which parameters an option of a choice trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from nni.nas.nn.pytorch import LayerChoice
from torch import nn

from nas_ext.architecture import Architecture, Choice, SearchSpace
from nas_ext.pooling import PoolingSpace

__all__ = ["OptionParameters", "gradient_norms", "option_parameters"]

OptionParameters: TypeAlias = Sequence[Sequence[Sequence[nn.Parameter]]]
"""Parameters by position of the choice and option."""


def option_parameters(model: nn.Module, space: SearchSpace) -> OptionParameters:
    """Return the parameters of each option of each choice of a supernet.

    Those of a layer choice are its candidate's, those of several layer choices with one label
    together. The poolings of a pooling space have none: both options of a layer stand for the
    block behind them (`model.blocks`, as in `PoolingResNet`), which has the same parameters and
    other gradients at another resolution. Raises ValueError for any other choice.
    """
    if isinstance(space, PoolingSpace):
        blocks = getattr(model, "blocks", None)
        if not isinstance(blocks, nn.ModuleList) or len(blocks) != len(space.choices):
            raise ValueError(
                f"model_space must have {len(space.choices)} blocks, one behind each pooling, "
                f"for path sampling, got {type(model).__name__}"
            )
        return [[list(block.parameters())] * 2 for block in blocks]
    layers: dict[str, list[Any]] = {}
    for module in model.modules():
        if isinstance(module, LayerChoice):
            layers.setdefault(module.choice.label, []).append(module)
    return [_of_choice(choice, layers.get(choice.label, [])) for choice in space.choices]


def _of_choice(choice: Choice, layers: list[Any]) -> list[list[nn.Parameter]]:
    if not layers:
        raise ValueError(
            "choices must be layer choices or poolings for path sampling, whose options have "
            f"parameters of their own, got {choice.label!r}"
        )
    rows = []
    for option in choice.options:
        found = {id(p): p for layer in layers for p in layer[option].parameters()}
        rows.append(list(found.values()))
    return rows


def gradient_norms(parameters: OptionParameters, architecture: Architecture) -> list[float]:
    """Return for each choice the sum of the gradients' norms over its option's parameters.

    Those without a gradient add nothing.
    """
    sums = []
    for options, chosen in zip(parameters, architecture, strict=True):
        norms = [p.grad.norm().double() for p in options[chosen] if p.grad is not None]
        sums.append(torch.stack(norms).sum().cpu() if norms else torch.zeros((), dtype=_DOUBLE))
    return [float(value) for value in torch.stack(sums)]


_DOUBLE = torch.float64

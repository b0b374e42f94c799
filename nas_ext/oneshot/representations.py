"""What architectures are like inside a supernet: their gradients and their activations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nas_ext.architecture import Architecture
from nas_ext.density import Pieces, mean_cosine_by_block
from nas_ext.estimation import FloatArray
from nas_ext.nni import BaseSuperNetModule
from nas_ext.oneshot.supernet import Supernet, batch_size

__all__ = ["BlockRows", "activation_rows", "gradient_rows"]

Row: TypeAlias = NDArray[np.float32]

HELD = 2**29
"""Bytes of rows that are kept; more are computed again at each pass."""


@dataclass(frozen=True)
class BlockRows:
    """Hold `[N, D]` rows in pieces, and the columns of each layer."""

    pieces: Pieces
    blocks: tuple[slice, ...]

    def mean_distance(self) -> FloatArray:
        """Return the mean distance to all other architectures, `[N]`, averaged over layers."""
        return np.asarray(mean_cosine_by_block(self.pieces, self.blocks).mean(axis=1))


def gradient_rows(supernet: Supernet, architectures: Sequence[Architecture]) -> BlockRows:
    """Return gradients of the batch's cross-entropy with respect to the shared weights.

    All architectures see the first validation batch, in eval mode with batch statistics: the
    supernet holds no training batch (a departure from section 5.1). One layout of columns serves
    all: a block for the weights that every architecture has, and one for each choice with weights
    of its own. Columns of options that are not used are zero, so that two options of a choice
    have a cosine distance of 1: the rule "1 if the operation differs". Options without weights
    get a column each instead, and distance 0 to themselves.

    Raises ValueError for a batch that is not (inputs, labels) or a model without weights.
    """
    layout = _Layout(supernet, architectures)

    def row(architecture: Architecture) -> Row:
        inputs, labels = _fixed_batch(supernet)[:2]
        with supernet._evaluating(), torch.enable_grad():
            _begin(supernet, architecture, backward=True)
            loss = nn.functional.cross_entropy(supernet.module(inputs), labels)
            gradients = torch.autograd.grad(loss, layout.weights, allow_unused=True)
        return layout.row(supernet.space.decode(architecture), gradients)

    return BlockRows(_pieces(row, architectures, layout.width), layout.blocks)


def activation_rows(
    supernet: Supernet,
    architectures: Sequence[Architecture],
    layers: Sequence[str],
    *,
    samples: int = 64,
) -> BlockRows:
    """Return the similarity of samples in the activations of some layers, for linear CKA.

    A block per layer: the n x n Gram matrix of its centred activations `[n, features]` on the
    first `samples` images of the first validation batch. The cosine of two such matrices is
    their linear CKA, |X2' X1|^2 / (|X1' X1| |X2' X2|), whatever the numbers of features, so that
    the mean cosine distance is the mean of 1 - CKA. Section 5.1, which leaves the layers open:
    the last block of each stage is meant. `layers` are names of the model space's modules.

    Raises ValueError for a name that does not exist, or that does not run once in every
    architecture and return one tensor.
    """
    modules = dict(supernet.module.model.named_modules())
    unknown = [name for name in layers if name not in modules]
    if not layers or unknown:
        raise ValueError(f"layers must be names of modules of the model, got {list(layers)}")
    if samples < 2:
        raise ValueError(f"samples must be at least 2, got {samples}")
    size = min(samples, batch_size(_fixed_batch(supernet)))
    above = np.triu_indices(size)
    width = len(above[0])
    weights = np.where(above[0] == above[1], 1.0, np.sqrt(2.0))  # each pair occurs twice

    def row(architecture: Architecture) -> Row:
        grams = [
            _gram(name, taken, size)
            for name, taken in _activations(supernet, architecture, layers, modules).items()
        ]
        return np.concatenate([gram[above] * weights for gram in grams]).astype(np.float32)

    blocks = tuple(slice(i * width, (i + 1) * width) for i in range(len(layers)))
    return BlockRows(_pieces(row, architectures, len(layers) * width), blocks)


class _Layout:
    """Columns for the gradients of all weights, layer by layer."""

    def __init__(self, supernet: Supernet, architectures: Sequence[Architecture]) -> None:
        supernet.activate(architectures[0])
        samples = [supernet.space.decode(architecture) for architecture in architectures]
        self.weights: list[nn.Parameter] = []
        self._choices: list[tuple[tuple[str, ...], slice, dict[tuple[Any, ...], int]]] = []
        self._places: list[slice] = []
        blocks, taken, first = [], set[int](), 0
        for labels, module in [*_choices(supernet, samples[0]), ((), supernet.module.model)]:
            fresh = [p for p in module.parameters() if p.requires_grad and id(p) not in taken]
            taken.update(map(id, fresh))
            if not fresh:
                continue
            begun, weights = first, slice(len(self.weights), len(self.weights) + len(fresh))
            self.weights += fresh
            for weight in fresh:
                self._places.append(slice(first, first + weight.numel()))
                first += weight.numel()
            options = dict.fromkeys(tuple(s[label] for label in labels) for s in samples)
            columns = {option: first + i for i, option in enumerate(options)} if labels else {}
            first += len(columns)
            self._choices.append((labels, weights, columns))
            blocks.append(slice(begun, first))
        if not blocks:
            raise ValueError("model must have weights for gradients to be compared, it has none")
        self.blocks = tuple(blocks)
        self.width = first

    def row(self, sample: dict[str, Any], gradients: Sequence[Tensor | None]) -> Row:
        """Return one architecture's gradients in their columns."""
        row = np.zeros(self.width, dtype=np.float32)
        for place, gradient in zip(self._places, gradients, strict=True):
            if gradient is not None:
                row[place] = gradient.detach().float().flatten().cpu().numpy()
        for labels, weights, columns in self._choices:
            if columns and all(gradient is None for gradient in gradients[weights]):
                row[columns[tuple(sample[label] for label in labels)]] = 1.0
        return row


def _choices(
    supernet: Supernet, sample: dict[str, Any]
) -> Iterator[tuple[tuple[str, ...], nn.Module]]:
    """Yield each outermost choice of the supernet with the labels of all choices in it."""
    inside = ""
    for name, module in supernet.module.model.named_modules():
        if not isinstance(module, BaseSuperNetModule) or (inside and name.startswith(inside)):
            continue
        inside = f"{name}."
        parts = [part for part in module.modules() if isinstance(part, BaseSuperNetModule)]
        labels = [label for part in parts for label in part.resample(memo=dict(sample))]
        yield tuple(dict.fromkeys(labels)), module


def _activations(
    supernet: Supernet,
    architecture: Architecture,
    layers: Sequence[str],
    modules: dict[str, nn.Module],
) -> dict[str, Tensor]:
    """Run the first validation batch and return what each of the layers put out."""
    seen: dict[str, list[Any]] = {name: [] for name in layers}
    hooks = [modules[name].register_forward_hook(_record(seen[name])) for name in layers]
    try:
        with supernet._evaluating():
            inputs = _fixed_batch(supernet)[0]
            _begin(supernet, architecture)
            supernet.module(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    for name, values in seen.items():
        if len(values) != 1 or not isinstance(values[0], Tensor):
            raise ValueError(
                f"layers must run once in every architecture and return one tensor, {name!r} "
                f"gave {[type(value).__name__ for value in values]} in "
                f"{supernet.space.describe(architecture)}"
            )
    return {name: values[0] for name, values in seen.items()}


def _record(values: list[Any]) -> Callable[[nn.Module, Any, Any], None]:
    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        values.append(output)

    return hook


def _gram(name: str, values: Tensor, samples: int) -> FloatArray:
    """Return the `[n, n]` Gram matrix of features that are centred over the samples."""
    if values.ndim < 2 or len(values) < samples:
        raise ValueError(f"layer {name!r} must return [S, ...], got shape {tuple(values.shape)}")
    features = values[:samples].detach().cpu().double().flatten(1)
    centred = features - features.mean(dim=0)
    return np.asarray((centred @ centred.T).numpy(), dtype=np.float64)


def _fixed_batch(supernet: Supernet) -> Any:
    """Return the first validation batch, the one that `outputs` takes."""
    if supernet._fixed is None:
        supernet.check()
    batch = supernet._fixed
    if not isinstance(batch, list | tuple) or len(batch) < 2:
        raise ValueError(f"batch must be (inputs, labels), got {type(batch).__name__}")
    return batch


def _begin(supernet: Supernet, architecture: Architecture, *, backward: bool = False) -> None:
    """Route to an architecture and count its pass; a backward pass costs two forward ones."""
    batch = _fixed_batch(supernet)
    supernet._route(architecture, batch, "outputs")
    if backward:
        supernet.images[architecture] += 2 * batch_size(batch)


def _pieces(
    row: Callable[[Architecture], Row], architectures: Sequence[Architecture], width: int
) -> Pieces:
    """Return what yields the rows, one at a time; they are kept if they are small enough."""
    if 4 * width * len(architectures) > HELD:
        return lambda: (row(architecture)[None] for architecture in architectures)
    held = np.empty((len(architectures), width), dtype=np.float32)
    for place, architecture in enumerate(architectures):
        held[place] = row(architecture)
    return lambda: [held]

"""Several architectures of a supernet in one call of a layer, proven to change no bit."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

__all__ = ["Proofs", "Stack", "copied", "merged", "same", "stackable"]

ONCE, EQUAL, DIFFERENT = "once", "equal", "different"


@dataclass
class Stack:
    """Hold the activations of some nodes, one slice of the rows for each, in their order.

    A node is a range of the sorted architectures, all alike up to here. With one node the value
    may be anything; with more it is a tensor.
    """

    value: Any
    nodes: list[tuple[int, int]]

    def taken(self, places: Sequence[int]) -> Any:
        """Return the value of the nodes at these places, in their order; a view where it can."""
        if len(places) == len(self.nodes):
            return self.value
        rows, first = len(self.value) // len(self.nodes), places[0]
        if places[-1] - first + 1 == len(places):
            return self.value.narrow(0, first * rows, len(places) * rows)
        return torch.cat([self.value.narrow(0, place * rows, rows) for place in places])


def merged(stacks: Sequence[Stack]) -> list[Stack]:
    """Join the stacks of like tensors; others, and those whose layout would change, stay."""
    groups: dict[Hashable, list[Stack]] = {}
    for number, stack in enumerate(stacks):
        key: tuple[Any, ...] = (number,)
        value = stack.value
        if isinstance(value, Tensor) and value.ndim:
            rows = len(value) / len(stack.nodes)
            key = (rows, *value.shape[1:], value.stride(), value.dtype, value.device)
        groups.setdefault(key, []).append(stack)
    found = []
    for group in groups.values():
        value = group[0].value
        if len(group) > 1:
            value = torch.cat([stack.value for stack in group])
            if value.stride() != group[0].value.stride():
                found += group
                continue
        found.append(Stack(value, [node for stack in group for node in stack.nodes]))
    return found


class Proofs:
    """Run layers on stacks, where that gave every bit of one slice after another when tried.

    Which kernel a library takes may depend on the number of rows, and a layer may mix its rows:
    batch normalisation does, and is run slice by slice; anything else that does is found out. A
    layer on so many slices of one form runs slice by slice when it is first met, both ways at the
    second time, and at once from then on if both were equal and its input was left alone.
    """

    def __init__(self) -> None:
        self._known: dict[Hashable, str] = {}

    def run(
        self,
        layer: Callable[[Any], Any],
        value: Any,
        nodes: list[tuple[int, int]],
        *,
        key: Hashable,
    ) -> list[Stack]:
        """Return what a layer makes of the nodes' slices: one stack, or one for each of them.

        `key` says what the layer does.
        """
        slices = len(nodes)
        if slices == 1:
            return [Stack(layer(copied(value)), nodes)]
        full = (key, slices, value.shape, value.stride(), value.dtype, value.device, _autocast())
        known = self._known.get(full)
        if known == EQUAL:
            return [Stack(_at_once(layer, value, slices), nodes)]
        results = [layer(part.clone()) for part in value.chunk(slices)]
        if known is None:
            self._known[full] = ONCE
        elif known == ONCE:
            self._known[full] = EQUAL if _proven(layer, value, slices, results) else DIFFERENT
        return [Stack(one, [node]) for one, node in zip(results, nodes, strict=True)]


def _at_once(layer: Callable[[Any], Any], value: Tensor, slices: int) -> Any:
    with _BatchNormBySlice(slices):
        return layer(value)


def _proven(
    layer: Callable[[Any], Any], value: Tensor, slices: int, results: Sequence[Any]
) -> bool:
    given = value.clone()
    version = given._version
    whole = _at_once(layer, given, slices)
    if given._version != version or not isinstance(whole, Tensor) or not whole.ndim:
        return False
    parts = whole.chunk(slices)
    return len(parts) == slices and all(map(same, parts, results))


def same(one: Any, other: Any) -> bool:
    """Say whether two tensors have the same form, layout and values, NaN being equal to NaN."""
    if not (isinstance(one, Tensor) and isinstance(other, Tensor)):
        return False
    if (one.shape, one.stride(), one.dtype) != (other.shape, other.stride(), other.dtype):
        return False
    return torch.equal(one, other) or torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)


def copied(value: Any) -> Any:
    """Return a value whose tensors are copies, of the same layout."""
    if isinstance(value, Tensor):
        return value.clone()
    return tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, value)


def versions(value: Any) -> int:
    """Return a number that grows whenever a tensor of the value is written to."""
    if isinstance(value, Tensor):
        return value._version
    return sum(leaf._version for leaf in tree_leaves(value) if isinstance(leaf, Tensor))


def stackable(layer: Callable[[Any], Any]) -> bool:
    """Say whether a layer may see several architectures in one call.

    Only modules, whose state is that of their choices, and those that nobody listens to: a hook
    sees one architecture at a time.
    """
    return isinstance(layer, nn.Module) and not any(
        part._forward_hooks or part._forward_pre_hooks for part in layer.modules()
    )


def _autocast() -> tuple[bool, ...]:
    return torch.is_autocast_enabled("cpu"), torch.is_autocast_enabled("cuda")


class _BatchNormBySlice(TorchFunctionMode):
    """Let batch normalisation with batch statistics see one slice of the rows at a time."""

    def __init__(self, slices: int) -> None:
        super().__init__()
        self.slices = slices

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if func is not F.batch_norm or not given.get("training"):
            return func(*args, **given)
        rows, *rest = args
        if rows.device.type == "cpu" and rows.dtype == torch.float32:
            return _normalised(rows, self.slices, *rest, **given)
        return torch.cat([func(part, *rest, **given) for part in rows.chunk(self.slices)])


def _normalised(
    rows: Tensor,
    slices: int,
    mean: Tensor | None,
    variance: Tensor | None,
    *,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> Tensor:
    """Call the kernel of batch normalisation for each slice, writing where it belongs."""
    found = torch.empty_like(rows)
    spare = rows.new_empty(2, rows.shape[1])
    for part, into in zip(rows.chunk(slices), found.chunk(slices), strict=True):
        torch.native_batch_norm(
            part, weight, bias, mean, variance, training, momentum, eps, out=(into, *spare)
        )
    return found

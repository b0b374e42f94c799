"""Many architectures of a supernet on the same inputs, with every common prefix run once."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from nas_ext.architecture import Architecture
from nas_ext.nni import BaseSuperNetModule
from nas_ext.oneshot.stacking import Proofs, Stack, copied, merged, stackable, versions

__all__ = ["Chain", "PrefixWalk", "chain_of", "standing_in"]

Layer: TypeAlias = Callable[[Any], Any]

Chain: TypeAlias = Sequence[tuple[Layer, int]]
"""Layers that make up a model's forward one after another, and for each of them how many leading
choices of the search space determine everything up to it."""

SAMPLES = 1024
"""The most samples that one call of a layer gets; more leave the processor's cache."""

WIDTH = 3 * SAMPLES
"""The most samples of all architectures that are run breadth-first below a common prefix."""

STACKED_BYTES = 2**25
"""The most memory of stacked activations, counted at their common ancestor."""

INPUTS = 4
"""How many different inputs of one batch a module may run its model on, and still share."""

TOLERANCE = 1e-3
"""How far chain and forward may differ, relative to the largest output: kernels on a GPU may."""


def chain_of(model: nn.Module) -> Chain | None:
    """Return a model's chain of layers as it is now; None for one that does not offer it.

    Nor does one that is compiled, or whose `forward` was overridden, in a subclass or on the
    object, while `forward_chain` was not.
    """
    make = getattr(model, "forward_chain", None)
    compiled = getattr(model, "_compiled_call_impl", None) is not None
    if make is None or compiled or "forward" in vars(model):
        return None
    chain, forward = (_depth(type(model), name) for name in ("forward_chain", "forward"))
    return list(make()) if chain <= forward else None


def _depth(kind: type, name: str) -> int:
    """Return how far up the bases of a class the one that defines a method stands."""
    return next(i for i, base in enumerate(kind.__mro__) if name in vars(base))


@contextmanager
def standing_in(model: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Let a function stand for a model's forward; the model's own hooks still run around it."""
    vars(model)["forward"] = forward
    try:
        yield
    finally:
        del vars(model)["forward"]


class PrefixWalk:
    """Answer for a model's forward, architecture after architecture, without repeating a layer.

    Architectures are asked for in the order of `plan`, which is sorted. The walk is depth-first
    and keeps the activations along one architecture, so that a layer runs once for each prefix.
    Where few architectures are left below a prefix, they are run breadth-first, siblings stacked
    in one call of a layer, once it is known that the inputs stay the same. Results are those of
    one forward for each architecture, bit for bit; see `Proofs` for how stacking is held to that.

    `activate` routes the supernet to an architecture, `decode` says the sample of one; `count` is
    told the number of layers that were run. Hooks on layers run whenever the layer does, which is
    less often than once an architecture; layers with hooks are not stacked.
    """

    def __init__(
        self,
        model: nn.Module,
        chain: Chain,
        plan: Sequence[Architecture],
        *,
        activate: Callable[[Architecture], None],
        decode: Callable[[Architecture], dict[str, Any]],
        count: Callable[[int], None],
        proofs: Proofs,
    ) -> None:
        self.model = model
        self.plan = plan
        self._chain = chain
        self._forward: Callable[..., Any] = model.forward
        self._activate = activate
        self._decode = decode
        self._count = count
        self._proofs = proofs
        self._trails: list[_Trail] = []
        self._samples: dict[Architecture, dict[str, Any]] = {}
        self._checked = False
        self._parts = [_parts(layer) for layer, _ in chain]
        first = decode(plan[0])
        self._labels = [
            _labels(parts, first) if stackable(layer) else None
            for parts, (layer, _) in zip(self._parts, chain, strict=True)
        ]

    def __call__(self, architecture: Architecture, *args: Any, **kwargs: Any) -> Any:
        """Return what the model's forward gives for the architecture, which is the active one.

        Anything but one tensor, without gradients, goes to the model's own forward. Raises
        ValueError when the chain does not compose to that.
        """
        inputs = args[0] if len(args) == 1 and not kwargs else None
        if not isinstance(inputs, Tensor) or inputs.is_inference() or torch.is_grad_enabled():
            return self._forward(*args, **kwargs)
        untouched = None if self._checked else inputs.clone()
        found = self._result(self._trail(inputs), architecture)
        if untouched is None:
            return copied(found)
        expected = self._forward(untouched)
        if not _close(found, expected):
            raise ValueError(
                f"forward_chain of {type(self.model).__name__} must compose to its forward, "
                f"they differ for architecture {architecture}"
            )
        self._checked = True
        return expected

    def forget(self) -> None:
        """Drop all activations: the next inputs are others."""
        self._trails = []

    def _trail(self, inputs: Tensor) -> _Trail:
        """Return the activations for such inputs; new ones take the place of the oldest."""
        for trail in self._trails:
            if trail.is_for(inputs):
                return trail
        self._trails = [*self._trails[1 - INPUTS :], _Trail(inputs)]
        return self._trails[-1]

    def _result(self, trail: _Trail, architecture: Architecture) -> Any:
        """Walk from the longest known prefix to the end of the chain."""
        trail.met.add(architecture)
        if architecture in trail.ready:
            return trail.ready[architecture]
        trail.ready = {}
        shared = _common(trail.architecture, architecture)
        trail.keep(sum(1 for _ in takewhile(lambda part: part[1] <= shared, self._chain)))
        trail.architecture = architecture
        wide = len(trail.met) > 1 and trail.inputs.ndim > 0 and 2 * len(trail.inputs) <= WIDTH
        for position, (layer, _) in enumerate(self._chain):
            if wide and self._group(trail, position, architecture):
                return trail.ready[architecture]
            if position == len(trail.levels):
                trail.append(layer(trail.value(position)))
                self._count(1)
        return trail.value(len(self._chain))

    # Breadth first.

    def _group(self, trail: _Trail, position: int, architecture: Architecture) -> bool:
        """Run this and all later architectures below a prefix at once, if that is worth it."""
        value = trail.value(position)
        if not isinstance(value, Tensor) or not value.ndim:
            return False
        most = min(WIDTH // len(trail.inputs), STACKED_BYTES // max(1, value.nbytes))
        if most < 2 or not any(self._labels[position:]):  # nothing ahead that siblings share
            return False
        low = bisect_left(self.plan, architecture)
        fixed = self._chain[position - 1][1] if position else 0
        high = self._below(architecture[:fixed])[1]
        if not 2 <= high - low <= most or self.plan[low] != architecture:
            return False
        if not trail.clean(position):
            return False
        self._samples = {}
        stacks = [Stack(value, [(low, high)])]
        most = max(1, SAMPLES // len(trail.inputs))
        for later in range(position, len(self._chain)):
            stacks = self._level(later, stacks, most)
        for stack in stacks:
            parts = stack.value.chunk(len(stack.nodes)) if len(stack.nodes) > 1 else [stack.value]
            for (first, _), part in zip(stack.nodes, parts, strict=True):
                trail.ready[self.plan[first]] = part
        self._activate(architecture)
        return True

    def _level(self, position: int, stacks: Sequence[Stack], most: int) -> list[Stack]:
        """Run one layer for all nodes, `most` of those that it does the same to in one call."""
        layer, choices = self._chain[position]
        jobs: dict[tuple[int, Hashable], list[tuple[int, tuple[int, int]]]] = {}
        for number, stack in enumerate(stacks):
            for at, node in enumerate(stack.nodes):
                for child in self._split(node, choices):
                    key = number, self._state(position, self.plan[child[0]])
                    jobs.setdefault(key, []).append((at, child))
        results: list[Stack] = []
        for (number, state), parts in jobs.items():
            self._set(position, self.plan[parts[0][1][0]])
            for begin in range(0, len(parts), most):
                few = parts[begin : begin + most]
                value = stacks[number].taken([at for at, _ in few])
                nodes = [node for _, node in few]
                results += self._proofs.run(layer, value, nodes, key=(position, state))
            self._count(len(parts))
        return merged(results)

    def _split(self, node: tuple[int, int], choices: int) -> Iterator[tuple[int, int]]:
        """Yield the ranges within a range whose architectures begin with as many equal choices."""
        low, high = node
        while low < high:
            behind = high
            if high - low > 1:
                behind = min(high, self._below(self.plan[low][:choices])[1])
            yield low, behind
            low = behind

    def _below(self, prefix: Architecture) -> tuple[int, int]:
        """Return the range of the planned architectures that begin with a prefix."""
        if not prefix:
            return 0, len(self.plan)
        behind = (*prefix[:-1], prefix[-1] + 1)
        return bisect_left(self.plan, prefix), bisect_left(self.plan, behind)

    def _state(self, position: int, architecture: Architecture) -> Hashable:
        """Return what decides a layer's function: the options that are taken within it.

        Where these are not known, everything that leads to it.
        """
        labels = self._labels[position]
        if labels is None:
            return architecture[: self._chain[position][1]]
        return tuple(self._sample(architecture)[label] for label in labels)

    def _sample(self, architecture: Architecture) -> dict[str, Any]:
        if architecture not in self._samples:
            self._samples[architecture] = self._decode(architecture)
        return self._samples[architecture]

    def _set(self, position: int, architecture: Architecture) -> None:
        """Activate an architecture in one layer, or everywhere if its choices are not known."""
        if self._labels[position] is None:
            self._activate(architecture)
            return
        for part in self._parts[position]:
            part.resample(memo=dict(self._sample(architecture)))


class _Trail:
    """Hold the activations along one architecture, for one input."""

    def __init__(self, inputs: Tensor) -> None:
        self.inputs = inputs
        self.levels: list[Any] = []
        self.architecture: Architecture = ()
        self.ready: dict[Architecture, Any] = {}
        self.met: set[Architecture] = set()
        self._version = versions(inputs)
        self._versions: list[int] = []

    def value(self, position: int) -> Any:
        """Return what the layer at a position of the chain gets."""
        return self.levels[position - 1] if position else self.inputs

    def clean(self, position: int) -> bool:
        """Say whether no later layer wrote to what the layer at a position gets."""
        if not position:
            return versions(self.inputs) == self._version
        return versions(self.levels[position - 1]) == self._versions[position - 1]

    def is_for(self, inputs: Tensor) -> bool:
        """Say whether these are the inputs, and the ones that are kept were not written to."""
        mine = self.inputs
        if versions(mine) != self._version:
            return False
        if inputs is mine:
            return True
        form = (inputs.shape, inputs.stride(), inputs.dtype, inputs.device)
        if form != (mine.shape, mine.stride(), mine.dtype, mine.device):
            return False
        return torch.equal(inputs, mine)

    def append(self, value: Any) -> None:
        """Go one layer further."""
        self.levels.append(value)
        self._versions.append(versions(value))

    def keep(self, count: int) -> None:
        """Go back to so many layers, or to fewer where a layer wrote to its input."""
        count = min(count, len(self.levels))
        while count and not self.clean(count):
            count -= 1
        del self.levels[count:], self._versions[count:]


def _parts(layer: Layer) -> list[Any]:
    """Return the modules within a layer that choose."""
    modules = layer.modules() if isinstance(layer, nn.Module) else ()
    return [part for part in modules if isinstance(part, BaseSuperNetModule)]


def _labels(parts: Sequence[Any], sample: dict[str, Any]) -> tuple[str, ...] | None:
    """Return the labels of the choices within a layer, None where it does not tell."""
    found: list[str] = []
    for part in parts:
        taken = part.resample(memo=dict(sample))
        if not taken or not set(taken) <= set(sample):
            return None
        found += taken
    return tuple(dict.fromkeys(found))


def _common(one: Architecture, other: Architecture) -> int:
    """Return how many leading options two architectures share."""
    pairs = zip(one, other)  # noqa: B905  # the first of all is empty
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _close(found: Any, expected: Any) -> bool:
    """Say whether two results are the same, up to what kernels without a fixed order may do."""
    ours, theirs = tree_leaves(found), tree_leaves(expected)
    if len(ours) != len(theirs):
        return False
    for one, other in zip(ours, theirs, strict=True):
        if not isinstance(one, Tensor) or not isinstance(other, Tensor):
            continue
        if one.shape != other.shape or one.dtype != other.dtype:
            return False
        if not torch.allclose(one, other, TOLERANCE, TOLERANCE * _largest(other), equal_nan=True):
            return False
    return True


def _largest(values: Tensor) -> float:
    finite = values[values.isfinite()]
    return float(finite.abs().max()) if finite.numel() else 0.0

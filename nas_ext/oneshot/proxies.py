"""Zero-cost proxies: scores of architectures from one batch, before any training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _NormBase
from torch.utils._python_dispatch import TorchDispatchMode

from nas_ext.architecture import Architecture
from nas_ext.estimation import FloatArray, ProxyName
from nas_ext.oneshot.representations import _begin, _fixed_batch
from nas_ext.oneshot.supernet import Supernet

__all__ = ["PROXIES", "Proxy", "grad_norm", "naswot", "synflow"]

Proxy: TypeAlias = Callable[[Supernet, Sequence[Architecture]], FloatArray]
"""From a supernet and N architectures to `[N]` scores, higher meaning better."""

NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)

ATEN = torch.ops.aten

RECTIFIERS = frozenset(
    packet
    for name in ("relu", "leaky_relu", "hardtanh", "hardswish", "silu", "gelu")
    for packet in (getattr(ATEN, name), getattr(ATEN, f"{name}_"))
)
"""What a unit's on or off is read from: outputs are positive where inputs are."""


def synflow(supernet: Supernet, architectures: Sequence[Architecture]) -> FloatArray:
    """Return the synaptic flow, `[N]`: the sum of theta * dR/dtheta over the weights in use.

    R is the sum of the logits of an input of ones, of the shape of one validation image, through
    the network with the absolute values of all its parameters. Sums over the weights of
    convolutions and linear layers (two dimensions or more), in float64. Normalisation layers are
    passed by, which would undo the flow; an activation that is part of one is passed by with it,
    and would change nothing where all values are positive. No images and no labels are used.

    Source: Tanaka et al. 2020 (the flow), Abdelfattah et al. 2021 (as a score of architectures,
    without normalisation). Raises ValueError for a score that is not finite.
    """
    inputs = _fixed_batch(supernet)[0]
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
        raise ValueError(f"inputs must be a tensor of floats for synflow, got {inputs!r:.80}")
    ones = torch.ones_like(inputs[:1], dtype=torch.float64)
    state: dict[str, Tensor] = {
        name: buffer.clone().double() if buffer.is_floating_point() else buffer.clone()
        for name, buffer in supernet.module.named_buffers()
    }
    weights: list[Tensor] = []
    for name, parameter in supernet.module.named_parameters():
        state[name] = parameter.detach().abs().double()
        if parameter.ndim >= 2:
            weights.append(state[name].requires_grad_())
    scores = []
    with supernet._evaluating(), torch.enable_grad(), _passing_by(supernet.module):
        for architecture in architectures:
            supernet._route(architecture, ones, "outputs")
            supernet.images[architecture] += 2  # the backward pass of one image
            flow = functional_call(supernet.module, state, (ones,)).sum()
            gradients = torch.autograd.grad(flow, weights, allow_unused=True)
            pairs = zip(weights, gradients, strict=True)
            scores.append(sum(float((w.detach() * g).sum()) for w, g in pairs if g is not None))
    return _finite(scores, "synflow")


def grad_norm(supernet: Supernet, architectures: Sequence[Architecture]) -> FloatArray:
    """Return the sum over layers of the Euclidean norm of the loss's gradient, `[N]`.

    Cross-entropy on the first validation batch, the same for all, in eval mode with batch
    statistics; a layer is a weight of a convolution or linear layer (two dimensions or more).

    Source: Abdelfattah et al. 2021, whose code sums the norms of the layers where the text speaks
    of one norm. Departure: a validation batch, since a supernet holds no training batch. Raises
    ValueError for a score that is not finite.
    """
    inputs, labels = _fixed_batch(supernet)[:2]
    weights = [p for p in supernet.module.parameters() if p.requires_grad and p.ndim >= 2]
    scores = []
    with supernet._evaluating(), torch.enable_grad():
        for architecture in architectures:
            _begin(supernet, architecture, backward=True)
            loss = nn.functional.cross_entropy(supernet.module(inputs), labels)
            gradients = torch.autograd.grad(loss, weights, allow_unused=True)
            scores.append(sum(float(g.double().norm()) for g in gradients if g is not None))
    return _finite(scores, "grad-norm")


def naswot(supernet: Supernet, architectures: Sequence[Architecture]) -> FloatArray:
    """Return log |det K| of the kernel of activation overlaps, `[N]`.

    K_ij is the number of rectified units that are on for both or off for both of images i and j
    of the first validation batch, the number of units less the Hamming distance of their codes.
    Units are read where ReLU and its smooth or clipped kin run, module or function; other
    activations do not count. A kernel without full rank, in float64, scores -inf: some images are
    not told apart. Batch statistics, as in the source, and no labels.

    Source: Mellor et al. 2021. Raises ValueError for an architecture without such units.
    """
    inputs = _fixed_batch(supernet)[0]
    scores = []
    for architecture in architectures:
        with supernet._evaluating(), _Codes() as seen:
            _begin(supernet, architecture)
            supernet.module(inputs)
        if not seen.codes:
            raise ValueError(
                "architecture must have rectified units for naswot, "
                f"{supernet.space.describe(architecture)} has none"
            )
        scores.append(_log_determinant(_overlaps(seen.codes)))
    return np.asarray(scores, dtype=np.float64)


PROXIES: Mapping[ProxyName, Proxy] = MappingProxyType(
    {"synflow": synflow, "naswot": naswot, "grad-norm": grad_norm}
)
"""The proxies by the name that strategies take."""


class _Codes(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types here
    """Record where the outputs of rectifiers are positive while a network runs."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no types here
        self.codes: list[Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if func.overloadpacket in RECTIFIERS:
            self.codes.append((output > 0).flatten(1))
        return output


def _overlaps(codes: Sequence[Tensor]) -> FloatArray:
    """Return the `[S, S]` number of units that agree, of `[S, units]` codes of each layer."""
    kernel = np.zeros((len(codes[0]), len(codes[0])))
    for code in codes:
        on: NDArray[np.float32] = code.cpu().numpy().astype(np.float32)
        counts = on.sum(axis=1, dtype=np.float64)
        both = (on @ on.T).astype(np.float64)  # exact: counts below 2^24
        kernel += on.shape[1] - counts[:, None] - counts[None, :] + 2 * both
    return kernel


def _log_determinant(kernel: FloatArray) -> float:
    """Return log |det K| of a positive semi-definite kernel, -inf where its rank is not full."""
    values = np.linalg.eigvalsh(kernel)
    if values[0] <= len(kernel) * np.finfo(np.float64).eps * values[-1]:
        return -np.inf
    return float(np.log(values).sum())


@contextmanager
def _passing_by(module: nn.Module) -> Iterator[None]:
    """Let the normalisation layers return their input; put their own way back."""
    norms = [part for part in module.modules() if isinstance(part, NORMS)]
    own = [vars(norm).get("forward") for norm in norms]
    try:
        for norm in norms:
            vars(norm)["forward"] = _same
        yield
    finally:
        for norm, forward in zip(norms, own, strict=True):
            del vars(norm)["forward"]
            if forward is not None:
                vars(norm)["forward"] = forward


def _same(values: Tensor) -> Tensor:
    return values


def _finite(scores: Sequence[float], name: str) -> FloatArray:
    found = np.asarray(scores, dtype=np.float64)
    if not np.isfinite(found).all():
        raise ValueError(f"scores of {name} must be finite, got NaN or infinity")
    return found

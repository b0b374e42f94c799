"""Running statistics of batch norm, measured anew for the weights as they are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["recalibrate"]


def recalibrate(network: nn.Module, batches: Iterable[Any]) -> int:
    """Give batch norm the statistics of these batches; return how many batches there were.

    A batch is inputs `[B, C, H, W]` or begins with them. Statistics become the plain mean over
    all batches of each batch's mean and unbiased variance, so give batches of one size, shuffled:
    at least 10 to 20 of training images, as section 1.5 asks before every comparison of a supernet
    that tracks. What came before is forgotten. Everything but batch norm is in eval mode, and no
    weight changes. Norms that no batch reached, as those off the active path of a supernet, keep
    theirs, and so do all when an error ends it. Modes and momenta are put back.

    Raises ValueError when no layer tracks statistics, or there is no batch.
    """
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    if not norms:
        raise ValueError("network must have batch norm that tracks its statistics, it has none")
    modes = [(module, module.training) for module in network.modules()]
    momenta = [norm.momentum for norm in norms]
    before = [{name: b.clone() for name, b in norm.named_buffers()} for norm in norms]
    like = next(network.parameters(), next(network.buffers()))
    count, finished = 0, False
    try:
        network.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.training, norm.momentum = True, None  # None: the mean over all batches
        with torch.no_grad():
            for batch in batches:
                network(_inputs(batch).to(like.device))
                count += 1
        if not count:
            raise ValueError("batches must not be empty, got none")
        finished = True
    finally:
        for norm, momentum, kept in zip(norms, momenta, before, strict=True):
            norm.momentum = momentum
            if not finished or not norm.num_batches_tracked:
                for name, buffer in norm.named_buffers():
                    buffer.copy_(kept[name])
        for module, training in modes:
            module.training = training
    return count


def _inputs(batch: Any) -> Tensor:
    inputs = batch[0] if isinstance(batch, list | tuple) and batch else batch
    if not isinstance(inputs, Tensor):
        raise ValueError(f"batches must be tensors or begin with one, got {type(batch).__name__}")
    return inputs

"""Evolution that adapts the shared weights to every candidate before it judges it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from nas_ext.architecture import Architecture
from nas_ext.oneshot import Supernet
from nas_ext.search import Ranked
from nas_ext.selection import Evolution, evolve, rank
from nas_ext.selection.evolution import Allowed

__all__ = ["Shift", "evolution_with_shifting"]


@dataclass(frozen=True, kw_only=True)
class Shift:
    """Say how long and how strongly a candidate moves the shared weights. Section 4.4.

    `iterations` are training batches, `batches` those of the validation set behind a score.
    """

    iterations: int = 20
    batches: int = 25
    learning_rate: float = 1e-4
    momentum: float = 0.9
    weight_decay: float = 4e-5
    label_smoothing: float = 0.1

    def __post_init__(self) -> None:
        for name in ("iterations", "batches"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0.0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")
        for name in ("momentum", "label_smoothing"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
        if not 0.0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay must not be negative, got {self.weight_decay}")


def evolution_with_shifting(
    supernet: Supernet,
    train: Iterable[Any],
    *,
    rng: np.random.Generator,
    settings: Evolution | None = None,
    shift: Shift | None = None,
    allowed: Allowed | None = None,
    top: int = 10,
    keep_weights: bool = False,
) -> tuple[Ranked, ...]:
    """Rank the best that evolution found while it fine-tuned the supernet for its candidates.

    For a supernet only: a table has no weights to move. Before a candidate is scored the shared
    weights are trained on it, through batches (inputs, labels) of `train`, which begins again
    when it ends, and later candidates inherit them. Scores are therefore those of different
    weights, and an early candidate's is stale; one may be evaluated again in a later generation,
    and the last score counts. At the end the best `top` are ranked on the whole validation set
    with the weights as they are then, without shifting. Afterwards the weights are put back,
    else what is asked next would depend on what was searched before, unless `keep_weights`.

    Source: the published supernet-shifting code, section 4.4. Departures: the score is the
    supernet's reward instead of the pair of top-1 and top-5 errors; a legal first generation that
    cannot be found is an error instead of an endless loop; parents are chosen by their last
    score, as there, but the ranking is not (ours); momenta begin anew with every candidate,
    so that none moves the weights of another's options (not stated there).

    Raises ValueError for batches of another form, for an empty `train`, for a loss that is not
    finite and for what `evolution` refuses.
    """
    if top < 1:
        raise ValueError(f"top must be at least 1, got {top}")
    method = shift or Shift()
    stream = _endless(train)
    model = supernet.module.model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def score(generation: Sequence[Architecture]) -> list[float]:
        values = []
        for architecture in generation:
            _fine_tune(supernet, architecture, stream, method)
            values.append(float(supernet.accuracies([architecture], batches=method.batches)[0]))
        return values

    try:
        scores = evolve(
            supernet.space,
            score,
            rng,
            settings=settings or Evolution(),
            allowed=allowed,
            again=True,
        )
        best = sorted(scores, key=lambda architecture: -scores[architecture])[:top]
        return rank(supernet, best)
    finally:
        if not keep_weights:
            model.load_state_dict(before)


def _fine_tune(
    supernet: Supernet, architecture: Architecture, stream: Iterator[Any], shift: Shift
) -> None:
    """Train the shared weights on one architecture, and leave no gradients or modes behind."""
    module = supernet.module
    modes = [(part, part.training) for part in module.modules()]
    optimizer = torch.optim.SGD(
        module.model.parameters(),
        lr=shift.learning_rate,
        momentum=shift.momentum,
        weight_decay=shift.weight_decay,
    )
    optimizer.zero_grad(set_to_none=True)  # what training left there is of another architecture
    module.train()
    try:
        for _ in range(shift.iterations):
            batch = supernet.to_device(next(stream))
            if not (isinstance(batch, list | tuple) and len(batch) >= 2):
                raise ValueError(
                    f"batches of train must be (inputs, labels), got {type(batch).__name__}"
                )
            supernet.activate(architecture)
            supernet.passes["shift"] += 1
            loss = nn.functional.cross_entropy(
                module(batch[0]), batch[1], label_smoothing=shift.label_smoothing
            )
            if not torch.isfinite(loss.detach()):
                raise ValueError(f"loss must be finite while shifting, got {loss.item()}")
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    finally:
        optimizer.zero_grad(set_to_none=True)
        for part, training in modes:
            part.training = training


def _endless(train: Iterable[Any]) -> Iterator[Any]:
    """Yield batches for ever; ValueError when there is none."""
    while True:
        count = 0
        for batch in train:
            count += 1
            yield batch
        if not count:
            raise ValueError("train must yield a batch each time it is iterated, got none")

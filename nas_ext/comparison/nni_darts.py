"""NNI's own DARTS on the same space, images and budget, for comparison."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from nas_ext.architecture import Architecture, SearchSpace
from nas_ext.data import ImageData
from nas_ext.nni import DARTS
from nas_ext.oneshot import SearchExperiment, SupernetTraining, quiet
from nas_ext.runs import Training, evaluator, new_folder
from nas_ext.spaces import create

__all__ = ["Mixture", "log_products", "nni_darts"]


@dataclass(frozen=True)
class Mixture:
    """Hold what a mixture of all options says: its pick, and a share for each option by label.

    `scores` are the logarithms of the products of each architecture's shares; `steps` are those
    of the weights, as Lightning counted them.
    """

    pick: Architecture
    probabilities: Mapping[str, Mapping[Any, float]]
    scores: Mapping[Architecture, float]
    steps: int
    seconds: float


class _Training(SupernetTraining):
    """Train as `SupernetTraining` does, along a cosine over a known number of steps.

    NNI's DARTS steps two optimizers on a batch, and Lightning counts both: a schedule over
    Lightning's steps would stop half-way.
    """

    def __init__(self, steps: int, training: Training) -> None:
        super().__init__(
            learning_rate=training.learning_rate,
            momentum=training.momentum,
            weight_decay=training.weight_decay,
        )
        self.steps = steps

    def _cosine(self, step: int) -> float:
        return 0.5 * (1.0 + math.cos(math.pi * min(step, self.steps) / self.steps))


def nni_darts(
    space: str,
    data: ImageData,
    *,
    out: str | Path,
    training: Training,
    seed: int,
    arguments: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Mixture:
    """Run NNI's DARTS unchanged, first order, for `training.steps` batches of either kind.

    A step moves the architecture on a validation batch and then the weights on a training batch;
    validation batches are as large as training ones, as NNI's documentation and the paper have
    it. `settings` are those of NNI's class. NNI draws the initial alphas from torch's generator,
    so the seed leads everything. Raises NNI's TypeError for a space whose choices are not
    between layers.
    """
    folder = new_folder(out)
    twice = replace(training, steps=2 * training.steps, validation_batch_size=training.batch_size)
    with quiet():
        torch.manual_seed(seed)
        given = {"num_classes": data.num_classes, "in_chs": data.in_chs, **(arguments or {})}
        model = create(space, **given)
        choices = model.search_space
        strategy = DARTS(**settings)
        run = evaluator(data, twice, seed=seed, title="NNI DARTS")
        run.module = _Training(training.steps, training)
        experiment = SearchExperiment(model, run, strategy, out=folder)
        start = time.monotonic()
        try:
            experiment.run()
            exported = experiment.export_top_models(1, formatter="dict")[0]
            rows = strategy.oneshot_module.export_probs()
            steps = int(run.trainer.global_step) // 2
        finally:
            experiment.stop()
    probabilities = {choice.label: dict(rows[choice.label]) for choice in choices.choices}
    return Mixture(
        pick=choices.encode(exported),
        probabilities=probabilities,
        scores=log_products(choices, probabilities),
        steps=steps,
        seconds=time.monotonic() - start,
    )


def log_products(
    space: SearchSpace, probabilities: Mapping[str, Mapping[Any, float]]
) -> dict[Architecture, float]:
    """Return, for each architecture, the sum of the logarithms of its options' shares.

    The order is that of the products, which a mixture's export is the first of.
    """
    logs = [
        [math.log(probabilities[choice.label][option]) for option in choice.options]
        for choice in space.choices
    ]
    return {
        a: math.fsum(row[k] for row, k in zip(logs, a, strict=True)) for a in space.enumerate()
    }

"""NNI's own RandomOneShot on the same space, images and budget, for comparison."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nas_ext.data import ImageData
from nas_ext.manifest import manifest
from nas_ext.nni import RandomOneShot
from nas_ext.oneshot import SearchExperiment, Supernet, accuracy, quiet
from nas_ext.results import Budget, RankedArchitecture, SearchResult
from nas_ext.runs import Training, described, evaluator, new_folder
from nas_ext.spaces import create

__all__ = ["random_oneshot"]


def random_oneshot(
    space: str,
    data: ImageData,
    *,
    out: str | Path,
    training: Training,
    seed: int,
    data_source: Mapping[str, Any],
    arguments: Mapping[str, Any] | None = None,
) -> SearchResult:
    """Run NNI's RandomOneShot unchanged, and rank the whole space on the supernet it trained.

    NNI exports an arbitrary architecture (`settings["exported"]`) and leaves ranking to the user;
    the ranking here is ours, the same exhaustive one as `Uniform`'s. NNI draws without a seed and
    keeps no record, so the result has no draws and two runs differ.
    """
    folder = new_folder(out)
    made_by = manifest(seeds=[seed], data=data.digest)
    with quiet():
        torch.manual_seed(seed)
        given = {"num_classes": data.num_classes, "in_chs": data.in_chs, **(arguments or {})}
        model = create(space, **given)
        choices = model.search_space
        strategy = RandomOneShot()
        run = evaluator(data, training, seed=seed, title="NNI RandomOneShot")
        experiment = SearchExperiment(model, run, strategy, out=folder)
        start = time.monotonic()
        experiment.run()
        exported = choices.encode(experiment.export_top_models(1, formatter="dict")[0])
        supernet = Supernet(
            choices,
            run.module,
            loader=lambda: run.val_dataloaders,
            reward=accuracy,
            renew=_never,
            rng=np.random.default_rng(seed),
        )
        architectures = choices.enumerate()
        accuracies = supernet.accuracies(architectures)
        seconds = time.monotonic() - start
        experiment.stop()
    order = np.argsort(-accuracies, kind="stable").tolist()
    result = SearchResult(
        strategy="NNI RandomOneShot",
        settings={"exported": list(exported), "training": asdict(training)},
        seed=seed,
        space={"name": choices.name, "size": choices.size, "arguments": model.arguments},
        phases=(("random", training.steps),),
        draws=(),
        ranking=tuple(
            RankedArchitecture(
                architecture=architectures[i],
                name=choices.describe(architectures[i]),
                sample=choices.decode(architectures[i]),
                accuracy=float(accuracies[i]),
                macs=model.macs(architectures[i], image_size=data.image_size),
                parameters=model.parameter_count(architectures[i]),
            )
            for i in order
        ),
        budget=Budget(training.steps, training.steps, 0, len(architectures), 0, seconds),
        data={**data_source, **described(data)},
        manifest=made_by,
    )
    result.save(folder / "search.json")
    return result


def _never(seed: int) -> dict[str, Any]:
    raise RuntimeError("the weights of NNI's supernet are not started again")

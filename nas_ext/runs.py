"""Searches and retrainings on images, each in one folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from nas_ext.architecture import Architecture
from nas_ext.data import Augmentation, ImageData, load, loader
from nas_ext.files import write_bytes
from nas_ext.nni import Lightning, Trainer
from nas_ext.oneshot import (
    DifferentiableStrategy,
    SampledStrategy,
    SearchExperiment,
    SearchProgress,
    SupernetTraining,
    quiet,
)
from nas_ext.results import RankedArchitecture, SearchResult
from nas_ext.retrain.candidates import Candidate, TimmEntry, slug
from nas_ext.retrain.recipe import Recipe
from nas_ext.retrain.stages import Retrained, Stages, run_stages
from nas_ext.spaces import SPACES, create
from nas_ext.spaces.timm_models import skeleton, timm_name

__all__ = [
    "WEIGHTS",
    "WEIGHTS_FORMAT",
    "FoundBuild",
    "Retrained",
    "Training",
    "builder",
    "candidate",
    "data_of",
    "described",
    "evaluator",
    "new_folder",
    "retrain_images",
    "search_images",
    "slug",
    "space_candidate",
]


WEIGHTS = "supernet.safetensors"
"""The file of a run that holds the weights of the supernet as they were when it was ranked."""

WEIGHTS_FORMAT = "nas-ext/supernet-1"


@dataclass(frozen=True, kw_only=True)
class Training:
    """Say how a supernet is trained: budget, batches, optimizer and device.

    `steps` are optimizer steps, each one training pass; `validation_batch_size` is that of
    rewards and rankings, at least 64 where the images suffice, since every batch is normalised by
    its own statistics. Without `augment` the images are trained on as they are.
    """

    steps: int = 2000
    batch_size: int = 64
    validation_batch_size: int = 128
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-3
    device: str = "auto"
    progress: bool = True
    augment: bool = True

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "validation_batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.device not in ("auto", "cpu", "gpu"):
            raise ValueError(f"device must be auto, cpu or gpu, got {self.device!r}")


def evaluator(data: ImageData, training: Training, *, seed: int, title: str) -> Any:
    """Return NNI's Lightning evaluator that trains on `data.train` and validates on `data.val`."""
    train = loader(
        data.train,
        data,
        batch_size=training.batch_size,
        train=True,
        seed=seed,
        augmentation=None if training.augment else Augmentation(),
    )
    val = loader(
        data.val,
        data,
        batch_size=training.validation_batch_size,
        train=False,
        seed=seed,
        drop_last=True,
    )
    trainer = Trainer(
        max_steps=training.steps,
        max_epochs=-1,
        accelerator=training.device,
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=training.progress,
        callbacks=[SearchProgress(title)] if training.progress else [],
        limit_val_batches=0,
    )
    module = SupernetTraining(
        learning_rate=training.learning_rate,
        momentum=training.momentum,
        weight_decay=training.weight_decay,
    )
    return Lightning(module, trainer, train_dataloaders=train, val_dataloaders=val)


def search_images(
    strategy: SampledStrategy | DifferentiableStrategy,
    space: str,
    data: ImageData,
    *,
    out: str | Path,
    training: Training,
    data_source: Mapping[str, Any],
    arguments: Mapping[str, Any] | None = None,
) -> SearchResult:
    """Search a registered space on images inside an NNI experiment, and save the result.

    `out` receives `search.json`, the supernet's weights and NNI's own files; it must not hold a
    search already. The seed of the strategy leads weights, data order and draws. `data_source` is
    how `load` finds the images again, and is stored with their digest.
    """
    _check_task(space, "searched on labelled images")
    folder = new_folder(out)
    if isinstance(strategy, SampledStrategy):
        strategy.phases(training.steps)
    with quiet():
        torch.manual_seed(strategy.seed)
        model = create(
            space, num_classes=data.num_classes, in_chs=data.in_chs, **dict(arguments or {})
        )
        model.check_image_size(data.image_size)
        strategy_name = type(strategy).__name__
        experiment = SearchExperiment(
            model,
            evaluator(data, training, seed=strategy.seed, title=strategy_name),
            strategy,
            out=folder,
        )
        try:
            experiment.run()
        finally:
            experiment.stop()
    _save_weights(strategy, folder)
    batches = {"validation_batch_size": training.validation_batch_size}
    result = replace(strategy.result, data={**data_source, **described(data), **batches})
    result.save(folder / "search.json")
    return result


def _check_task(space: str, purpose: str) -> None:
    """Raise ValueError for a registered space whose networks do not classify."""
    task = SPACES[space].task if space in SPACES else "classification"
    if task != "classification":
        raise ValueError(
            f"space {space!r} must be for classification to be {purpose}, it is for {task}: "
            "see nas_ext.segmentation"
        )


def _save_weights(strategy: SampledStrategy | DifferentiableStrategy, folder: Path) -> None:
    """Write the supernet's weights: what is no tensor is left out, what is shared comes twice."""
    state = strategy.supernet.state_dict()
    weights = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in state.items()
        if isinstance(tensor, torch.Tensor)
    }
    metadata = {"format": WEIGHTS_FORMAT, "strategy": type(strategy).__name__}
    write_bytes(folder / WEIGHTS, save(weights, metadata=metadata))


def described(data: ImageData) -> dict[str, Any]:
    """Return what a result says of its images: name, digest, shape and numbers, as JSON values."""
    return {
        "name": data.name,
        "digest": data.digest,
        "size": [data.in_chs, *data.image_size],
        "images": {"train": len(data.train), "val": len(data.val), "test": len(data.test)},
    }


def new_folder(out: str | Path) -> Path:
    """Return the folder of a new run, made when missing.

    Raises ValueError when it holds a search, or is no folder.
    """
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"out must be a folder, got the file {folder}")
    if (folder / "search.json").exists():
        raise ValueError(f"out must not hold a search already, got {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def data_of(result: SearchResult, *, source: str | None = None) -> ImageData:
    """Load the images of a search again; `source` where they have moved.

    Raises ValueError when they are not the same images and splits.
    """
    known = dict(result.data)
    if "source" not in known:
        raise ValueError("result must name its images to be retrained, it has no data source")
    data = load(
        source or str(known["source"]), image_size=known.get("image_size"), seed=known["seed"]
    )
    if data.digest != known["digest"]:
        raise ValueError(
            f"data must be the images that were searched (digest {known['digest'][:12]}), "
            f"got {data.digest[:12]}"
        )
    return data


@dataclass(frozen=True)
class FoundBuild:
    """Build a fresh, plain network of one architecture of a registered space; picklable.

    `arguments` are those of `nas_ext.spaces.create`.
    """

    arguments: Mapping[str, Any]
    architecture: Architecture

    def __call__(self, recipe: Recipe) -> nn.Module:
        """Return a network for a recipe."""
        model = skeleton(**self.arguments)
        network: nn.Module = model.network(self.architecture, drop_path_rate=recipe.drop_path)
        return network


def builder(result: SearchResult, found: RankedArchitecture | Architecture) -> FoundBuild:
    """Return what builds a fresh, plain network of an architecture for a training recipe.

    Raises ValueError for a result whose space is not registered here.
    """
    architecture = found.architecture if isinstance(found, RankedArchitecture) else found
    arguments = result.space.get("arguments")
    if not arguments:
        raise ValueError(
            f"space {result.space.get('name')!r} must be a registered one to be retrained"
        )
    _check_task(str(arguments["name"]), "retrained")
    skeleton(**arguments).search_space.check(architecture)
    return FoundBuild(dict(arguments), architecture)


def candidate(result: SearchResult, found: RankedArchitecture) -> Candidate:
    """Return a found architecture as one that `nas_ext.retrain.run_stages` retrains.

    Raises ValueError as `builder` does.
    """
    return space_candidate(
        builder(result, found), name=found.name, macs=found.macs, parameters=found.parameters
    )


def space_candidate(
    build: FoundBuild, *, name: str, macs: int | None, parameters: int | None
) -> Candidate:
    """Return an architecture of a registered space as one that `run_stages` retrains.

    Raises ValueError for a space whose networks do not classify.
    """
    space, code = str(build.arguments["name"]), list(build.architecture)
    _check_task(space, "retrained")
    known = {parameter.name for parameter in SPACES[space].parameters}  # without limits
    own = {key: value for key, value in build.arguments.items() if key in known}
    return Candidate(
        name=name,
        build=build,
        architecture={"space": dict(build.arguments), "architecture": code, "name": name},
        macs=macs,
        parameters=parameters,
        timm=TimmEntry(name=timm_name(space), arguments={"arch": code, **own}),
    )


def retrain_images(
    result: SearchResult,
    found: RankedArchitecture,
    data: ImageData,
    *,
    out: str | Path,
    epochs: int,
    batch_size: int,
    trials: int,
    seeds: int,
    seed: int = 0,
    timeout: float | None = None,
    confirm_top: int = 3,
    confirm_seeds: int = 0,
    workers: int = 1,
    device: str = "cpu",
) -> Retrained:
    """Tune the training recipe of an architecture, then train it anew and test it.

    The study tunes on `data.train` and `data.val`; with `confirm_seeds` its best recipes are
    compared with so many seeds; the chosen one is then trained on both sets with `seeds` seeds,
    and each network sees the test set once. The folder is one of `out`/retrain, named after the
    architecture; the same call goes on where an earlier one ended. Raises ValueError when the
    test set was already used for this architecture. `nas_ext.retrain.run_stages` has more to set,
    and does it for several side by side.
    """
    stages = Stages(
        recipe=Recipe(epochs=epochs, batch_size=batch_size),
        trials=trials,
        seeds=seeds,
        confirm_top=confirm_top,
        confirm_seeds=confirm_seeds,
        seed=seed,
        timeout=timeout,
        workers=workers,
        device=device,
    )
    place = Path(out) / "retrain"
    (retrained,) = run_stages([candidate(result, found)], data, out=place, stages=stages)
    return retrained

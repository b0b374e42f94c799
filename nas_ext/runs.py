"""Searches and retrainings on images, each in one folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from nas_ext.architecture import Architecture
from nas_ext.data import ImageData, load
from nas_ext.results import RankedArchitecture, SearchResult
from nas_ext.retrain.candidates import Candidate, TimmEntry, slug
from nas_ext.retrain.recipe import Recipe
from nas_ext.retrain.stages import Retrained, Stages, run_stages
from nas_ext.searching import WEIGHTS, WEIGHTS_FORMAT, check_task, new_folder, search_images
from nas_ext.spaces import SPACES
from nas_ext.spaces.timm_models import skeleton, timm_name
from nas_ext.supernet_training import Training, described, evaluator

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
    check_task(str(arguments["name"]), "retrained")
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
    check_task(space, "retrained")
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

"""Networks taken out of a run: an architecture of its ranking, with the weights one asks for."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from nas_ext.architecture import Architecture
from nas_ext.data import Augmentation, ImageData, loader
from nas_ext.export import Images
from nas_ext.found import FoundArchitecture
from nas_ext.recalibration import recalibrate
from nas_ext.results import RankedArchitecture, SearchResult
from nas_ext.runs import data_of, slug
from nas_ext.samplers.mixture_space import SUPERNET
from nas_ext.spaces.registry import SPACES
from nas_ext.supernets import load_run, read_weights

__all__ = ["WEIGHTS_OF", "Taken", "WeightsOf", "found_in", "inherit", "take_out"]

WeightsOf: TypeAlias = Literal["retrained", "supernet", "none"]
WEIGHTS_OF: tuple[WeightsOf, ...] = ("retrained", "supernet", "none")

CALIBRATION_BATCHES = 20


@dataclass(frozen=True)
class Taken:
    """Hold a plain network, which architecture it is, and which images it expects."""

    network: nn.Module
    found: FoundArchitecture
    images: Images


def found_in(
    run: str | Path, name: str | None = None, *, weights: WeightsOf = "none"
) -> FoundArchitecture:
    """Return an architecture of a run's space: the best of its ranking, or the one of a name.

    A name is one of the ranking's, or whatever the space's `parse` reads. `weights` goes into
    the origin. Raises ValueError for a run whose space is not registered, and for a name that
    names nothing.
    """
    result = SearchResult.load(run)
    found, line = _chosen(result, name)
    origin: dict[str, Any] = {
        "strategy": result.strategy,
        "seed": result.seed,
        "validation_accuracy": None if line is None else line.accuracy,
        "weights": weights,
        "versions": dict(result.versions),
    }
    return FoundArchitecture(found.space, found.arguments, found.architecture, origin)


def take_out(
    run: str | Path,
    name: str | None = None,
    *,
    weights: WeightsOf = "retrained",
    seed: int = 0,
    source: str | None = None,
) -> Taken:
    """Return an architecture of a run as an ordinary network with weights.

    `weights` are those of the final training with `seed` ("retrained"), the supernet's, or fresh
    ones from `seed`. A supernet's have no norm parameters and no statistics: scale is 1, shift 0,
    and the statistics are measured on the first 20 batches of shuffled training images as they
    are, so that eval mode normalises almost as the search did. `source` is where the images are
    now; "none" needs no images.

    Raises ValueError for what `found_in` refuses, for an architecture that was not retrained, for
    one outside the ranking of a mixture of supernets, and for what `load_run` refuses.
    """
    if weights not in WEIGHTS_OF:
        raise ValueError(f"weights must be one of {list(WEIGHTS_OF)}, got {weights!r}")
    result = SearchResult.load(run)
    found = found_in(run, name, weights=weights)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = found.network()
    if weights == "none":
        return Taken(network, found, Images(size=_size(result)))
    if weights == "retrained":
        data = _retrained(network, Path(run), found.name, seed, result, source)
    else:
        data = _inherited(network, run, found.architecture, result, source)
    images = Images(
        size=(data.in_chs, *data.image_size), mean=data.mean, std=data.std, classes=data.classes
    )
    return Taken(network, found, images)


def _chosen(
    result: SearchResult, name: str | None
) -> tuple[FoundArchitecture, RankedArchitecture | None]:
    given = dict(result.space.get("arguments") or {})
    space = given.pop("name", None)
    if space not in SPACES:
        raise ValueError(f"space {result.space.get('name')!r} must be a registered one")
    known = {p.name for p in SPACES[space].parameters} | {"num_classes", "in_chs"}
    arguments = {key: value for key, value in given.items() if key in known}  # without limits
    lines = result.ranking if name is None else [r for r in result.ranking if r.name == name]
    if lines:
        return FoundArchitecture(space, arguments, lines[0].architecture), lines[0]
    if name is None:
        raise ValueError("name must be given for a run without a ranking")
    first = FoundArchitecture(space, arguments, _parsed(space, arguments, name))
    same = [r for r in result.ranking if r.architecture == first.architecture]
    return first, same[0] if same else None


def _parsed(space: str, arguments: dict[str, Any], name: str) -> Architecture:
    from nas_ext.spaces.timm_models import skeleton

    return tuple(skeleton(space, **arguments).search_space.parse(name))


def _size(result: SearchResult) -> tuple[int, int, int]:
    size = result.data.get("size")
    if not size:
        raise ValueError("data of the result must say the size of its images, it does not")
    channels, height, width = size
    return channels, height, width


def _retrained(
    network: nn.Module,
    run: Path,
    name: str,
    seed: int,
    result: SearchResult,
    source: str | None,
) -> ImageData:
    file = run / "retrain" / slug(name) / f"final-seed{seed}.safetensors"
    if not file.is_file():
        raise ValueError(
            f"{name} must have been retrained with seed {seed}, there is no {file}: "
            "retrain it first, or take the weights of the supernet, or none"
        )
    weights, _ = read_weights(file)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"weights of {file} must fit {name}: {reason}") from error
    return data_of(result, source=source)


def _inherited(
    network: nn.Module,
    run: str | Path,
    architecture: Architecture,
    result: SearchResult,
    source: str | None,
) -> ImageData:
    loaded = load_run(run, source=source)
    model: Any = loaded.supernet.module.model
    sample = loaded.strategy.search_space.decode(architecture)
    if SUPERNET in {choice.label for choice in loaded.supernet.space.choices}:
        lines = {line.architecture: line.extra for line in result.ranking}
        if SUPERNET not in lines.get(architecture, {}):
            raise ValueError(
                "name must be one of the ranking: a mixture has several supernets, and only "
                "there it says which one took the architecture over"
            )
        sample = {**sample, SUPERNET: lines[architecture][SUPERNET]}
    inherit(network, model.freeze(sample))
    data = loaded.data
    size = min(int(result.data["validation_batch_size"]), len(data.train))
    batches = loader(
        data.train,
        data,
        batch_size=size,
        train=True,
        seed=result.seed,
        augmentation=Augmentation(),
    )
    recalibrate(network, islice(batches, CALIBRATION_BATCHES))
    return data


def inherit(network: nn.Module, frozen: nn.Module) -> None:
    """Copy weights by name from a frozen supernet into the plain network of its architecture.

    Norm layers that had no parameters there get scale 1 and shift 0. Raises ValueError when
    anything else has no counterpart.
    """
    missing, unexpected = network.load_state_dict(frozen.state_dict(), strict=False)
    norms = {name: m for name, m in network.named_modules() if isinstance(m, _BatchNorm)}
    strangers = [name for name in missing if name.rpartition(".")[0] not in norms]
    if strangers or unexpected:
        raise ValueError(
            f"weights must have the network's names, missing {strangers}, unexpected {unexpected}"
        )
    for name in missing:
        owner, _, kind = name.rpartition(".")
        if kind in ("weight", "bias"):
            nn.init.constant_(getattr(norms[owner], kind), float(kind == "weight"))

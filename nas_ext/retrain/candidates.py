"""Networks that are to be tuned side by side: found ones, and timm's own as baselines."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import timm
import torch
from torch import nn

from nas_ext.data import ImageData
from nas_ext.retrain.measures import count_macs
from nas_ext.retrain.recipe import Recipe

Build = Callable[[Recipe], nn.Module]


@dataclass(frozen=True, kw_only=True)
class TimmEntry:
    """Name what `timm.create_model` builds the same network with.

    `arguments` are JSON values beside `num_classes` and `in_chans`. Stochastic depth is not among
    them, as it is no part of a trained network.
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """Hold one network of several that are compared: its name, and what builds it for a recipe.

    `architecture` says as JSON values which network it is, and goes into the study; `macs` are
    those of one image. With several processes `build` must be picklable.
    """

    name: str
    build: Build
    architecture: Mapping[str, Any]
    macs: int | None = None
    parameters: int | None = None
    timm: TimmEntry | None = None

    @property
    def folder(self) -> str:
        """Return the name as a folder's."""
        return slug(self.name)


def slug(name: str) -> str:
    """Return a name as a folder's: letters and digits, with dashes between."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")


def baseline(model: str, data: ImageData, **arguments: Any) -> Candidate:
    """Return any model of timm, by its name, with fresh weights for the images of `data`.

    `arguments` are the model's own, such as `img_size` and `patch_size` of vision transformers,
    as JSON values. Nothing is downloaded. A recipe's `drop_path` has no meaning for models
    without stochastic depth, and is left out there.

    Raises ValueError for a name that timm does not know or that has the tag of pretrained
    weights, and for a model that cannot take these images.
    """
    if "." in model or not timm.is_model(model):
        near = difflib.get_close_matches(model.partition(".")[0], timm.list_models(), n=3)
        raise ValueError(
            f"baseline must be a model of timm, without a tag, got {model!r}"
            + (f": is it one of {', '.join(near)}?" if near else "")
        )
    known = {"num_classes": data.num_classes, "in_chans": data.in_chs, **arguments}
    drops, network = _probe(model, known)
    macs, parameters = _costs(network, model, data)
    words = [model, *(f"{name}={value}" for name, value in sorted(arguments.items()))]
    return Candidate(
        name=" ".join(words),
        build=partial(_build, model, known, drops),
        architecture={"timm": model, "arguments": known, "name": " ".join(words)},
        macs=macs,
        parameters=parameters,
        timm=TimmEntry(name=model, arguments=dict(arguments)),
    )


def _build(model: str, known: Mapping[str, Any], drops: bool, recipe: Recipe) -> nn.Module:
    depth = {"drop_path_rate": recipe.drop_path} if drops and recipe.drop_path else {}
    arguments: dict[str, Any] = {**known, **depth}
    network: nn.Module = timm.create_model(model, pretrained=False, **arguments)
    return network


def _probe(model: str, known: Mapping[str, Any]) -> tuple[bool, nn.Module]:
    """Say whether a model has stochastic depth, and return it; no draw is left behind."""
    with torch.random.fork_rng(devices=[]):
        try:
            return True, _build(model, known, True, Recipe(drop_path=0.1))
        except TypeError as error:
            if "drop_path_rate" not in str(error):
                raise ValueError(f"baseline {model} cannot be built: {error}") from error
        return False, _build(model, known, False, Recipe())


def _costs(network: nn.Module, model: str, data: ImageData) -> tuple[int, int]:
    """Count macs of one image, and trainable parameters."""
    size = (data.in_chs, *data.image_size)
    try:
        macs = count_macs(network.eval(), size)
    except (AssertionError, RuntimeError, ValueError) as error:  # how models refuse a size
        raise ValueError(
            f"baseline {model} must take images of {'x'.join(map(str, size))}: {error}; an "
            "argument may help, such as img_size"
        ) from error
    return macs, sum(p.numel() for p in network.parameters() if p.requires_grad)

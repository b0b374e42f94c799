"""One timm entry point a space: `timm.create_model("nas_pooling_resnet20", arch=[7, 1, 2])`.

Importing `nas_ext.spaces` registers them. What timm saves of such a model, its own folder with
`config.json` and safetensors, says the architecture as an argument; no code is stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from timm.layers.classifier import ClassifierHead
from timm.models import build_model_with_cfg, generate_default_cfgs, is_model, register_model
from torch import Tensor, nn

from nas_ext.architecture import Sample
from nas_ext.spaces.registry import SPACES, create
from nas_ext.spaces.timm_network import TimmNetwork

__all__ = ["build_found", "register_space", "skeleton", "timm_name"]

default_cfgs: dict[str, Any] = {}  # timm looks for this name in the module of an entry point


def timm_name(space: str) -> str:
    """Return the name of a space's models in timm."""
    return "nas_" + space.replace("-", "_")


def skeleton(name: str, **arguments: Any) -> Any:
    """Return `create`'s space without memory for weights, to ask it what does not need them.

    Draws no random number. Raises ValueError for what `create` refuses.
    """
    with torch.device("meta"):
        return create(name, **arguments)


def build_found(
    space: str,
    *,
    arch: str | Sequence[int] | Sample | None = None,
    num_classes: int,
    in_chans: int,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    global_pool: str = "avg",
    **arguments: Any,
) -> TimmNetwork:
    """Return a fresh, plain network of one architecture of a registered space.

    `arch` is whatever `SearchSpace.parse` reads; without one it is the architecture that people
    use without searching. 0 classes leave the classifier out. Raises ValueError for a space
    without such an architecture, and for arguments that the space does not have.
    """
    if num_classes < 0:
        raise ValueError(f"num_classes must not be negative, got {num_classes}")
    given = {"num_classes": max(num_classes, 1), "in_chs": in_chans}
    model = skeleton(space, **given, **arguments)
    architecture = model.default_architecture if arch is None else model.search_space.parse(arch)
    if architecture is None:
        raise ValueError(
            f"arch must be given: no architecture of space {space!r} is the usual one"
        )
    network = model.network(architecture, drop_path_rate=drop_path_rate)
    if not isinstance(network, TimmNetwork):
        raise ValueError(f"space must be one of classifiers for timm, got {space!r}")
    if num_classes == 0 or global_pool != "avg":
        network.reset_classifier(num_classes, global_pool)
    if drop_rate:
        head = getattr(network, "head", None)
        if not isinstance(head, ClassifierHead):
            raise ValueError(f"drop_rate must be 0 for space {space!r}, got {drop_rate}")
        head.drop.p = drop_rate
    return network


def _with_own_classifier(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Return saved weights with the model's own where its classifier has another shape."""
    if not isinstance(model, TimmNetwork):
        raise TypeError(f"model must be a TimmNetwork, got {type(model).__name__}")
    classifier = f"{model.get_classifier(name_only=True)}."
    own = {name: t for name, t in model.state_dict().items() if name.startswith(classifier)}
    kept = {}
    for name, tensor in state.items():
        if not name.startswith(classifier):
            kept[name] = tensor
        elif name in own:
            kept[name] = tensor if tensor.shape == own[name].shape else own[name]
    return kept


def register_space(space: str) -> str:
    """Register a classification space's entry point with timm, and return its name.

    Nothing is built. Defaults are the usual images and classes of the space. Raises ValueError
    for a name that timm knows already.
    """
    name, known = timm_name(space), SPACES[space]
    if is_model(name):
        raise ValueError(f"name must be new to timm, got {name!r}")
    cfg = {
        "url": "",
        "num_classes": known.num_classes,
        "input_size": (known.in_chs, *known.image_size),
        "pool_size": None,
        "crop_pct": 1.0,
        "interpolation": "bilinear",
        "first_conv": "stem.conv",
        "classifier": "head.fc",
    }
    default_cfgs.update(generate_default_cfgs({name: cfg}))

    def entry(pretrained: bool = False, **arguments: Any) -> Any:
        return build_model_with_cfg(
            partial(build_found, space),
            name,
            pretrained,
            pretrained_filter_fn=_with_own_classifier,
            feature_cfg={"feature_cls": "getter", "out_indices": None},
            **arguments,
        )

    entry.__name__ = entry.__qualname__ = name
    entry.__doc__ = f"Build an architecture of {space}: {known.summary}."
    register_model(entry)
    globals()[name] = entry  # timm lists the name in __all__
    return name


for _entry in SPACES.values():
    if _entry.task == "classification":
        register_space(_entry.name)

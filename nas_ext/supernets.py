"""The supernet of an earlier search, rebuilt from its folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.utilities import move_data_to_device
from safetensors import SafetensorError, safe_open

from nas_ext.data import ImageData, loader
from nas_ext.oneshot import Reward, SampledStrategy, Supernet, SupernetTraining, quiet
from nas_ext.results import SearchResult
from nas_ext.runs import WEIGHTS, WEIGHTS_FORMAT, data_of
from nas_ext.spaces import create
from nas_ext.strategies.registry import STRATEGIES
from nas_ext.strategies.registry import create as create_strategy

__all__ = ["Loaded", "load_run", "load_supernet", "read_weights"]

DROPPED = ("reward", "tree", "mixture", "cost", "cost_target", "cost_weight")
"""Settings that say what is drawn; the reward is taken up again by its name."""


@dataclass(frozen=True)
class Loaded:
    """A supernet with the result it belongs to, and with the strategy that made it anew.

    What a method searches may be more than the user's architectures, as in a mixture of
    supernets: `strategy.exported` leads back.
    """

    supernet: Supernet
    strategy: SampledStrategy
    result: SearchResult
    data: ImageData


def load_supernet(
    folder: str | Path,
    *,
    data: ImageData | None = None,
    source: str | None = None,
    strategy: SampledStrategy | None = None,
    reward: Reward | str | None = None,
    device: str = "cpu",
) -> Supernet:
    """Return the trained supernet of a run of `search_images`, ready to be asked.

    Space, weights and validation batches are those of the search, so that a full evaluation gives
    its ranking again. The images are loaded from where the search found them, from `source`, or
    given as `data`. `strategy` makes the supernet of the model space: that of the result, made
    anew with its settings, unless given. `reward` stands in for a function that a search was
    given, of which a result knows only the name. `device` is one of torch's.

    Raises ValueError for a folder without a search or weights, for a space or a strategy that is
    not registered, for weights that do not fit, and for images with another digest.
    """
    return load_run(
        folder, data=data, source=source, strategy=strategy, reward=reward, device=device
    ).supernet


def load_run(
    folder: str | Path,
    *,
    data: ImageData | None = None,
    source: str | None = None,
    strategy: SampledStrategy | None = None,
    reward: Reward | str | None = None,
    device: str = "cpu",
) -> Loaded:
    """Return what `load_supernet` returns, with result, images and strategy."""
    result = SearchResult.load(folder)
    if not result.space.get("arguments"):
        raise ValueError(f"space {result.space.get('name')!r} must be a registered one")
    weights = _weights(Path(folder) / WEIGHTS)
    images = data_of(result, source=source) if data is None else _same(result, data)
    method = _strategy(result, reward) if strategy is None else strategy
    with quiet(), torch.random.fork_rng(devices=[]):
        model = method.mutate_model(create(**result.space["arguments"]))
        validation = _validation(result, images)
        # what NNI does with an evaluator, without a trainer
        method.train_dataloader(lambda: None, lambda: validation)
        supernet = method.configure_oneshot_module(SupernetTraining()).supernet
    _fill(model, weights, folder)
    supernet.module.to(device)
    supernet.to_device = lambda batch: move_data_to_device(batch, torch.device(device))
    return Loaded(supernet, method, result, images)


def _same(result: SearchResult, data: ImageData) -> ImageData:
    """Return the images when they are those of the search; raise ValueError when not."""
    known = str(result.data.get("digest", ""))
    if data.digest != known:
        raise ValueError(
            f"data must be the images that were searched (digest {known[:12]}), "
            f"got {data.digest[:12]}"
        )
    return data


def _weights(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise ValueError(
            f"{path} does not exist: searches made before there were second stages have no weights"
        )
    weights, metadata = read_weights(path)
    if metadata.get("format") != WEIGHTS_FORMAT:
        raise ValueError(
            f"format of {path} must be {WEIGHTS_FORMAT!r}, got {metadata.get('format')!r}"
        )
    return weights


def read_weights(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return the tensors of a safetensors file and its metadata; ValueError for any other."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} must be a safetensors file: {error}") from error
    return weights, metadata


def _strategy(result: SearchResult, reward: Reward | str | None) -> SampledStrategy:
    """Return the strategy of a result anew.

    Without a reused tree or mixture and without a cost, which say what is drawn and not how a
    supernet is made: the file may be gone, and of a function a result knows only the name. The
    function `accuracy`, the default reward, is stored by its name.
    """
    names = {entry.strategy.__name__: name for name, entry in STRATEGIES.items()}
    if result.strategy not in names:
        raise ValueError(f"strategy {result.strategy!r} must be a registered one, or given")
    settings = {k: v for k, v in result.settings.items() if k not in DROPPED}
    named = result.settings.get("reward", "accuracy") if reward is None else reward
    if named != "accuracy":
        settings["reward"] = named
    made: Any = create_strategy(names[result.strategy], **settings)
    if not isinstance(made, SampledStrategy):
        raise ValueError(
            f"strategy must train one architecture at a time, {result.strategy} mixes them all: "
            "its supernet cannot be asked about one"
        )
    return made


def _validation(result: SearchResult, images: ImageData) -> Any:
    """Return the validation batches of the search: ranks depend on what is in a batch."""
    if "validation_batch_size" not in result.data:
        raise ValueError("result must say its validation_batch_size, it has none")
    return loader(
        images.val,
        images,
        batch_size=int(result.data["validation_batch_size"]),
        train=False,
        seed=result.seed,
        drop_last=True,
    )


def _fill(model: torch.nn.Module, weights: dict[str, torch.Tensor], folder: str | Path) -> None:
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"weights of {folder} must fit its space: {reason}") from error

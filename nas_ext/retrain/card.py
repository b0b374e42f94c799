"""A trained network as a folder that others can use: weights, timm's config, a model card."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import safetensors.torch
import timm
import torch
from timm.models import save_for_hf
from torch import Tensor

from nas_ext.data import ImageData
from nas_ext.files import write_bytes, write_json, write_text
from nas_ext.retrain.candidates import TimmEntry
from nas_ext.retrain.recipe import Recipe

WEIGHTS = "model.safetensors"


@dataclass(frozen=True, kw_only=True)
class Card:
    """Hold what a model card says: the network, its recipe, its images, and how sure one is."""

    attributes: Mapping[str, Any]
    data: ImageData
    recipe: Recipe
    accuracies: tuple[float, ...]
    half_width: float | None
    environment: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Return what the network is called."""
        architecture = self.attributes.get("architecture")
        known = architecture.get("name") if isinstance(architecture, Mapping) else None
        return str(known or "network")


def write_model(
    folder: Path, card: Card, weights: Mapping[str, Tensor], entry: TimmEntry | None
) -> None:
    """Write `model.safetensors`, `recipe.json`, the card `README.md`, and timm's `config.json`.

    The last needs the `entry`, with whose model the weights must agree. The folder appears whole,
    in place of an earlier one. Raises ValueError for an entry that timm does not know.
    """
    with _replaced(folder) as temporary:
        if entry is None:
            content = safetensors.torch.save(dict(weights))
            write_bytes(temporary / WEIGHTS, content)
        else:
            _write_timm(temporary, card.data, weights, entry)
        write_json(temporary / "recipe.json", card.recipe.to_json())
        write_text(temporary / "README.md", model_card(card, entry))


def model_card(card: Card, entry: TimmEntry | None) -> str:
    """Return the model card as Markdown, with the front matter that model hubs read."""
    data, count = card.data, len(card.accuracies)
    mean = sum(card.accuracies) / count
    tags = "".join(f"\n- {tag}" for tag in ("image-classification", "nas-ext"))
    library = "" if entry is None else "\nlibrary_name: timm"
    interval = "one seed, so without an interval"
    if card.half_width is not None:
        interval = f"+- {_percent(card.half_width)} (95 %, Student's t over {count} seeds)"
    size = "x".join(map(str, (data.in_chs, *data.image_size)))
    sets = f"{len(data.train) + len(data.val):,} images, tested on {len(data.test):,}"
    seeds = ", ".join(f"{seed}: {_percent(value)}" for seed, value in enumerate(card.accuracies))
    settings = {f.name: getattr(card.recipe, f.name) for f in fields(card.recipe)}
    costs = [
        f"- {label}: {card.attributes[key]:,}\n"
        for key, label in (("macs", "macs of one image"), ("parameters", "parameters"))
        if card.attributes.get(key) is not None
    ]
    architecture = json.dumps(card.attributes.get("architecture"), sort_keys=True)
    return (
        f"---{library}\ntags:{tags}\n---\n\n# {card.name} on {data.name}\n\n"
        f"Test accuracy {_percent(mean)} %, {interval}. The weights are those of seed 0, which "
        "was not picked.\n\n"
        f"- images: {size}, {data.num_classes} classes; trained on {sets}, seen once per seed "
        "after the last epoch\n"
        f"- data digest: `{data.digest}`\n"
        f"- normalisation: pixels in [0, 1], mean {_numbers(data.mean)}, "
        f"deviation {_numbers(data.std)}\n"
        f"- by seed (%): {seeds}\n"
        f"{''.join(costs)}\n"
        f"## Network\n\n```json\n{architecture}\n```\n\n{_use(entry)}\n"
        f"## Recipe\n\n{_table(settings)}\n## Environment\n\n{_table(card.environment)}"
    )


def _use(entry: TimmEntry | None) -> str:
    if entry is None:
        return "`model.safetensors` holds its state dict, for `safetensors.torch.load_file`.\n"
    ours = "import nas_ext.spaces  # registers it\n" if entry.name.startswith("nas_") else ""
    code = f'import timm\n{ours}\ntimm.create_model("local-dir:FOLDER", pretrained=True)'
    return f"```python\n{code}\n```\n"


def _table(values: Mapping[str, Any]) -> str:
    lines = [f"| {name} | {json.dumps(value)} |" for name, value in values.items()]
    return "\n".join(["| setting | value |", "|---|---|", *lines]) + "\n"


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4f}" for value in values)


def _write_timm(
    folder: Path, data: ImageData, weights: Mapping[str, Tensor], entry: TimmEntry
) -> None:
    if not timm.is_model(entry.name):
        raise ValueError(f"timm must know the model {entry.name!r}, it does not")
    known = {"num_classes": data.num_classes, "in_chans": data.in_chs, **entry.arguments}
    with torch.random.fork_rng(devices=[]):
        model = timm.create_model(entry.name, **known)
    try:
        model.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise ValueError(f"timm must name the trained network: {error}") from error
    images = {"input_size": (data.in_chs, *data.image_size), "crop_pct": 1.0}
    save_for_hf(
        model,
        str(folder),
        model_config={"label_names": list(data.classes)},
        model_args=dict(entry.arguments),
        safe_serialization=True,
        data_config={**images, "crop_mode": "squash", "mean": data.mean, "std": data.std},
    )


@contextmanager
def _replaced(folder: Path) -> Iterator[Path]:
    """Yield a folder that takes the place of an earlier one when all went well."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.parent / f".tmp-{secrets.token_hex(8)}"
    temporary.mkdir()  # not mkdtemp, whose folders only the owner may read
    try:
        yield temporary
        for file in list(temporary.iterdir()):
            write_bytes(file, file.read_bytes())  # nor may others read safetensors' files
        if folder.exists():
            os.rename(folder, old := temporary.with_name(f"{temporary.name}-old"))
            os.rename(temporary, folder)
            shutil.rmtree(old)
        else:
            os.rename(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise

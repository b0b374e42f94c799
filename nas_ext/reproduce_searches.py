"""A search, and the second stages on its supernet, run again and compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from nas_ext.agreement import Check, numbers, things
from nas_ext.data import ImageData, load
from nas_ext.files import naming, read_json
from nas_ext.results import SearchResult
from nas_ext.runs import WEIGHTS, Training, data_of, search_images
from nas_ext.second_stage import METHODS, select
from nas_ext.strategies.registry import STRATEGIES, AnyStrategy, create

__all__ = ["again_search", "images_again", "search_checks", "weight_checks"]


def again_search(
    folder: Path,
    out: Path,
    values: Mapping[str, Any],
    *,
    source: str | None,
    within: float,
    **others: Any,
) -> list[Check]:
    """Search again with the settings of a result, and compare; so with every second stage.

    Raises ValueError for a result that does not say how it was trained, for strategies and
    settings that a file cannot hold, and as `data_of` does.
    """
    before = SearchResult.from_json(values, source=str(folder / "search.json"))
    training, strategy = _training(before), _strategy(before)
    data = data_of(before, source=source)
    arguments = dict(before.space.get("arguments") or {})
    if "name" not in arguments:
        raise ValueError(f"space {before.space.get('name')!r} must be a registered one")
    known = {name: before.data.get(name) for name in ("source", "seed", "image_size")}
    after = search_images(
        strategy,
        arguments["name"],
        data,
        out=out,
        training=training,
        data_source=known if source is None else {**known, "source": source},
        arguments={
            k: v for k, v in arguments.items() if k not in ("name", "num_classes", "in_chs")
        },
    )
    checks = search_checks(before, after, within=within)
    checks += weight_checks(folder, out, (WEIGHTS,), within=within)
    for method in METHODS:
        if (folder / f"select-{method}.json").is_file():
            checks += _selected(folder, out, method, source=source, within=within)
    return checks


def _training(result: SearchResult) -> Training:
    made_with = result.manifest.get("made_with")
    values = made_with.get("training") if isinstance(made_with, Mapping) else None
    if not isinstance(values, Mapping):
        raise ValueError(
            "search must say how its supernet was trained to be run again; results from before "
            "there were manifests do not, nor do those of a module of the user's own"
        )
    known = {field.name for field in fields(Training)}
    if unknown := sorted(set(values) - known):
        raise ValueError(f"training of the manifest must be among {sorted(known)}, got {unknown}")
    with naming("training of the manifest"):
        made = Training(**{**values, "progress": False})
    if made.device == "gpu" and not torch.cuda.is_available():
        raise ValueError("search was made on a GPU and must be run again on one, there is none")
    return made


def _strategy(result: SearchResult) -> AnyStrategy:
    names = {entry.strategy.__name__: name for name, entry in STRATEGIES.items()}
    if result.strategy not in names:
        why = ": it draws without a seed" if result.strategy.startswith("NNI ") else ""
        raise ValueError(
            f"strategy must be a registered one to be run again, got {result.strategy}{why}"
        )
    settings = {k: tuple(v) if isinstance(v, list) else v for k, v in result.settings.items()}
    if settings.get("reward") == "accuracy":  # the default, stored by its name
        del settings["reward"]
    return create(names[result.strategy], **settings)


def search_checks(before: SearchResult, after: SearchResult, *, within: float) -> list[Check]:
    """Compare draws, rewards, ranking, accuracies and what was spent."""
    checks = []
    if before.draws or after.draws:
        drawn = [[(d.phase, d.step, d.architecture) for d in r.draws] for r in (before, after)]
        told = [{i: d.reward for i, d in enumerate(r.draws)} for r in (before, after)]
        checks += [things("draws", *drawn), numbers("rewards", *told, within=within)]
    names = [[line.name for line in r.ranking] for r in (before, after)]
    scores = [{line.name: line.accuracy for line in r.ranking} for r in (before, after)]
    spent = [_spent(r) for r in (before, after)]
    return [
        *checks,
        things("ranking", *names),
        numbers("accuracies", *scores, within=within),
        things("budget", *spent),
    ]


def _spent(result: SearchResult) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in asdict(result.budget).items() if name != "seconds"]


def weight_checks(
    folder: Path, out: Path, files: tuple[str, ...], *, within: float
) -> list[Check]:
    """Compare files of weights that are on both sides, by the largest difference of a tensor."""
    checks = []
    for file in files:
        if not (folder / file).is_file() or not (out / file).is_file():
            continue
        before, after = load_file(folder / file), load_file(out / file)
        gaps: dict[Any, float | None] = {}
        for name, tensor in before.items():
            other = after.get(name)
            if other is None or other.shape != tensor.shape:
                gaps[name] = None
            elif torch.equal(tensor, other):
                gaps[name] = 0.0
            else:
                gaps[name] = float((tensor.double() - other.double()).abs().max())
        same: dict[Any, float | None] = dict.fromkeys([*before, *after], 0.0)
        checks.append(numbers(f"weights in {file}", same, gaps, within=within))
    return checks


def _selected(
    folder: Path, out: Path, method: str, *, source: str | None, within: float
) -> list[Check]:
    file = folder / f"select-{method}.json"
    before = read_json(file)
    with naming(file):
        batch_size = before.get("manifest", {}).get("made_with", {}).get("batch_size", 150)
        budget, seed = before["budget"], before["seed"]
        known = [(line["name"], float(line["accuracy"])) for line in before["ranking"]]
    if METHODS[method] is None:
        budget = None
    after = select(out, method, budget=budget, seed=seed, source=source, batch_size=batch_size)
    now = [(line.name, line.accuracy) for line in after.ranking]
    return [
        things(f"ranking of select {method}", [n for n, _ in known], [n for n, _ in now]),
        numbers(f"accuracies of select {method}", dict(known), dict(now), within=within),
    ]


def images_again(known: Mapping[str, Any], digest: str, *, source: str | None) -> ImageData:
    """Load images as `known` says, from `source` where they have moved.

    Raises ValueError when nobody says where they are, and for other images.
    """
    place = known.get("source") if source is None else source
    if not place:
        raise ValueError("--data must say where the images are, the result does not")
    size = known.get("image_size")
    data = load(
        str(place),
        image_size=tuple(size) if isinstance(size, list) else size,
        seed=int(known.get("seed") or 0),
    )
    if data.digest != digest:
        raise ValueError(
            f"data must be the images of the result (digest {str(digest)[:12]}), got "
            f"{data.digest[:12]} from {place}"
        )
    return data

"""What is retrained: of a run's ranking, NNI's samples, architecture files, timm's models."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nas_ext.architecture import Architecture, Sample, SearchSpace
from nas_ext.data import ImageData, load
from nas_ext.files import naming, read_json, write_json
from nas_ext.found import FoundArchitecture
from nas_ext.results import SearchResult
from nas_ext.retrain.candidates import Candidate, baseline
from nas_ext.retrain.stages import Retrained, Stages, run_stages
from nas_ext.runs import FoundBuild, candidate, data_of, space_candidate
from nas_ext.setting_pairs import settings_from
from nas_ext.spaces import SPACES
from nas_ext.spaces.timm_models import skeleton

__all__ = [
    "baseline_of",
    "candidate_of",
    "candidates_for",
    "data_source",
    "encoded",
    "from_sample",
    "images_of",
    "read_candidates",
    "retrain_sample",
    "write_samples",
]


def retrain_sample(
    space: str,
    sample: Sample,
    data: ImageData,
    *,
    out: str | Path,
    stages: Stages,
    arguments: Mapping[str, Any] | None = None,
) -> Retrained:
    """Tune, confirm and test the network of an NNI sample, from scratch.

    `sample` is one of `experiment.export_top_models(formatter="dict")`, from NNI's own strategies
    too, on the registered `space` with its own `arguments`. Export once and keep the sample: with
    some of NNI's strategies every export is another one. Raises ValueError for a sample that is
    not of the space, and as `run_stages` does.
    """
    candidate = from_sample(space, sample, data, **(arguments or {}))
    (retrained,) = run_stages([candidate], data, out=out, stages=stages)
    return retrained


def from_sample(space: str, sample: Sample, data: ImageData, **arguments: Any) -> Candidate:
    """Return what an NNI sample stands for, as one that `run_stages` retrains.

    Raises ValueError for a space that is not registered, and a sample that is not of it.
    """
    known = {"num_classes": data.num_classes, "in_chs": data.in_chs, **arguments}
    architecture = encoded(skeleton(space, **known).search_space, sample)
    return candidate_of(FoundArchitecture(space, known, architecture), data)


def candidate_of(found: FoundArchitecture, data: ImageData) -> Candidate:
    """Return an architecture as one that `run_stages` retrains.

    Raises ValueError where its classes or channels are not the data's, its space is not for
    classification, and for images that are too small.
    """
    wanted = {"num_classes": data.num_classes, "in_chs": data.in_chs}
    given = {key: found.arguments.get(key) for key in wanted}
    if given != wanted:
        raise ValueError(f"architecture must be for the data's {wanted}, got {given}")
    found.model.check_image_size(data.image_size, found.architecture)
    build = FoundBuild({"name": found.space, **found.arguments}, found.architecture)
    return space_candidate(
        build,
        name=found.name,
        macs=found.model.macs(found.architecture, image_size=data.image_size),
        parameters=found.model.parameter_count(found.architecture),
    )


def read_candidates(
    path: str | os.PathLike[str],
    data: ImageData,
    *,
    space: str | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> list[Candidate]:
    """Read the networks of a JSON file: an architecture of `nas-ext export --format json`, an NNI
    sample or a list of samples.

    Samples need the `space` and its own `arguments`. Raises ValueError for what is none of these.
    """
    values = read_json(path)
    lines = values if isinstance(values, list) else [values]
    if not lines or not all(isinstance(line, dict) for line in lines):
        raise ValueError(f"{path} must hold a sample, a list of samples or an architecture")
    found = []
    with naming(path):
        for line in lines:
            if "format" in line:
                architecture = FoundArchitecture.from_json(line, source=str(path))
                found.append(candidate_of(architecture, data))
            elif space is None:
                raise ValueError(f"space must be given for the samples of {path}")
            else:
                found.append(from_sample(space, line, data, **(arguments or {})))
    return list({candidate.name: candidate for candidate in found}.values())


def images_of(
    run: Path, *, source: str | None, image_size: int | None, seed: int
) -> tuple[SearchResult | None, ImageData]:
    """Return the search of a folder, if it holds one, and its images, else those of `source`.

    Raises ValueError without either, and for an `image_size` beside a search, which knows it.
    """
    if (run / "search.json").is_file():
        if image_size is not None:
            raise ValueError(f"image_size must be the search's, leave it out, got {image_size}")
        result = SearchResult.load(run)
        return result, data_of(result, source=source)
    if source is None:
        raise ValueError(f"{run} must hold the search.json of a search, or data be given")
    return None, load(source, image_size=image_size, seed=seed)


def data_source(
    result: SearchResult | None, *, source: str | None, image_size: int | None, seed: int
) -> dict[str, Any]:
    """Return how the images of `images_of` are loaded again, as JSON values."""
    if result is None:
        return {"source": source, "image_size": image_size, "seed": seed}
    known = {name: result.data.get(name) for name in ("source", "image_size", "seed")}
    return known if source is None else {**known, "source": source}


def candidates_for(
    result: SearchResult | None,
    data: ImageData,
    *,
    top: int | None = None,
    sample: str | os.PathLike[str] | None = None,
    space: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    baselines: Sequence[str] = (),
) -> list[Candidate]:
    """Return what is retrained side by side: the `top` of a search, the file `sample`, baselines.

    `top` is 1 unless there is a sample. The sample's `space` and its arguments are the search's
    unless given. Baselines are as `baseline_of` reads them. A network that comes twice is one.
    Raises ValueError when there is nothing.
    """
    found: list[Candidate] = []
    count = int(sample is None) if top is None else top
    if result is not None:
        found += [candidate(result, line) for line in result.ranking[:count]]
    elif top:
        raise ValueError(f"top must be left out without a search, got {top}")
    if sample is not None:
        given = dict(arguments or {})
        if result is not None and space is None:
            known = dict(result.space.get("arguments") or {})
            space = str(known.pop("name", ""))
            own = {p.name for p in SPACES[space].parameters} if space in SPACES else set()
            given = {**{key: known[key] for key in known if key in own}, **given}
        found += read_candidates(sample, data, space=space, arguments=given)
    found += [baseline_of(text, data) for text in baselines]
    if not found:
        raise ValueError("a sample or a baseline must be given where no search is, got neither")
    return list({one.name: one for one in found}.values())


def baseline_of(text: str, data: ImageData) -> Candidate:
    """Return a model of timm as people type it: resnet18, or NAME:KEY=VALUE,... with arguments."""
    model, colon, settings = text.partition(":")
    pairs = settings.split(",") if colon else []
    return baseline(model, data, **settings_from(pairs, option="baseline"))


def write_samples(path: str | os.PathLike[str], samples: Sequence[Sample]) -> None:
    """Write NNI's samples as JSON that `read_candidates` reads.

    Tuples become lists, and numpy's numbers Python's. Raises ValueError for other values.
    """
    write_json(path, [{label: _plain(value) for label, value in one.items()} for one in samples])


def encoded(space: SearchSpace, sample: Sample) -> Architecture:
    """Return the architecture of a sample that may have come through JSON.

    For each label the space's own option counts whose JSON is the given one's, so a list stands
    for a tuple at any depth. Raises ValueError as `SearchSpace.encode` does.
    """
    choices = {choice.label: choice for choice in space.choices}
    restored = dict(sample)
    for label in choices.keys() & restored.keys():
        wanted = _plain(restored[label])
        same = [option for option in choices[label].options if _same(_plain(option), wanted)]
        if same:
            restored[label] = same[0]
    return space.encode(restored)


def _plain(value: Any) -> Any:
    """Return a value as JSON would bring it back."""
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    item = getattr(value, "item", None)  # numpy's and torch's numbers
    return item() if callable(item) and getattr(value, "ndim", None) == 0 else value


def _same(one: Any, other: Any) -> bool:
    """Compare plain values; True is not 1."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)

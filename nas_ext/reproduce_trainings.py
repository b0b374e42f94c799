"""Networks that were trained alone with one recipe, trained again and compared."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from nas_ext.agreement import Check, numbers
from nas_ext.data import Augmentation, ImageData
from nas_ext.files import check_format, naming, read_json
from nas_ext.reproduce_searches import images_again, weight_checks
from nas_ext.results import SearchResult
from nas_ext.retrain import Recipe, train_and_test
from nas_ext.retrain.candidates import Candidate, baseline
from nas_ext.retrain.plain import FORMAT, fit_seeds
from nas_ext.runs import FoundBuild, space_candidate

__all__ = ["again_final", "again_fit"]


def again_fit(
    folder: Path,
    out: Path,
    values: Mapping[str, Any],
    *,
    source: str | None,
    within: float,
    **others: Any,
) -> list[Check]:
    """Train the network of a `fit.json` again with the same seeds, and compare.

    Raises ValueError for a file that does not say which network it is of, and as `images_again`
    does.
    """
    file = folder / "fit.json"
    made_with = _made_with(values)
    check_format(values, FORMAT, file)
    with naming(file):
        recipe, digest = Recipe.from_json(values["recipe"]), str(values["data"])
        runs = {int(run["seed"]): run for run in values["runs"]}
        costs = {name: values[name] for name in ("macs", "parameters")}
        name, architecture = str(values["name"]), dict(values["architecture"])
        known = dict(_source(folder, made_with))
    data = images_again(known, digest, source=source)
    with naming(file):
        found = _network(architecture, name, data, **costs)
    fit_seeds(
        found,
        recipe,
        data,
        out=out,
        seeds=len(runs),
        device=_device(made_with),
        made_with=made_with,
    )
    after = {int(run["seed"]): run for run in read_json(out / "fit.json")["runs"]}
    checks = [
        numbers(
            label,
            {f"seed {s}": run.get(field) for s, run in runs.items()},
            {f"seed {s}": run.get(field) for s, run in after.items()},
            within=within,
        )
        for label, field in (("accuracies", "accuracy"), ("losses", "loss"))
    ]
    files = tuple(f"fit-seed{seed}.safetensors" for seed in runs)
    return checks + weight_checks(folder, out, files, within=within)


def again_final(
    folder: Path,
    out: Path,
    values: Mapping[str, Any],
    *,
    source: str | None,
    within: float,
    **others: Any,
) -> list[Check]:
    """Train the network of a `final.json` again with the same seeds, test it, and compare.

    Nothing is chosen by what the test set says: the recipe is fixed. Raises ValueError for a file
    that does not say which network it is of, and as `images_again` does.
    """
    file, made_with = folder / "final.json", _made_with(values)
    if "made_with" not in dict(values.get("manifest") or {}):
        raise ValueError(f"{file} must have a manifest to be run again, older ones have none")
    with naming(file):
        recipe = Recipe.from_json(values["recipe"])
        before = {
            "accuracies": [float(value) for value in values["accuracies"]],
            "losses": list(values["losses"]),
        }
        digest = str(values["manifest"]["data"])
        architecture = dict(made_with["architecture"] or {})
        variation = made_with["augmentation"]
        augmentation = None if variation is None else Augmentation(**variation)
        known = dict(_source(folder, made_with))
    data = images_again(known, digest, source=source)
    with naming(file):
        found = _network(architecture, str(architecture.get("name")), data)
    train_and_test(
        found.build,
        recipe,
        data,
        out=out,
        seeds=len(before["accuracies"]),
        device=_device(made_with),
        augmentation=augmentation,
        attributes={"architecture": architecture, "data_source": made_with.get("data_source")},
        timm=found.timm,
    )
    after = read_json(out / "final.json")
    checks = [
        numbers(name, _by_seed(known), _by_seed(after[name]), within=within)
        for name, known in before.items()
    ]
    files = tuple(f"final-seed{seed}.safetensors" for seed in range(len(before["accuracies"])))
    return checks + weight_checks(folder, out, files, within=within)


def _by_seed(values: list[float | None]) -> dict[Any, float | None]:
    return {f"seed {seed}": value for seed, value in enumerate(values)}


def _made_with(values: Mapping[str, Any]) -> Mapping[str, Any]:
    known = values.get("manifest")
    found = known.get("made_with") if isinstance(known, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _device(made_with: Mapping[str, Any]) -> str:
    """Return the device of a training; ValueError where it is not there."""
    device = str(made_with.get("device", "cpu"))
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"training was made on {device} and must be run again on a GPU")
    return device


def _source(folder: Path, made_with: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return where the images are: as the result says, else as a search in a folder above does."""
    known = made_with.get("data_source")
    if isinstance(known, Mapping):
        return known
    for above in list(folder.resolve().parents)[:3]:
        if (above / "search.json").is_file():
            return SearchResult.load(above).data
    return {}


def _network(
    architecture: Mapping[str, Any],
    name: str,
    data: ImageData,
    *,
    macs: int | None = None,
    parameters: int | None = None,
) -> Candidate:
    """Return the network of a record; ValueError for one that was built by a function."""
    space, code = architecture.get("space"), architecture.get("architecture")
    if isinstance(space, Mapping) and isinstance(code, list):
        build = FoundBuild(dict(space), tuple(code))
        return space_candidate(build, name=name, macs=macs, parameters=parameters)
    if isinstance(architecture.get("timm"), str):
        known = dict(architecture.get("arguments") or {})
        own = {k: v for k, v in known.items() if k not in ("num_classes", "in_chans")}
        return baseline(architecture["timm"], data, **own)
    raise ValueError(
        f"architecture of {name} must be of a registered space or of timm to be built again, got "
        f"{dict(architecture)}"
    )

"""Which ground truth a comparison is judged by, and the space and images it was measured on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas_ext.benchmarks import SHIPPED, Table
from nas_ext.benchmarks.measured import MeasuredTable, measured_table
from nas_ext.data import load
from nas_ext.files import read_json, read_text
from nas_ext.ground_truth import MANIFEST
from nas_ext.spaces import create

__all__ = ["Truth", "truth"]


@dataclass(frozen=True)
class Truth:
    """A table, and what a search that it is to judge must run on.

    `space` are arguments of `nas_ext.spaces.create`; `data` and `image_size` those of
    `nas_ext.data.load`.
    """

    table: Table
    space: Mapping[str, Any]
    data: str
    image_size: int | None


def truth(
    name: str,
    *,
    space: Mapping[str, Any] | None = None,
    data: str | None = None,
    image_size: int | None = None,
) -> Truth:
    """Return a table by its name, or from the CSV of `ground-truth`, with space and images.

    What is None is the table's own, by the manifest that lies beside the CSV; `image_size` 0
    stands for the images' own. `data` may name another place of the same images.

    Raises ValueError for an unknown table, for one without a manifest where space or data are
    not given, and for a space, images or a size that contradict the manifest.
    """
    manifest, text = _read(name)
    known = manifest.get("settings", {})
    if space is None and not known:
        raise ValueError(f"space must be given for table {name}: there is no {MANIFEST} beside it")
    if data is None and not known:
        raise ValueError(f"data must be given for table {name}: there is no {MANIFEST} beside it")
    size = known.get("image_size") if image_size is None else image_size or None
    if known:
        _check("space", _plain(space), known["space"], name)
        _check("image_size", image_size, known["image_size"] or 0, name)
        if data is not None and data != known["data"]:
            _check_images(data, size, manifest, name)
    chosen = dict(known["space"] if space is None else space)
    images = str(known["data"] if data is None else data)
    if text is None:
        return Truth(SHIPPED[name](), chosen, images, size)
    searched = create(num_classes=2, in_chs=1, **chosen).search_space
    table = measured_table(
        text, searched, name=Path(name).stem, source=name, origin=name, manifest=manifest
    )
    return Truth(table, chosen, images, size)


def _read(name: str) -> tuple[Mapping[str, Any], str | None]:
    """Return the manifest, empty where there is none, and the text of a CSV."""
    if name in SHIPPED:
        table = SHIPPED[name]()
        if isinstance(table, MeasuredTable):
            return table.manifest, None
    file = Path(name)
    if not file.is_file():
        measured = [n for n, made in SHIPPED.items() if isinstance(made(), MeasuredTable)]
        raise ValueError(f"table must be one of {measured} or a CSV of ground-truth, got {name!r}")
    beside = file.with_name(MANIFEST)
    manifest = read_json(beside) if beside.is_file() else {}
    return manifest, read_text(file)


def _plain(value: Any) -> Any:
    """Return a value as JSON gives it back: tuples become lists."""
    return json.loads(json.dumps(value))


def _check(what: str, given: Any, known: Any, name: str) -> None:
    if given is not None and given != known:
        raise ValueError(
            f"{what} must be {known}, which table {name} was measured on, or left out, got {given}"
        )


def _check_images(
    data: str, image_size: int | None, manifest: Mapping[str, Any], name: str
) -> None:
    """Raise ValueError unless another source holds the images of the manifest."""
    known = f"{manifest['settings']['data']}, which table {name} was measured on, or left out"
    try:
        digest = load(data, image_size=image_size).digest
    except ValueError as error:
        raise ValueError(f"data must be {known}, got {data}: {error}") from error
    if digest != manifest["data"]["digest"]:
        raise ValueError(f"data must be {known}, got other images: {data}")

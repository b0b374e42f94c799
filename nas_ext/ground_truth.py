"""Ground truth: every architecture of a small space trained alone, several times, resumably."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

from nas_ext.architecture import SearchSpace
from nas_ext.data import Augmentation, ImageData, load
from nas_ext.field_types import check_fields, clause
from nas_ext.files import read_json, write_json, write_text
from nas_ext.manifest import manifest as made
from nas_ext.out_of_memory import naming_memory
from nas_ext.retrain import Recipe, TrainingDiverged, fit
from nas_ext.spaces import Space, create
from nas_ext.workers import finished

__all__ = [
    "MANIFEST",
    "TABLE",
    "GroundTruth",
    "measure",
    "record",
    "remaining",
    "train_one",
    "write_table",
]

FORMAT = "nas-ext/ground-truth-1"
TABLE, MANIFEST = "ground-truth.csv", "ground-truth.json"


@dataclass(frozen=True, kw_only=True)
class GroundTruth:
    """Say what is measured: a space, images, a recipe, and how many trainings of each network.

    `space` are arguments of `nas_ext.spaces.create`, without the numbers of classes and channels;
    `data` and `image_size` those of `nas_ext.data.load`. Training seeds are 0 to `seeds` - 1. Each
    network is trained on `data.train` and judged, after its last epoch, on the test set; it has
    ordinary batch norm, as a network that leaves the search has.
    """

    space: Mapping[str, Any]
    data: str
    image_size: int | None = None
    seeds: int = 6
    recipe: Recipe = field(default_factory=Recipe)
    augment: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        if self.seeds < 2:
            raise ValueError(f"seeds must be at least 2, or noise is unknown, got {self.seeds}")

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> GroundTruth:
        """Return the settings of `to_json`, also after they were a file."""
        return cls(**{**values, "recipe": Recipe.from_json(values["recipe"])})

    def load_data(self) -> ImageData:
        """Return the images."""
        return load(self.data, image_size=self.image_size)

    def build_space(self, data: ImageData) -> Space:
        """Return the model space for the images."""
        return create(num_classes=data.num_classes, in_chs=data.in_chs, **self.space)


def measure(
    truth: GroundTruth,
    *,
    out: str | Path,
    workers: int = 1,
    say: Callable[[str], None] = lambda text: None,
) -> Path:
    """Train everything, and write a table with one line an architecture and one column a seed.

    Every finished training is a file below `out` at once, so that the same call goes on where an
    earlier one was stopped, kill -9 included. At the end there are `ground-truth.csv` (accuracies
    in percent of the test set, macs and parameters) and the manifest `ground-truth.json`; the
    path of the first is returned. `workers` processes share the work, with one thread each, and
    the numbers do not depend on how many there are.

    Raises ValueError for a space too large to enumerate and for a folder with other settings.
    """
    todo = [(truth, place, seed) for place, seed in remaining(truth, out=out)]
    size = len(_prepared(truth)[1].search_space.enumerate())
    total = truth.seeds * size
    say(f"{total - len(todo)} of {total} trainings are there")
    named = partial(_training, _prepared(truth)[1].search_space)
    ended = finished(train_one, todo, workers=workers, named=lambda task: named(*task[1:]))
    for done, (_, cell) in enumerate(ended, total - len(todo) + 1):
        record(cell, out=out)
        say(
            f"{done} of {total}: {cell['name']}, seed {cell['seed']}: "
            f"{100 * cell['accuracy']:.2f} % in {cell['seconds']:.0f} s"
        )
    return write_table(truth, out=out)


def remaining(truth: GroundTruth, *, out: str | Path) -> list[tuple[int, int]]:
    """Return the trainings that are not there yet: an architecture's place in the space, a seed.

    Begins a new folder, with its manifest. Raises ValueError as `measure` does.
    """
    data, space = _prepared(truth)
    architectures = space.search_space.enumerate()
    _begin(Path(out), _manifest(truth, data, space.search_space))
    return [
        (place, seed)
        for seed in range(truth.seeds)  # seed by seed: an early stop leaves whole columns
        for place in range(len(architectures))
        if not _cell(Path(out), place, seed).exists()
    ]


def _manifest(truth: GroundTruth, data: ImageData, space: SearchSpace) -> dict[str, Any]:
    """Return what the numbers depend on, as JSON values."""
    return {
        "format": FORMAT,
        "settings": truth.to_json(),
        "space": {"name": space.name, "size": space.size},
        "data": {
            "name": data.name,
            "digest": data.digest,
            "images": {"train": len(data.train), "test": len(data.test)},
        },
    }


def _begin(folder: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest, or check that the one that is there asks for the same."""
    file = folder / MANIFEST
    if not file.exists():
        seeds = range(manifest["settings"]["seeds"])
        made_by = made(seeds=seeds, data=manifest["data"]["digest"], threads=1)
        write_json(file, {**manifest, "manifest": made_by})
        return
    known = read_json(file)
    for name in ("format", "settings", "data"):
        found = known.get(name) if isinstance(known, Mapping) else None
        if found != _plain(manifest[name]):
            raise ValueError(f"{name} of {file} must be {manifest[name]}, got {found}")


def _plain(value: Any) -> Any:
    """Return a value as JSON gives it back: tuples become lists."""
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _cell(folder: Path, place: int, seed: int) -> Path:
    return folder / "trainings" / f"{place:05d}-{seed:02d}.json"


@cache
def _loaded(data: str, image_size: int | None) -> ImageData:
    """Return the images of a worker, read once."""
    return load(data, image_size=image_size)


def _prepared(truth: GroundTruth) -> tuple[ImageData, Space]:
    data = _loaded(truth.data, truth.image_size)
    return data, truth.build_space(data)


def train_one(truth: GroundTruth, place: int, seed: int) -> dict[str, Any]:
    """Train the architecture at a place of the space, and return what `record` keeps as JSON.

    Raises FloatingPointError when the training diverges and OutOfMemory when memory does not
    suffice for it: a table without it would be another table.
    """
    data, space = _prepared(truth)
    architecture = space.search_space.at(place)
    named = _training(space.search_space, place, seed)
    try:
        with naming_memory(lambda: named, lower="the recipe's batch_size or the image size"):
            result = fit(
                lambda: space.network(architecture, drop_path_rate=truth.recipe.drop_path),
                truth.recipe,
                data.train,
                data.test,
                data,
                seed=seed,
                augmentation=None if truth.augment else Augmentation(),
                evaluate_every_epoch=False,
            )
    except TrainingDiverged as error:
        remedy = "lower the recipe's lr or set its clip_grad, in a new folder"
        raise FloatingPointError(f"{named}: {error}: {remedy}") from error
    return {
        "place": place,
        "architecture": list(architecture),
        "name": space.search_space.describe(architecture),
        "seed": seed,
        "accuracy": result.accuracy,
        "loss": result.loss,
        "train_loss": result.train_loss,
        "seconds": result.seconds,
    }


def _training(space: SearchSpace, place: int, seed: int) -> str:
    """Return what messages call a training."""
    return f"the training of {space.describe(space.at(place))} with seed {seed}"


def record(cell: Mapping[str, Any], *, out: str | Path) -> None:
    """Keep one training, wherever it was done, in a folder that `remaining` began."""
    write_json(_cell(Path(out), cell["place"], cell["seed"]), dict(cell))


def write_table(truth: GroundTruth, *, out: str | Path) -> Path:
    """Write the table of a folder with all its trainings, and return its path.

    Raises ValueError when trainings are missing.
    """
    folder = Path(out)
    if missing := len(remaining(truth, out=folder)):
        raise ValueError(f"trainings of {folder} must be complete, {missing} are missing")
    data, space = _prepared(truth)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    seeds = range(truth.seeds)
    table.writerow(["name", "architecture", "macs", "parameters", *(f"seed{s}" for s in seeds)])
    for place, architecture in enumerate(space.search_space.enumerate()):
        accuracies = [_accuracy(_cell(folder, place, seed)) for seed in seeds]
        table.writerow(
            [
                space.search_space.describe(architecture),
                " ".join(map(str, architecture)),
                space.macs(architecture, image_size=data.image_size),
                space.parameter_count(architecture),
                *(f"{100 * accuracy:.2f}" for accuracy in accuracies),
            ]
        )
    write_text(folder / TABLE, text.getvalue())
    return folder / TABLE


def _accuracy(file: Path) -> float:
    """Return the accuracy of one training; ValueError, with the file's name, for none."""
    cell = read_json(file)
    found = cell.get("accuracy") if isinstance(cell, Mapping) else None
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found <= 1:
        raise ValueError(f"accuracy of {file} must be a share in [0, 1], got {clause(found)}")
    return float(found)

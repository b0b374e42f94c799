"""What a search leaves behind, as JSON that a later version can read."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from nas_ext.architecture import Architecture, SearchSpace
from nas_ext.field_types import check_fields, clause
from nas_ext.files import check_format, read_json, write_json
from nas_ext.search import Draw
from nas_ext.tree import BinaryTree

__all__ = ["Budget", "RankedArchitecture", "SearchResult", "counts_by_phase", "installed_versions"]

FORMAT = "nas-ext/search-1"
_NAMING = ("name", "source", "digest")
BEYOND = 1e300
"""No reward is as large as this."""
RECORDED = ("nas-ext", "nni", "torch", "pytorch-lightning", "timm", "optuna", "numpy", "scipy")


@dataclass(frozen=True)
class Budget:
    """What the search spent.

    `steps` are optimizer steps; `train_passes` forward and backward passes of one architecture on
    one batch; `reward_passes` forward passes on one validation batch; `evaluated` architectures
    on the whole validation set; `output_passes` architectures whose outputs were compared;
    `macs` multiply-accumulates of all of that per the rule that a backward pass costs two forward
    ones, or None where the space cannot tell.
    """

    steps: int
    train_passes: int
    reward_passes: int
    evaluated: int
    output_passes: int
    seconds: float
    macs: int | None = None


@dataclass(frozen=True)
class RankedArchitecture:
    """One line of a ranking: the architecture, its names, its validation accuracy, its cost.

    `extra` is what a method knows beside that, as JSON values: the supernet of a mixture.
    """

    architecture: Architecture
    name: str
    sample: Mapping[str, Any]
    accuracy: float
    macs: int | None = None
    parameters: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SearchResult:
    """Strategy, settings, space, budget, draws and ranking of one search.

    `space` has the name and arguments that rebuild the model space; `phases` the name and number
    of steps of each; `draws` one row per trained architecture: phase, step, architecture, reward
    (None where nobody asked); `ranking` is best first; `tree` the state of the last tree, if any;
    `mixture` what a mixture of supernets learned, if there was one, see `nas_ext.saved_mixture`;
    `data` names the images and their digest; `diagnostics` has the numbers of the last sampler at
    the end, by name; `manifest` what else it depends on, see `nas_ext.manifest`. Results from
    before there were diagnostics, `extra`, `mixture` and manifests load without them.
    """

    strategy: str
    settings: Mapping[str, Any]
    seed: int
    space: Mapping[str, Any]
    phases: tuple[tuple[str, int], ...]
    draws: tuple[Draw, ...]
    ranking: tuple[RankedArchitecture, ...]
    budget: Budget
    tree: Mapping[str, Any] | None = None
    mixture: Mapping[str, Any] | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    diagnostics: Mapping[str, float] = field(default_factory=dict)
    manifest: Mapping[str, Any] = field(default_factory=dict)

    @property
    def best(self) -> RankedArchitecture:
        """Return the first of the ranking."""
        return self.ranking[0]

    @property
    def versions(self) -> Mapping[str, str]:
        """Return the versions of what made the result, by package; none where it is too old."""
        known: Mapping[str, str] = self.manifest.get("versions", {})
        return known

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON values; architectures of the draws are listed once."""
        known = list(dict.fromkeys(draw.architecture for draw in self.draws))
        place = {architecture: index for index, architecture in enumerate(known)}
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {
            "format": FORMAT,
            **values,
            "budget": asdict(self.budget),
            "phases": [list(phase) for phase in self.phases],
            "ranking": [{**asdict(r), "architecture": list(r.architecture)} for r in self.ranking],
            "draws": {
                "architectures": [list(architecture) for architecture in known],
                "rows": [[d.phase, d.step, place[d.architecture], d.reward] for d in self.draws],
            },
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any], *, source: str = "result") -> SearchResult:
        """Return the result that `to_json` wrote.

        Raises ValueError for another format or a missing or misshapen field, naming `source`.
        """
        check_format(values, FORMAT, source)
        try:
            known = [tuple(a) for a in values["draws"]["architectures"]]
            rows = values["draws"]["rows"]
            ranking = [{**r, "architecture": tuple(r["architecture"])} for r in values["ranking"]]
            changed: dict[str, Any] = {
                "phases": tuple((name, steps) for name, steps in values["phases"]),
                "draws": tuple(Draw(p, s, known[a], reward) for p, s, a, reward in rows),
                "ranking": tuple(RankedArchitecture(**line) for line in ranking),
                "budget": Budget(**values["budget"]),
                "diagnostics": dict(values.get("diagnostics", {})),
                "mixture": values.get("mixture"),
                "manifest": _manifest_of(values),
            }
            kept = {f.name: values[f.name] for f in fields(cls) if f.name not in changed}
            made = cls(**changed, **kept)
            _check_tree(made.tree)
        except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
            raise ValueError(f"{source} must be a whole search result, got {error!r}") from error
        _check(made, [*known, *(line.architecture for line in made.ranking)], source)
        return made

    def save(self, path: str | Path) -> None:
        """Write the result as JSON, whole or not at all."""
        write_json(Path(path), self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> SearchResult:
        """Read a result; `path` may be the file or the folder of the run."""
        file = Path(path) / "search.json" if Path(path).is_dir() else Path(path)
        return cls.from_json(read_json(file), source=str(file))


def _check(result: SearchResult, architectures: Iterable[Architecture], source: str) -> None:
    """Raise ValueError, naming field and source, for a value of another kind or out of range."""
    check_fields(result, of=f" of {source}")
    check_fields(result.budget, of=f" of the budget of {source}")
    for place, line in enumerate(result.ranking, 1):
        check_fields(line, of=f" of line {place} of the ranking of {source}")
    _check_named(result, source)
    length = None
    for architecture in architectures:
        length = len(architecture) if length is None else length
        if len(architecture) != length or not all(_is_count(option) for option in architecture):
            raise ValueError(
                f"architectures of {source} must be {length} places of options each, "
                f"got {clause(list(architecture))}"
            )
    _check_draws(result, source)


def _check_named(result: SearchResult, source: str) -> None:
    """Raise ValueError, naming the source, for a space or images that are not said properly."""
    arguments = result.space.get("arguments")
    if arguments is not None and not isinstance(arguments, Mapping):
        raise ValueError(f"arguments of the space of {source} must be some, got {arguments!r}")
    if arguments and "name" in arguments and not {"num_classes", "in_chs"} <= set(arguments):
        raise ValueError(
            f"arguments of the space of {source} must have num_classes and in_chs, "
            f"got {clause(sorted(arguments))}"
        )
    texts = [("name of the space", result.space.get("name", ""))]
    texts += [("name of the space", arguments.get("name", ""))] if arguments else []
    texts += [(f"{k} of the data", result.data[k]) for k in _NAMING if k in result.data]
    for what, value in texts:
        if not isinstance(value, str):
            raise ValueError(f"{what} of {source} must be a text, got {clause(value)}")
    size = result.data.get("size", [])
    if not (isinstance(size, list) and all(_is_count(number) and number for number in size)):
        raise ValueError(
            f"size of the data of {source} must be channels, height and width, got {clause(size)}"
        )


def _check_draws(result: SearchResult, source: str) -> None:
    """Raise ValueError, naming the source, for draws that are none of the phases' steps."""
    for name, steps in result.phases:
        if steps < 1:
            raise ValueError(f"steps of {name!r} in {source} must be at least 1, got {steps}")
    phases, steps = len(result.phases), sum(steps for _, steps in result.phases)
    for draw in result.draws:
        number = draw.reward is None or _is_number(draw.reward)
        if not (_is_count(draw.phase) and _is_count(draw.step) and number):
            raise ValueError(f"draws of {source} must be numbers, got {clause(draw)}")
        if draw.phase >= phases or draw.step >= steps:
            raise ValueError(
                f"draws of {source} must lie in its {phases} phases and {steps} steps, "
                f"got {clause(draw)}"
            )


def _check_tree(state: Mapping[str, Any] | None) -> None:
    """Raise for the state of a tree that no `tree_from_state` would take over its space."""
    if state is None:
        return
    if state["kind"] == "binary":
        BinaryTree.from_state(state)
    elif state["kind"] == "layers":
        for prefix, visits, value in zip(
            state["prefixes"], state["visits"], state["values"], strict=True
        ):
            if not (all(map(_is_count, prefix)) and _is_count(visits) and _is_number(value)):
                raise ValueError(f"tree must be of prefixes and numbers, got {clause(prefix)}")
    else:
        raise ValueError(f"kind of a tree must be 'layers' or 'binary', got {state['kind']!r}")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < BEYOND


def _manifest_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest; results from before there was one say the versions alone."""
    found = values.get("manifest", {"versions": values.get("versions", {})})
    if not isinstance(found, Mapping) or not isinstance(found.get("versions", {}), Mapping):
        raise TypeError("manifest must be an object, its versions too")
    return dict(found)


def counts_by_phase(draws: Iterable[Draw], space: SearchSpace) -> dict[int, dict[str, int]]:
    """Return how often each architecture was drawn in each phase, by its short name."""
    counts: dict[int, dict[str, int]] = {}
    for draw in draws:
        names = counts.setdefault(draw.phase, {})
        name = space.describe(draw.architecture)
        names[name] = names.get(name, 0) + 1
    return counts


def installed_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that shape a result."""
    found = {"python": platform.python_version(), "platform": sys.platform}
    for name in RECORDED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found

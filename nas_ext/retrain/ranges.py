"""Search spaces that are written down: ranges in a file, or the name of a function."""

from __future__ import annotations

import importlib
import json
import math
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import optuna
import yaml  # type: ignore[import-untyped]  # its types are another package

from nas_ext.field_types import clause
from nas_ext.files import naming, read_json, read_text
from nas_ext.retrain.recipe import Recipe
from nas_ext.retrain.space import Suggest

FIXED = ("epochs", "decay_milestones")  # the study's own, and no value of Optuna's
FILES = (".yaml", ".yml", ".json")

_SETTINGS = tuple(field.name for field in fields(Recipe) if field.name not in FIXED)
_WHOLE = ("batch_size", "warmup_epochs")
_KEYS = {"low", "high", "log", "step"}
LARGEST = 10**6  # bytes of a file
_LONG = 10**9  # epochs of the recipe that a single setting is tried in


@dataclass(frozen=True)
class Ranges:
    """Propose each setting from a range or a list; everything else is the base recipe's.

    `text` is the ranges as JSON, in the order in which they are asked for.
    """

    text: str

    def __post_init__(self) -> None:
        # a study keeps this name, and goes on with no other ranges
        object.__setattr__(self, "__qualname__", f"Ranges({self.text})")

    def __call__(self, trial: optuna.Trial, base: Recipe) -> Recipe:
        """Propose a recipe."""
        changes: dict[str, Any] = {}
        for name, values in json.loads(self.text).items():
            if isinstance(values, dict):
                kind = trial.suggest_int if name in _WHOLE else trial.suggest_float
                low, high = values.pop("low"), values.pop("high")
                changes[name] = kind(name, low, high, **values)
            elif isinstance(values, list):
                changes[name] = trial.suggest_categorical(name, values)
            else:
                changes[name] = values
        return replace(base, **changes)


def suggest_from(source: Mapping[str, Any] | str | os.PathLike[str]) -> Suggest:
    """Return the search space that a dictionary or a YAML or JSON file of ranges describes.

    Its keys are settings of `Recipe`, its values `{low: 1e-4, high: 1e-1, log: true}` (or `step:`
    in place of `log:`), a list to choose from (`[momentum, adamw]`, `[null, 0.98]`), or one value.
    Epochs cannot be among them, since all trials of a study have the same number.

    Raises ValueError for an unreadable file, an unknown setting and values out of range.
    """
    if isinstance(source, Mapping):
        return _ranges(source)
    with naming(source):
        return _ranges(_read(Path(source)))


def _ranges(ranges: Any) -> Ranges:
    if not isinstance(ranges, Mapping) or not ranges:
        raise ValueError(f"ranges must be a mapping of settings, got {clause(ranges)}")
    for name, values in ranges.items():
        if name not in _SETTINGS:
            raise ValueError(f"ranges must be of settings among {list(_SETTINGS)}, got {name!r}")
        for value in _checked(name, values):
            _try(name, value)
    return Ranges(json.dumps(dict(ranges)))


def find_suggest(text: str) -> Suggest:
    """Return the search space that a command line names: a file of ranges or `module:function`.

    The module is looked for in the current folder too. Raises ValueError when there is none.
    """
    if text.endswith(FILES):
        return suggest_from(text)
    module, colon, name = text.partition(":")
    if not (module and colon and name):
        raise ValueError(f"suggest must be module:function or a YAML or JSON file, got {text!r}")
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # a module that it imports is missing, not itself
        raise ValueError(f"suggest must name a module, got {text!r}: {error}") from error
    function: Any = getattr(found, name, None)
    if not callable(function):
        raise ValueError(f"suggest must name a function of {module}, got {text!r}")
    return function  # type: ignore[no-any-return]  # a user's, typed there or not


class _Yaml(yaml.SafeLoader):  # type: ignore[misc]  # its types are another package
    """Read 1e-4 as a number, as YAML 1.2 does, and no aliases, which swell."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Refuse an alias."""
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.MarkedYAMLError(None, None, "aliases are not read", mark)
        return super().compose_node(parent, index)


_Yaml.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+"), list("-+0123456789")
)


def _read(path: Path) -> Any:
    if path.suffix not in FILES:
        raise ValueError(f"ranges must be in a file ending in {', '.join(FILES)}, got {path}")
    if path.suffix == ".json":
        return read_json(path)
    text = read_text(path, largest=LARGEST)
    try:
        return yaml.load(text, Loader=_Yaml)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise ValueError(f"{path} must be a readable file of ranges: {error}") from error


def _checked(name: str, values: object) -> Sequence[Any]:
    """Return the values that decide whether a setting's range is legal."""
    if isinstance(values, list | tuple):
        if not values:
            raise ValueError(f"{name} must have a value to choose, got {values!r}")
        return values
    if not isinstance(values, Mapping):
        return [values]
    if not {"low", "high"} <= set(values) <= _KEYS:
        raise ValueError(f"{name} must be a list or low, high and log or step, got {values!r}")
    low, high, step = values["low"], values["high"], values.get("step")
    numbers = [low, high, *([] if step is None else [step])]
    if not all(_is_number(number, whole=name in _WHOLE) for number in numbers) or low > high:
        kind = "whole numbers" if name in _WHOLE else "numbers"
        raise ValueError(f"{name} must have {kind} low and high, low first, got {values!r}")
    log = values.get("log", False)
    if not isinstance(log, bool) or (log and (step is not None or low <= 0)):
        raise ValueError(f"{name} must have log with a low above 0 and no step, got {values!r}")
    if step is not None and step <= 0:
        raise ValueError(f"{name} must have a step above 0, got {values!r}")
    return [low, high]


def _is_number(value: object, *, whole: bool) -> bool:
    kinds = int if whole else int | float
    return isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)


def _try(name: str, value: Any) -> None:
    """Refuse a value that no recipe has; what settings demand of each other is not asked."""
    free: dict[str, Any] = {"epochs": _LONG, "lr": float(_LONG), "decay_milestones": (1,)}
    Recipe(**{**free, name: value})

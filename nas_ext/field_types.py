"""Values held to the annotations of the dataclass that holds them."""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

__all__ = ["check_arguments", "check_fields", "clause"]

Test: TypeAlias = Callable[[Any], bool]
Rule: TypeAlias = tuple[Test, str]


def check_fields(instance: Any, *, of: str = "", kinds_only: bool = False) -> None:
    """Raise ValueError for the first field of a dataclass whose value is not of its annotation.

    Looked into are numbers (True and False are none), texts, truth values, literals, tuples and
    sequences of these, None and paths; of mappings only that they are some. Whatever else an
    annotation says, functions and classes, is not compared. Numbers of numpy are refused where
    JSON could not hold them. With `kinds_only` which literal it is, how many a tuple has, NaN and
    infinities are left to the class's own rules, which come after this. `of` follows the field's
    name in the message, " of FILE" for what was read.
    """
    kind: Any = type(instance)
    for name, rule in _rules(kind, loose=kinds_only).items():
        value = getattr(instance, name)
        if not rule[0](value):
            raise ValueError(f"{name}{of} must be {rule[1]}, got {clause(value)}")
        if not kinds_only and isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name}{of} must be finite, got {value}")


def check_arguments(function: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Raise ValueError for the first argument of a function that is not of its annotation.

    Looked into is what `check_fields` looks into; names that the function does not have are not.
    """
    known = get_type_hints(function)
    for name, value in given.items():
        rule = _rule(known[name], loose=False) if name in known else None
        if rule is not None and not rule[0](value):
            raise ValueError(f"{name} must be {rule[1]}, got {clause(value)}")


def clause(value: Any, most: int = 200) -> str:
    """Return a value for a message, cut where it would fill the screen."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer too long for decimals, a circle
        return f"a {type(value).__name__}"
    return text if len(text) <= most else f"{text[:most]}..."


@cache
def _rules(kind: Any, *, loose: bool) -> Mapping[str, Rule]:
    hints: dict[str, Any] = {}
    if not isinstance(kind, type) or not is_dataclass(kind):
        raise TypeError(f"only dataclasses have fields, got {kind}")
    for owner in reversed(kind.__mro__):
        if "__annotations__" in vars(owner):
            hints |= _hints(owner)
    names = [field.name for field in fields(kind) if field.name in hints]
    found = {name: _rule(hints[name], loose) for name in names}
    return {name: rule for name, rule in found.items() if rule is not None}


def _hints(owner: type[Any]) -> dict[str, Any]:
    """Return a class's own annotations; none where they use names that only a function knows."""
    try:
        known = get_type_hints(owner)
    except NameError:
        return {}
    return {name: known[name] for name in vars(owner)["__annotations__"]}


def _rule(hint: Any, loose: bool) -> Rule | None:
    """Return what a value must pass, and how to say it; None for what is not looked into."""
    if hint in _PLAIN:
        return _PLAIN[hint]
    if hint is Any:
        return None
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return _literal(inner, loose)
    if origin in (Union, types.UnionType):
        return _either([_rule(one, loose) for one in inner])
    if origin is tuple:
        return _tuple(inner, loose)
    if origin is Sequence and (item := _rule(inner[0], loose)) is not None:
        return _several(item)
    if origin is Mapping:
        return (lambda value: isinstance(value, Mapping)), "a mapping"
    return None


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    if isinstance(value, float):
        return True
    try:
        return _is_whole(value) and math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False


_PLAIN: Mapping[Any, Rule] = {
    bool: (lambda value: isinstance(value, bool), "true or false"),
    int: (_is_whole, "a whole number"),
    float: (_is_number, "a number"),
    str: (lambda value: isinstance(value, str), "a text"),
    type(None): (lambda value: value is None, "None"),
    Path: (lambda value: isinstance(value, Path), "a path"),
}


def _literal(options: tuple[Any, ...], loose: bool) -> Rule:
    if loose:
        return (lambda value: any(type(value) is type(o) for o in options)), "a text"
    said = " or ".join(map(str, options)) if len(options) < 3 else f"one of {list(options)}"
    return (lambda value: any(type(value) is type(o) and value == o for o in options)), said


def _either(rules: Sequence[Rule | None]) -> Rule | None:
    known = [rule for rule in rules if rule is not None]
    if len(known) < len(rules):
        return None
    said = list(dict.fromkeys(rule[1] for rule in known))
    return (lambda value: any(test(value) for test, _ in known)), " or ".join(said)


def _tuple(inner: tuple[Any, ...], loose: bool) -> Rule | None:
    if len(inner) == 2 and inner[1] is Ellipsis:
        item = _rule(inner[0], loose)
        return None if item is None else _several(item)
    rules = [_rule(one, loose) for one in inner]
    items = [rule for rule in rules if rule is not None]
    tests = [test for test, _ in items]
    if not items or len(items) < len(rules):
        return None
    if loose:
        return _several((lambda value: any(test(value) for test in tests), items[0][1]))
    said = ", ".join(text for _, text in items)

    def fits(value: Any) -> bool:
        return (
            isinstance(value, list | tuple)
            and len(value) == len(tests)
            and all(test(one) for test, one in zip(tests, value, strict=True))
        )

    return fits, f"({said})"


def _several(item: Rule) -> Rule:
    test, said = item

    def fits(value: Any) -> bool:  # a list, as JSON gives for a tuple, will do
        return isinstance(value, list | tuple) and all(map(test, value))

    return fits, f"several, each {said}"

"""Settings as people type them: NAME=VALUE."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

__all__ = ["settings_from"]


def settings_from(pairs: Sequence[str], *, option: str = "--set") -> dict[str, Any]:
    """Return `["a=1", "b=x"]` as `{"a": 1, "b": "x"}`: values are JSON where they parse.

    Raises ValueError, naming the `option` they were given to, for anything else.
    """
    settings: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"{option} must be NAME=VALUE, got {pair!r}")
        try:
            value = json.loads(text, parse_constant=_refuse)
        except json.JSONDecodeError:
            value = text
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{option} {name} must be a value, got {text[:40]!r}: {error}"
            ) from error
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{option} {name} must be finite, got {text[:40]!r}")
        settings[name.replace("-", "_")] = tuple(value) if isinstance(value, list) else value
    return settings


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")

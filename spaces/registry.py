"""The model spaces by name, for the command line, for files and for retraining."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch

from nas_ext.field_types import check_arguments, clause
from nas_ext.spaces.entries import ENTRIES, RegisteredSpace, SpaceEntry
from nas_ext.spaces.limits import limit_macs
from nas_ext.spaces.protocol import Space

__all__ = ["SPACES", "Space", "SpaceEntry", "create", "describe"]

SPACES: Mapping[str, SpaceEntry] = MappingProxyType({entry.name: entry for entry in ENTRIES})
"""Every space that `create` knows, by name."""


COUNTS = ("cells", "layers", "poolings", "resolutions")
MOST, MOST_LAYERS, MOST_PARAMETERS = 10**6, 200, 2**34
"""The largest argument of a space, the most layers, and the most parameters of a supernet."""

LARGE = 4096
"""An argument beyond which a supernet is weighed before it is built."""


def create(
    name: str,
    *,
    num_classes: int,
    in_chs: int,
    macs: Sequence[int] | None = None,
    image_size: Sequence[int] | None = None,
    **arguments: Any,
) -> RegisteredSpace:
    """Build a model space by name; `create(**space.arguments)` builds the same one again.

    `macs`, (low, high), limits what is searched to architectures of so many multiply-accumulates
    for images of `image_size`, (H, W): see `limit_macs`. Raises ValueError for an unknown name,
    for an argument that the space does not have and for one that is missing.
    """
    if not isinstance(name, str) or name not in SPACES:
        raise ValueError(f"name must be one of {sorted(SPACES)}, got {name!r}")
    entry = SPACES[name]
    own = entry.parameters
    unknown = sorted(set(arguments) - {p.name for p in own})
    missing = sorted({p.name for p in own if p.default is p.empty} - set(arguments))
    if unknown or missing:
        raise ValueError(
            f"arguments of space {name!r} must be among {sorted(p.name for p in own)}, "
            f"got unknown {unknown} and missing {missing}"
        )
    everything = {"num_classes": num_classes, "in_chs": in_chs, **arguments}
    check_arguments(entry.build, everything)
    for argument, value in everything.items():
        _check_size(argument, value)
    if _largest([*everything.values()]) > LARGE:
        _check_memory(entry, everything)
    space = entry.build(**everything)
    if macs is None and image_size is None:
        return space
    if not (_is_pair(macs) and _is_pair(image_size)) or macs is None or image_size is None:
        raise ValueError(
            "macs and image_size must be two numbers each, given together, "
            f"got {clause(macs)} and {clause(image_size)}"
        )
    (low, high), (height, width) = macs, image_size
    return limit_macs(space, low=low, high=high, image_size=(height, width))


def _is_pair(value: object) -> bool:
    if not isinstance(value, list | tuple) or len(value) != 2:
        return False
    return all(isinstance(one, int) and not isinstance(one, bool) for one in value)


def _check_size(name: str, value: object) -> None:
    """Raise ValueError for numbers that no network has: a file may claim 10^12 layers."""
    most = MOST_LAYERS if name in COUNTS else MOST
    if isinstance(value, list | tuple) and len(value) > MOST_LAYERS:
        raise ValueError(f"{name} must have at most {MOST_LAYERS} entries, got {len(value):,}")
    if _largest([value]) > most:
        raise ValueError(f"{name} must be at most {most:,}, got {clause(value)}")


def _largest(values: Sequence[object]) -> int:
    found = 0
    for value in values:
        inner = value if isinstance(value, list | tuple) else [value]
        found = max([found, *(one for one in inner if isinstance(one, int))])
    return found


def _check_memory(entry: SpaceEntry, arguments: Mapping[str, Any]) -> None:
    """Raise ValueError for a supernet that no memory holds, before memory is asked for."""
    with torch.device("meta"):
        made = entry.build(**arguments)
    count = sum(parameter.numel() for parameter in made.parameters())
    if count > MOST_PARAMETERS:
        raise ValueError(
            f"arguments of space {entry.name!r} must leave the supernet at most "
            f"{MOST_PARAMETERS:,} parameters, got {count:,} by {clause(dict(arguments))}"
        )


def describe() -> list[dict[str, Any]]:
    """Return what a table of spaces says, one line each, as JSON values.

    `size` is the exact number of architectures. Where it follows from arguments without a
    default, it is that of `example`, which is empty elsewhere.
    """
    lines = []
    for entry in SPACES.values():
        own = entry.parameters
        with torch.device("meta"):  # only its search space is asked
            space = create(entry.name, num_classes=2, in_chs=1, **entry.example)
        defaults = {p.name: None if p.default is p.empty else p.default for p in own}
        lines.append(
            {
                "name": entry.name,
                "summary": entry.summary,
                "task": entry.task,
                "size": space.search_space.size,
                "choices": [len(choice.options) for choice in space.search_space.choices],
                "arguments": defaults,
                "example": dict(entry.example),
                "image_size": list(entry.image_size),
                "in_chs": entry.in_chs,
                "num_classes": entry.num_classes,
                "source": entry.source,
                "status": entry.status,
            }
        )
    return lines

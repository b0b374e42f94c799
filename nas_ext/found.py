"""A found architecture as JSON, from which any process builds the network again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from nas_ext.architecture import Architecture
from nas_ext.files import check_format, read_json, write_json
from nas_ext.spaces.registry import SPACES
from nas_ext.spaces.timm_models import skeleton

__all__ = ["FILE", "FORMAT", "FoundArchitecture", "load_architecture"]

FORMAT = "nas-ext/architecture-1"

FILE = "arch.json"
"""The name of the file in a folder."""


@dataclass(frozen=True)
class FoundArchitecture:
    """Name one architecture of a registered space, without a network and without weights.

    `space` is the registry's name; `arguments` are those of `nas_ext.spaces.create` beside it,
    classes and channels included; `origin` says, as JSON values, where the architecture comes
    from. Limits that a search had are no part of it: leave them out.

    Raises ValueError for an unknown space, for arguments that it does not have, and for an
    architecture that does not exist there.
    """

    space: str
    arguments: Mapping[str, Any]
    architecture: Architecture
    origin: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.model.search_space.check(self.architecture)

    @cached_property
    def model(self) -> Any:
        """Return the model space, without memory for weights."""
        return skeleton(self.space, **self.arguments)

    @property
    def name(self) -> str:
        """Return the short name that people use for the architecture."""
        return str(self.model.search_space.describe(self.architecture))

    @property
    def own_arguments(self) -> dict[str, Any]:
        """Return the space's own arguments, without classes and channels."""
        return {k: v for k, v in self.arguments.items() if k not in ("num_classes", "in_chs")}

    @property
    def hash(self) -> str:
        """Return 12 hexadecimal digits that say space, arguments and architecture."""
        values = [self.space, dict(self.arguments), list(self.architecture)]
        text = json.dumps(values, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def network(self, *, drop_path_rate: float = 0.0) -> nn.Module:
        """Return the architecture as a fresh, ordinary network."""
        network: nn.Module = self.model.network(self.architecture, drop_path_rate=drop_path_rate)
        return network

    def to_json(self) -> dict[str, Any]:
        """Return JSON values; `arch` and `sample` say the same, for us and for NNI."""
        return {
            "format": FORMAT,
            "space": self.space,
            "space_args": dict(self.arguments),
            "arch": list(self.architecture),
            "name": self.name,
            "sample": self.model.search_space.decode(self.architecture),
            "hash": self.hash,
            "origin": dict(self.origin),
        }

    @classmethod
    def from_json(cls, values: Any, *, source: str = "architecture") -> FoundArchitecture:
        """Return the architecture that `to_json` wrote.

        One of `arch` and `sample` is enough, and is what the other is made from. Nothing is ever
        imported by a name in the file: the space must be registered. Raises ValueError, naming
        `source`, for another format, for `arch`, `sample` and `hash` that contradict each other,
        and for what the class refuses.
        """
        check_format(values, FORMAT, source)
        try:
            return cls._read(values)
        except KeyError as error:
            raise ValueError(
                f"{source} must be a whole architecture, it has no {error}"
            ) from error
        except (ValueError, TypeError) as error:
            raise ValueError(f"{source} must name an architecture: {error}") from error

    @classmethod
    def _read(cls, values: Mapping[str, Any]) -> FoundArchitecture:
        space, arguments = values["space"], dict(values["space_args"])
        if space not in SPACES:
            raise ValueError(f"space must be one of {sorted(SPACES)}, got {space!r}")
        search_space = skeleton(space, **arguments).search_space
        sample = values.get("sample")
        if values.get("arch") is None and sample is None:
            raise KeyError("arch")
        arch = values.get("arch")
        architecture = search_space.encode(sample) if arch is None else tuple(arch)
        made = cls(space, arguments, architecture, dict(values.get("origin") or {}))
        if sample is not None and search_space.encode(sample) != architecture:
            raise ValueError(f"sample must be that of arch {list(architecture)}, got {sample}")
        if values.get("hash", made.hash) != made.hash:
            raise ValueError(f"hash must be {made.hash}, got {values['hash']!r}")
        return made

    def save(self, path: str | Path) -> None:
        """Write the architecture as JSON, whole or not at all."""
        write_json(path, self.to_json())


def load_architecture(path: str | Path) -> FoundArchitecture:
    """Read an architecture; `path` may be the file or a folder that holds `arch.json`.

    Raises ValueError, with the file's name, for what is none.
    """
    file = Path(path) / FILE if Path(path).is_dir() else Path(path)
    return FoundArchitecture.from_json(read_json(file), source=str(file))

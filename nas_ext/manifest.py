"""What a result was made by: command, versions, seeds, images, state of the code, machine."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any

import torch

from nas_ext.results import installed_versions

__all__ = ["FORMAT", "accelerators", "changes", "command", "git_state", "manifest"]

FORMAT = "nas-ext/manifest-1"

PATIENCE = 10.0
"""Seconds that git may take; a result is not held up by a slow file system."""

_SHAPING = ("cpu", "threads", "settings", "accelerators", "platform")


def manifest(
    *,
    seeds: Iterable[int],
    data: str | None,
    threads: int | None = None,
    made_with: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what a result depends on beside its own settings, as JSON values.

    `data` is the digest of the images or of the table, None where nobody knows it. `threads` are
    torch's of each training, unless they are those of this process. `made_with` is what
    `nas_ext.reproduce` needs and the result does not say elsewhere. Nothing names the user, the
    machine or its environment; a path is there only where the command has one.
    """
    return {
        "format": FORMAT,
        "command": command(),
        "versions": installed_versions(),
        "seeds": list(seeds),
        "data": data,
        "git": git_state(),
        "platform": {"system": platform.system(), "machine": platform.machine()},
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads() if threads is None else threads,
        "settings": _settings(),
        "accelerators": accelerators(),
        "made_with": dict(made_with or {}),
    }


def command() -> list[str]:
    """Return the command line as it was typed, in worker processes too; `["python"]` elsewhere.

    The program is named without its folder, a script of the user's not at all, and what a URL
    has before its host (of a database: user and password) is hidden.
    """
    program = PurePath(sys.argv[0] if sys.argv else "")
    typed = [re.sub(r"(?<=://)[^/@\s]+(?=@)", "***", word) for word in sys.argv[1:]]
    if program.stem == "nas-ext":
        return ["nas-ext", *typed]
    if program.parts[-2:] == ("nas_ext", "__main__.py"):
        return ["python", "-m", "nas_ext", *typed]
    return ["python"]


def git_state(folder: str | os.PathLike[str] = ".") -> dict[str, Any] | None:
    """Return the commit of a folder's repository, and whether tracked files differ from it.

    None where there is no repository, no commit, no git, or none that answers.
    """
    commit = _git(folder, "rev-parse", "--verify", "HEAD")
    if commit is None:
        return None
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": None if changed is None else bool(changed)}


def _git(folder: str | os.PathLike[str], *arguments: str) -> str | None:
    program = shutil.which("git")
    if program is None:
        return None
    # A repository's own settings may name a program to ask about changed files: not here. The
    # lock is for writing an index that git has refreshed, which is not ours to write.
    given = [program, "-c", "core.fsmonitor=false", "--no-optional-locks", *arguments]
    try:
        run = subprocess.run(
            given,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return run.stdout.strip() if run.returncode == 0 else None


def _settings() -> dict[str, Any]:
    """Return torch's settings that can change the bits of a result."""
    return {
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "mkldnn": bool(torch.backends.mkldnn.enabled),
    }


def accelerators() -> list[str]:
    """Return the names of the GPUs in use; an unused one is not woken to be asked."""
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch has no type
        return []
    return [torch.cuda.get_device_name(place) for place in range(torch.cuda.device_count())]


def changes(known: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return what differs between two manifests and can change the last bits, a line each.

    Versions and the machine count, and commit and state of a repository; what the older one does
    not say is left out.
    """
    before, after = known.get("versions"), now["versions"]
    lines = []
    if isinstance(before, Mapping):
        lines += [
            f"{name}: {old}, now {after.get(name, 'not recorded')}"
            for name, old in before.items()
            if old != after.get(name)
        ]
    for name in (*_SHAPING, "git"):
        if known.get(name) is not None and known[name] != now[name]:
            lines.append(f"{name}: {_short(known[name])}, now {_short(now[name])}")
    return lines


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_short(item)}" for name, item in value.items())
    return str(value)

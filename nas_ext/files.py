"""Files written whole or not at all, and JSON read with errors that name the file."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nas_ext.field_types import clause

LARGEST = 1024**3
"""The most bytes of a JSON file that are read; a search of a million steps leaves 50 MB."""


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file so that a reader, or a crash, finds the old content or the new one.

    The bytes go to a temporary file in the same folder, reach the disk, and take the name in one
    step. Missing parent folders are created.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".tmp-{secrets.token_hex(8)}"
    try:
        with open(temporary, "xb") as file:  # not mkstemp, whose files only the owner may read
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write text as UTF-8, line ends unchanged, as `write_bytes` does."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write a value as JSON, keys in their given order, as `write_bytes` does.

    Raises ValueError for what JSON cannot hold: NaN, infinities, and objects other than
    dictionaries, lists, tuples, strings, numbers, booleans and None.
    """
    try:
        text = json.dumps(value, indent=1, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"value for {path} must be plain JSON: {error}") from error
    write_text(path, text + "\n")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file.

    Raises ValueError, with the file's name, when it is missing, no file, unreadable, beyond 1 GiB,
    not UTF-8 or not JSON: NaN, infinities and names that come twice, which Python would accept,
    and numbers that no float holds included.
    """
    text = read_text(path)
    try:
        return json.loads(
            text,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            object_pairs_hook=_once_each,
        )
    except RecursionError as error:
        raise ValueError(f"{path} is not valid JSON: it is nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error


def read_text(path: str | os.PathLike[str], *, largest: int = LARGEST) -> str:
    """Read a text file as UTF-8.

    Raises ValueError, with the file's name, when it is missing, no file, unreadable, of more than
    `largest` bytes, or not UTF-8.
    """
    file = Path(path)
    try:
        if file.exists() and not file.is_file():  # a pipe would never end
            raise ValueError(f"{path} cannot be read: it is no file")
        if (size := file.stat().st_size) > largest:
            raise ValueError(f"{path} must have at most {largest:,} bytes, it has {size:,}")
        return file.read_bytes().decode("utf-8")
    except FileNotFoundError as error:
        raise ValueError(f"{path} does not exist") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}") from error


def check_format(values: Any, form: str, source: object) -> Mapping[str, Any]:
    """Return what was read when its "format" is `form`, such as "nas-ext/search-1".

    Raises ValueError, naming `source`: a later version of the format is told from another format.
    """
    if not isinstance(values, Mapping):
        raise ValueError(
            f"format of {source} must be {form!r}, it holds no object but {type(values).__name__}"
        )
    found = values.get("format")
    if found != form:
        raise ValueError(wrong_format(found, [form], source))
    return values


def wrong_format(found: object, known: Sequence[str], source: object) -> str:
    """Say what is wrong with a format that is none of the known ones."""
    if isinstance(found, str):
        for form in known:
            name, _, version = form.rpartition("-")
            later = re.fullmatch(rf"{re.escape(name)}-(\d{{1,9}})", found)
            if later and int(later[1]) > int(version):
                return (
                    f"{source} was written by a newer nas-ext, in the format {found!r}: "
                    f"this one reads {form!r}, install a newer one"
                )
    return f"format of {source} must be {' or '.join(map(repr, known))}, got {clause(found)}"


@contextlib.contextmanager
def naming(source: object) -> Iterator[None]:
    """Let what the content of a damaged file leads to inside be a ValueError that names it."""
    try:
        yield
    except _MISSHAPEN as error:
        raise ValueError(f"{source} must be whole, got {error!r}") from error
    except ValueError as error:
        if str(source) in str(error):
            raise
        raise ValueError(f"{source}: {error}") from error


_MISSHAPEN = (
    *(AssertionError, AttributeError, IndexError, KeyError),
    *(OverflowError, RecursionError, TypeError),
)
"""What Python raises where a value has another kind, length or size than the one that is used."""


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is beyond all floats")
    return value


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"the name {twice[:40]!r} comes twice")
    return found


def _sync_folder(folder: Path) -> None:
    # Makes the new name survive a power cut. Windows and some network file systems cannot open
    # or sync a folder; the file itself is on the disk by now, so nothing is lost by going on.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

"""Files of torch's that hold plain values and tensors, read without trusting them."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
import zlib
from typing import Any

import torch

__all__ = ["load_plain"]

_UNZIPPING = (
    *(EOFError, NotImplementedError, OSError, RuntimeError, ValueError),
    *(struct.error, zipfile.BadZipFile, zlib.error),
)
_LOADING = (
    *(AssertionError, AttributeError, EOFError, ImportError, IndexError, KeyError, OSError),
    *(OverflowError, RuntimeError, TypeError, ValueError, pickle.UnpicklingError, struct.error),
)
"""What torch's reader raises where the bytes lead it astray; RecursionError is a RuntimeError."""


def load_plain(content: bytes) -> Any:
    """Return what `torch.save` wrote, on the processor: plain values and tensors, no code.

    Torch does not compare the checksums that it writes, so that a flipped bit would be another
    weight: here they are. Raises ValueError, without the file's name, for anything else.
    """
    _check_sums(content)
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except _LOADING as error:
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise ValueError(f"it is damaged or none: {reason}") from error


def _check_sums(content: bytes) -> None:
    """Raise ValueError for an archive whose parts are not those that were written."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            unpacked = sum(part.file_size for part in archive.infolist())
            if unpacked > len(content):  # torch compresses nothing
                raise ValueError(f"it unpacks to {unpacked:,} bytes")
            broken = archive.testzip()
    except _UNZIPPING as error:
        raise ValueError(f"it is damaged or none: {error}") from error
    if broken is not None:
        raise ValueError(f"it is damaged or none: the checksum of {broken[:80]!r} does not fit")

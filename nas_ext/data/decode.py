"""One image file as uint8 pixels."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Mode = Literal["L", "RGB", "RGBA"]

BROKEN = (
    *(OSError, SyntaxError, ValueError, EOFError, struct.error, IndexError),
    Image.DecompressionBombError,
)
"""What Pillow's readers raise for broken files."""


@dataclass(frozen=True)
class Format:
    """Say what an image holds: its size (height, width), and the fewest channels that fit it."""

    size: tuple[int, int]
    mode: Mode


def probe(path: Path) -> Format:
    """Read an image's size and mode; its pixels only where the mode depends on them.

    Raises ValueError, with the file's name, for a file that is no image.
    """
    with _opened(path) as image:
        return format_of(image)


def decode(path: Path, mode: Mode, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Read an image as pixels `[C, H, W]`, resized bilinearly where its size is another.

    Raises ValueError, with the file's name, for a broken image and for numbers that no range
    tells how to read (float pixels, or integers beyond 16 bit).
    """
    with _opened(path) as image:
        return pixels_of(image, mode, size)


def format_of(image: Image.Image) -> Format:
    """Return an open image's size and mode."""
    return Format((image.height, image.width), _mode(image))


def pixels_of(image: Image.Image, mode: Mode, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return an open image's pixels `[C, H, W]`, as `decode` does."""
    wide = image.mode.startswith("I") or image.mode == "F"
    pixels = (_to_8_bit(image) if wide else image).convert(mode)
    height, width = size
    if pixels.size != (width, height):
        pixels = pixels.resize((width, height), Image.Resampling.BILINEAR)
    array = np.asarray(pixels)
    return array[None] if mode == "L" else array.transpose(2, 0, 1)


def mode_for(formats: Sequence[Format]) -> Mode:
    """Return the mode of a data set: its images' where they share one, else RGB."""
    first = formats[0].mode
    return first if all(form.mode == first for form in formats) else "RGB"


def _mode(image: Image.Image) -> Mode:
    if image.mode in ("1", "L") or image.mode.startswith("I") or image.mode == "F":
        return "L"
    if image.mode == "LA":
        alpha = np.asarray(image)[..., 1]
        return "L" if bool((alpha == 255).all()) else "RGBA"
    if image.mode in ("RGBA", "PA"):
        return "RGBA"
    return "RGBA" if image.mode == "P" and "transparency" in image.info else "RGB"


def _to_8_bit(image: Image.Image) -> Image.Image:
    # Pillow's own convert("L") cuts these modes off at 255.
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise ValueError(f"pixels of mode {image.mode!r} have no known range; save it as 8 bit")
    return Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            yield image
    except BROKEN as error:
        raise ValueError(f"{path} is not a readable image: {error}") from error

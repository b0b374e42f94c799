"""One image file as uint8 pixels."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Mode = Literal["L", "RGB", "RGBA"]


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
        return Format((image.height, image.width), _mode(image))


def decode(path: Path, mode: Mode, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Read an image as pixels `[C, H, W]`, resized bilinearly where its size is another.

    Raises ValueError, with the file's name, for a broken image and for numbers that no range
    tells how to read (float pixels, or integers beyond 16 bit).
    """
    with _opened(path) as image:
        wide = image.mode.startswith("I") or image.mode == "F"
        pixels = (_to_8_bit(image) if wide else image).convert(mode)
        height, width = size
        if pixels.size != (width, height):
            pixels = pixels.resize((width, height), Image.Resampling.BILINEAR)
        array = np.asarray(pixels)
    return array[None] if mode == "L" else array.transpose(2, 0, 1)


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
    # What Pillow's readers raise for broken files.
    broken = (OSError, SyntaxError, ValueError, EOFError, struct.error, IndexError)
    try:
        with Image.open(path) as image:
            yield image
    except (*broken, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} is not a readable image: {error}") from error

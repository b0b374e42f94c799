"""Files of torch's are read whole, as plain values and tensors, or refused."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from nas_ext.tensor_files import load_plain


def saved(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def test_plain_values_and_tensors_are_read_as_they_were() -> None:
    value, tensor = [1, 2.5, None, "x"], torch.arange(6).reshape(2, 3)
    read = load_plain(saved({"a": value, "t": tensor}))
    assert read["a"] == value
    assert torch.equal(read["t"], tensor)


def test_one_flipped_bit_of_a_tensor_is_found_by_its_checksum() -> None:
    content = bytearray(saved({"t": torch.ones(8)}))
    with zipfile.ZipFile(io.BytesIO(bytes(content))) as archive:
        (part,) = (p for p in archive.infolist() if "/data/0" in p.filename)
    # A local header is 30 bytes, then the name and the extra field (APPNOTE.TXT 4.3.7).
    name, extra = struct.unpack_from("<HH", content, part.header_offset + 26)
    content[part.header_offset + 30 + name + extra] ^= 1
    with pytest.raises(ValueError, match=r"damaged or none: the checksum of .*/data/0' does"):
        load_plain(bytes(content))


def test_an_archive_that_unpacks_to_more_than_it_has_is_refused() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 1_000_000)
    with pytest.raises(ValueError, match="it unpacks to 1,000,000 bytes"):
        load_plain(buffer.getvalue())


def test_code_is_not_run_and_other_contents_are_refused(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
            return Path.touch, (tmp_path / "executed",)

    whole = saved({"t": torch.ones(8)})
    for content in (
        *(b"", b"PK", b"\0" * 64, pickle.dumps(Bomb()), saved_bomb(Bomb())),
        *(whole[: len(whole) // 2], whole[9:]),
    ):
        with pytest.raises(ValueError, match="it is damaged or none"):
            load_plain(content)
    assert not list(tmp_path.iterdir())


def saved_bomb(bomb: object) -> bytes:
    """Return a whole archive of torch's, checksums and all, whose pickle runs code."""
    source, made = zipfile.ZipFile(io.BytesIO(saved({"t": torch.ones(1)}))), io.BytesIO()
    with source, zipfile.ZipFile(made, "w") as archive:
        for part in source.infolist():
            own = part.filename.endswith("data.pkl")
            archive.writestr(part.filename, pickle.dumps(bomb) if own else source.read(part))
    return made.getvalue()

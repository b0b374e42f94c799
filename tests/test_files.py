"""Files written whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from nas_ext.files import read_json, write_bytes, write_json, write_text


def test_json_comes_back_as_it_was_written_in_its_own_order(tmp_path: Path) -> None:
    value = {"b": [1, 2.5, None, True], "a": {"ü": "é"}}
    write_json(tmp_path / "deep" / "er" / "x.json", value)
    back = read_json(tmp_path / "deep" / "er" / "x.json")
    assert back == value
    assert list(back) == ["b", "a"]


def test_text_keeps_its_line_ends(tmp_path: Path) -> None:
    write_text(tmp_path / "x.txt", "one\r\ntwo\n")
    assert (tmp_path / "x.txt").read_bytes() == b"one\r\ntwo\n"


def test_a_second_write_replaces_the_first_and_leaves_nothing_else(tmp_path: Path) -> None:
    write_bytes(tmp_path / "x", b"old")
    write_bytes(tmp_path / "x", b"new")
    assert (tmp_path / "x").read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["x"]


def test_a_failed_write_leaves_the_old_file_and_no_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bytes(tmp_path / "x", b"old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_bytes(tmp_path / "x", b"new")
    assert (tmp_path / "x").read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["x"]


@pytest.mark.skipif(os.name != "posix", reason="POSIX file permissions")
def test_a_written_file_has_the_permissions_of_an_ordinary_one(tmp_path: Path) -> None:
    (tmp_path / "ordinary").write_bytes(b"")
    write_bytes(tmp_path / "x", b"")
    assert (tmp_path / "x").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_a_name_of_the_longest_allowed_length_can_be_written(tmp_path: Path) -> None:
    name = "n" * 255  # NAME_MAX on Linux and macOS: a longer temporary name would fail
    write_bytes(tmp_path / name, b"x")
    assert (tmp_path / name).read_bytes() == b"x"


@pytest.mark.parametrize("value", [float("nan"), [float("inf")], {1, 2}, {"a": object()}, b"x"])
def test_a_value_that_json_cannot_hold_is_refused_and_nothing_is_written(
    tmp_path: Path, value: object
) -> None:
    with pytest.raises(ValueError, match=r"x\.json must be plain JSON"):
        write_json(tmp_path / "x.json", value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not valid JSON"),
        (b'{"a": 1', "not valid JSON"),
        (b"[NaN]", "NaN is not a JSON number"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b"[" * 100_000, "not valid JSON"),
    ],
)
def test_a_broken_json_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "broken.json").write_bytes(content)
    with pytest.raises(ValueError, match=rf"broken\.json.*{message}"):
        read_json(tmp_path / "broken.json")


def test_a_missing_json_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.json does not exist"):
        read_json(tmp_path / "none.json")
    with pytest.raises(ValueError, match="cannot be read"):
        read_json(tmp_path)


def test_the_file_is_ordinary_json(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"a": (1, 2)})
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"a": [1, 2]}
    assert text.endswith("\n")

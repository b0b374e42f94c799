"""The page is whole, safe and complete in itself."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from matplotlib.figure import Figure as Drawing

from nas_ext.report import Figure, Section, Table, Text, render, write

Read: TypeAlias = Callable[[str], Any]

EVIL = "<script>alert('x')</script> & \"quotes\""


def drawing() -> Drawing:
    figure = Drawing(figsize=(1, 1))
    figure.subplots()
    return figure


def test_a_page_is_balanced_html_with_a_table_of_contents(read: Read) -> None:
    sections: list[Section] = [
        Text("First", ("one", "two")),
        Table("Second & last", ("a", "b"), (("x", "1.0"), ("y", "2,000")), "a note"),
        Figure("Third", drawing(), "a caption"),
        Text("First", ()),
    ]
    text = render("The title", sections)
    assert text.startswith("<!DOCTYPE html>\n")
    page = read(text)
    assert page.found["href"] == [f"#{anchor}" for anchor in page.found["id"]]
    assert len(set(page.found["id"])) == 4
    assert all(re.fullmatch(r"s\d+(-[a-z0-9]+)*", anchor) for anchor in page.found["id"])
    assert page.tags["h1"] == 1
    assert page.tags["h2"] == page.tags["section"] == page.tags["li"] == 4
    assert page.tags["p"] == 3
    assert page.cells == [["a", "b"], ["x", "1.0"], ["y", "2,000"]]
    assert page.found["alt"] == ["a caption"]
    assert 'name="viewport"' in text
    assert "color-scheme: light dark" in text


def test_figures_lie_in_the_page_as_png_images(read: Read) -> None:
    (source,) = read(render("Title", [Figure("A figure", drawing(), "")])).found["src"]
    kind, image = source.split(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(image, validate=True)[:8] == b"\x89PNG\r\n\x1a\n"


def test_every_text_of_a_page_is_escaped(read: Read) -> None:
    sections: list[Section] = [
        Text(EVIL, (EVIL,)),
        Table(EVIL, (EVIL,), ((EVIL,),), EVIL),
        Figure(EVIL, drawing(), EVIL),
    ]
    text = render(EVIL, sections)
    page = read(text)
    assert "script" not in page.tags
    assert "<script" not in text
    # title, h1, three times contents and h2, paragraph, head, cell, note, caption
    assert page.words.count(EVIL) == 13
    assert page.found["alt"] == [EVIL]


def test_only_columns_of_numbers_stand_on_the_right() -> None:
    rows = (("1,000", "0.5", "12.3 M", "5", ""), ("20", "x", "", "-6.1 %", ""))
    text = render("t", [Table("h", ("a", "b", "c", "d", "e"), rows)])
    assert re.findall(r'<td class="number">([^<]*)<', text) == [
        *("1,000", "12.3 M", "5"),
        *("20", "", "-6.1 %"),
    ]


def test_pages_and_tables_refuse_what_has_no_form(read: Read) -> None:
    with pytest.raises(ValueError, match=r"sections must not be empty, got \[\]"):
        render("t", [])
    with pytest.raises(ValueError, match=r"rows of table 'h' must have 2 cells, got \('a',\)"):
        Table("h", ("a", "b"), (("a",),))
    assert read(render("Title", [Table("h", ("a", "b"), ())])).cells == [["a", "b"]]


def test_a_page_is_written_as_it_is_rendered(tmp_path: Path) -> None:
    sections = [Text("Ü", ("é",))]
    write(tmp_path / "new" / "page.html", "t", sections)
    assert (tmp_path / "new" / "page.html").read_text(encoding="utf-8") == render("t", sections)

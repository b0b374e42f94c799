"""One HTML page of texts, tables and figures, complete in itself."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from matplotlib.figure import Figure as Drawing

from nas_ext import plots
from nas_ext.files import write_text


@dataclass(frozen=True)
class Text:
    """Hold paragraphs of plain text under a heading."""

    heading: str
    paragraphs: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """Hold rows of text; columns of numbers stand on the right.

    Raises ValueError for a row with another number of cells than there are columns.
    """

    heading: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"rows of table {self.heading!r} must have {len(self.columns)} cells, "
                    f"got {row}"
                )


@dataclass(frozen=True, eq=False)
class Figure:
    """Hold a figure, and the caption that says what it shows."""

    heading: str
    figure: Drawing
    caption: str


Section: TypeAlias = Text | Table | Figure


_STYLE = """
:root { color-scheme: light dark; --line: #8886; --soft: #8881; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 0 auto; padding: 1rem; }
h1 { line-height: 1.2; } h2 { margin-top: 2.2rem; line-height: 1.25; }
nav ul { padding-left: 1.2rem; columns: 16rem; }
p, td, li, h1, h2, figcaption { overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.92rem; }
th, td { padding: 0.25rem 0.7rem; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; }
td:not(.number) { min-width: 7rem; }
thead th { background: var(--soft); }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
figure { margin: 0; } img { max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
figcaption, .note { font-size: 0.92rem; opacity: 0.85; }
@media print { body { max-width: none; font-size: 11pt; } figure, tr { break-inside: avoid; }
  h2 { break-after: avoid; } .wide { overflow: visible; } }
"""

_NUMBER = re.compile(r"[-+]?\d[\d,]*(\.\d+)?( (%|M|s))?")


def render(title: str, sections: Sequence[Section]) -> str:
    """Return an HTML page that needs no other file, network or script.

    Figures are PNG images inside the page; all texts are escaped. Raises ValueError without any
    section.
    """
    if not sections:
        raise ValueError("sections must not be empty, got []")
    anchors = [_anchor(place, section.heading) for place, section in enumerate(sections, 1)]
    contents = "\n".join(
        f'<li><a href="#{anchor}">{_escaped(section.heading)}</a></li>'
        for anchor, section in zip(anchors, sections, strict=True)
    )
    body = "\n".join(
        f'<section id="{anchor}">\n<h2>{_escaped(section.heading)}</h2>\n{_body(section)}\n'
        "</section>"
        for anchor, section in zip(anchors, sections, strict=True)
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_escaped(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{_escaped(title)}</h1>\n<nav>\n<ul>\n{contents}\n</ul>\n</nav>\n"
        f"<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def write(path: str | Path, title: str, sections: Sequence[Section]) -> None:
    """Write the page of `render`, whole or not at all."""
    write_text(path, render(title, sections))


def _escaped(text: str) -> str:
    return html.escape(text, quote=True)


def _anchor(place: int, heading: str) -> str:
    words = re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-")
    return f"s{place}-{words}".rstrip("-")


def _body(section: Section) -> str:
    if isinstance(section, Text):
        return "\n".join(f"<p>{_escaped(paragraph)}</p>" for paragraph in section.paragraphs)
    if isinstance(section, Table):
        return _table(section)
    image = base64.b64encode(plots.to_png(section.figure)).decode("ascii")
    caption = _escaped(section.caption)
    return (
        f'<figure>\n<img src="data:image/png;base64,{image}" alt="{caption}">\n'
        f"<figcaption>{caption}</figcaption>\n</figure>"
    )


def _table(table: Table) -> str:
    columns = list(zip(*table.rows, strict=True)) or [()] * len(table.columns)
    numbers = [
        any(cells) and all(cell == "" or _NUMBER.fullmatch(cell) for cell in cells)
        for cells in columns
    ]
    heads = _cells("th", table.columns, numbers)
    rows = "\n".join(f"<tr>{_cells('td', row, numbers)}</tr>" for row in table.rows)
    note = f'\n<p class="note">{_escaped(table.note)}</p>' if table.note else ""
    return (
        f'<div class="wide"><table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n'
        f"</table></div>{note}"
    )


def _cells(tag: str, texts: Sequence[str], numbers: Sequence[bool]) -> str:
    kinds = [' class="number"' if number else "" for number in numbers]
    return "".join(
        f"<{tag}{kind}>{_escaped(text)}</{tag}>" for text, kind in zip(texts, kinds, strict=True)
    )


def setting_text(value: Any) -> str:
    """Return a setting as people write it, floats with six digits."""
    if value is None:
        return "none"
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return json.dumps(value)
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"


def image_count(images: Mapping[str, int] | None, name: str) -> str:
    """Return how many images a set has, as "n = 673 images"; nothing where that is unknown."""
    return "" if images is None or name not in images else f"n = {images[name]:,} images"

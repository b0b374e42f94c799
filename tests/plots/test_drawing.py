"""What all figures share: nothing is cut off, files, names, refusals."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from nas_ext import plots
from nas_ext.architecture import SearchSpace
from nas_ext.benchmarks import pooling_table
from nas_ext.plots.drawing import millions
from nas_ext.results import SearchResult

TABLE = pooling_table()
TRIALS = (
    *((0, 0.90, "COMPLETE"), (1, 0.92, "COMPLETE"), (2, 0.895, "PRUNED")),
    *((3, 0.0, "PRUNED"), (4, None, "FAIL")),
)


@pytest.fixture
def figures(
    pooling: SearchResult, big: SearchResult, big_space: SearchSpace, one: SearchResult
) -> dict[str, Figure]:
    """Figures of all kinds, also with names too long for them."""
    long = 4 * "a-very-long-name-of-a-network-that-somebody-thought-of"
    return {
        "shares": plots.sampling_shares(pooling, space=TABLE.space),
        "many shares": plots.sampling_shares(big, space=big_space),
        "rewards": plots.reward_curve(pooling),
        "tree": plots.dendrogram(pooling, space=TABLE.space),
        "folded tree": plots.dendrogram(big, space=big_space),
        "ranking": plots.ranking(pooling),
        "long ranking": plots.ranking(big),
        "one ranked": plots.ranking(one),
        "seeds": plots.seeds({long: [0.9, 0.91], "b": [0.95]}),
        "history": plots.study_history({long: TRIALS}),
        "macs": plots.accuracy_against_macs({long: (1e6, [0.9, 0.91]), "b": (2e6, [0.95])}),
    }


def test_no_text_of_any_figure_is_cut_off(figures: dict[str, Figure]) -> None:
    for name, figure in figures.items():
        canvas = FigureCanvasAgg(figure)
        canvas.draw()  # type: ignore[no-untyped-call]  # matplotlib leaves it untyped
        renderer = canvas.get_renderer()  # type: ignore[no-untyped-call]  # this too
        width, height = figure.bbox.width, figure.bbox.height
        for text in figure.findobj(Text):
            assert isinstance(text, Text)
            box = text.get_window_extent(renderer)
            if not text.get_visible() or not text.get_text() or not _shown(text, figure):
                continue
            inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1
            assert inside, f"{name}: {text.get_text()!r} at {box}"


def _shown(text: Text, figure: Figure) -> bool:
    """Say whether a text is not a tick label that matplotlib keeps outside the limits."""
    for axes in [*figure.axes, *(child for a in figure.axes for child in a.child_axes)]:
        for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            for tick in axis.get_major_ticks():
                if text in (tick.label1, tick.label2):
                    return min(limits) <= tick.get_loc() <= max(limits)
    return True


def test_a_png_is_704_pixels_wide_and_the_same_for_the_same_figure(
    pooling: SearchResult,
) -> None:
    image = plots.to_png(plots.ranking(pooling))
    assert image[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">I", image[16:20]) == (704,)
    assert plots.to_png(plots.ranking(pooling)) == image


def test_figures_are_saved_by_the_ending_of_the_file(tmp_path: Path, one: SearchResult) -> None:
    starts = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}
    for ending, start in starts.items():
        plots.save(plots.ranking(one), tmp_path / "deep" / f"figure.{ending}")
        assert (tmp_path / "deep" / f"figure.{ending}").read_bytes().startswith(start)
    with pytest.raises(ValueError, match=r"path must end in .png, .svg or .pdf, got figure.jpg"):
        plots.save(plots.ranking(one), "figure.jpg")


def test_names_that_look_like_mathematics_are_drawn_as_they_are(one: SearchResult) -> None:
    line = replace(one.ranking[0], name=r"$\frac{a$ and $x_1")
    figure = plots.ranking(replace(one, ranking=(line,)))
    assert plots.to_png(figure)
    assert plots.to_png(plots.seeds({r"$\frac{$": [0.9]}))


@pytest.mark.parametrize(
    ("macs", "text"),
    [
        (9_876_543_210, "9,876.5 M"),
        (12_345_678, "12.3 M"),
        (1_000_000, "1.0 M"),
        (999_999, "1.0 M"),
        (67_000, "0.067 M"),
        (100_000, "0.10 M"),
        (640, "0.00064 M"),
        (12, "0.000012 M"),
        (0, "0.0 M"),
    ],
)
def test_macs_below_a_million_have_two_significant_digits(macs: int, text: str) -> None:
    assert millions(macs) == text


def test_drawing_does_not_import_pyplot_torch_or_nni() -> None:
    script = (
        "import sys\n"
        "from nas_ext import plots\n"
        "plots.to_png(plots.seeds({'a': [0.9, 0.91]}))\n"
        "print([m for m in ('matplotlib.pyplot', 'torch', 'nni', 'optuna') if m in sys.modules])\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert run.stdout == "[]\n"


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda r: plots.sampling_shares(r, windows=0), "windows must be at least 1, got 0"),
        (lambda r: plots.sampling_shares(replace(r, draws=())), "draws of the result must not be"),
        (lambda r: plots.reward_curve(r, window=0), "window must be at least 1, got 0"),
        (lambda r: plots.dendrogram(r, leaves=1), r"leaves must lie in \[2, 300\], got 1"),
        (lambda r: plots.ranking(r, top=0), "top must be at least 1, got 0"),
        (lambda r: plots.ranking(replace(r, ranking=())), "ranking of the result must not be"),
        (lambda r: plots.seeds({}), "accuracies must not be empty"),
        (lambda r: plots.seeds({"a": []}), "accuracies of 'a' must not be empty"),
        (lambda r: plots.study_history({}), "studies must not be empty"),
        (
            lambda r: plots.study_history({"a": [(0, None, "RUNNING")]}),
            "study 'a' must have a complete or pruned trial",
        ),
        (lambda r: plots.accuracy_against_macs({}), "networks must not be empty"),
        (lambda r: plots.accuracy_against_macs({"a": (1.0, [])}), "networks of 'a' must not be"),
    ],
)
def test_figures_refuse_what_they_cannot_show(
    pooling: SearchResult, draw: Callable[[SearchResult], Figure], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        draw(pooling)

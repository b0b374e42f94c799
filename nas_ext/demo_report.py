"""The demonstration's report: one page, from what was found to whether it means anything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from nas_ext import plots
from nas_ext.compare import mean_interval
from nas_ext.demo import Demo
from nas_ext.plots.drawing import millions
from nas_ext.report import (
    Figure,
    Section,
    Table,
    Text,
    read_retraining,
    retrain_sections,
    search_sections,
    write,
)
from nas_ext.spaces import create

__all__ = ["write_demo_report"]


def write_demo_report(out: str | Path, demo: Demo) -> Path:
    """Write report.html for a demonstration, and return its path."""
    path = Path(out) / "report.html"
    write(path, "nas-ext: a demonstration on handwritten digits", list(_sections(demo)))
    return path


def _sections(demo: Demo) -> Iterator[Section]:
    found = demo.picks["learned-tree"]
    yield Text(
        "What happened",
        (
            f"LearnedTree searched {demo.searches['learned-tree'].space['size']} placements of "
            f"two poolings in a small residual network on scikit-learn's 8 x 8 digits, inside a "
            f"real NNI experiment, with {demo.settings.steps} training passes. It found "
            f"{found.name}.",
            *demo.sentences,
            f"Everything was computed in {demo.seconds:.0f} seconds with seed "
            f"{demo.settings.seed}. Digits are easy and the budget is tiny: this page shows how "
            "the pieces work together, and is no evidence for or against a method.",
        ),
    )
    yield _competitors(demo)
    yield Figure(
        "Every pick, trained alone",
        plots.seeds(_labelled(demo)),
        "Test accuracy of each picked architecture, trained from scratch with the published "
        "recipe on all search images. Each dot is one seed, judged once on the test set; bars "
        "are 95 % intervals of the mean.",
    )
    costs = {
        pick.name: (float(pick.macs), demo.alone[pick.name])
        for pick in demo.picks.values()
        if pick.macs is not None
    }
    yield Figure(
        "Accuracy against cost",
        plots.accuracy_against_macs(costs),
        "The same trainings against multiply-accumulates of one image.",
    )
    yield _spent(demo)
    result = demo.searches["learned-tree"]
    space = create(**dict(result.space["arguments"])).search_space
    for section in search_sections(result, space=space):
        yield replace(section, heading=f"LearnedTree: {section.heading.lower()}")
    retrainings = [read_retraining(r.folder) for r in demo.retrained.values()]
    for section in retrain_sections(retrainings, images=result.data.get("images")):
        yield replace(section, heading=f"Retraining: {section.heading}")


def _labelled(demo: Demo) -> dict[str, tuple[float, ...]]:
    labels: dict[str, list[str]] = {}
    for who, pick in demo.picks.items():
        labels.setdefault(pick.name, []).append(who)
    return {f"{name} {', '.join(labels[name])}": values for name, values in demo.alone.items()}


def _competitors(demo: Demo) -> Table:
    rows = []
    for who, pick in demo.picks.items():
        tested = mean_interval(demo.alone[pick.name])
        interval = f"[{100 * tested.low:.1f}, {100 * tested.high:.1f}]"
        macs = "" if pick.macs is None else millions(pick.macs)
        rows.append((who, pick.name, f"{100 * tested.mean:.1f}", interval, macs))
    tau = demo.correlations["uniform ~ nni-random-oneshot"]
    return Table(
        "Who picked what",
        ("competitor", "architecture", "test accuracy, %", "95 % interval", "macs"),
        tuple(rows),
        f"Test accuracy over {demo.settings.seeds} seeds with the same published recipe. NNI "
        "exports an arbitrary architecture from its supernet; the line above it ranks that "
        "supernet as Uniform's is ranked. The last two lines searched nothing. The two uniformly "
        f"trained supernets agree on the ranking with Kendall's tau {tau:.2f} (21 architectures).",
    )


def _spent(demo: Demo) -> Table:
    rows = []
    for name, result in demo.searches.items():
        budget = result.budget
        rows.append(
            (
                name,
                f"{budget.train_passes:,}",
                f"{budget.reward_passes:,}",
                f"{budget.output_passes:,}",
                f"{budget.evaluated:,}",
                f"{budget.seconds:.1f}",
            )
        )
    return Table(
        "What each search spent",
        ("search", "passes", "rewards", "outputs", "ranked", "seconds"),
        tuple(rows),
        "Passes: training passes, equal by construction. Rewards (of one validation batch each) "
        "and outputs (of one architecture each) are LearnedTree's extra. Ranked: architectures.",
    )

"""The page about a comparison: who did how well, how sure that is, and what it was run with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nas_ext.benchmarks import Table as Truth
from nas_ext.compare import Interval
from nas_ext.comparison import (
    DIAGNOSTICS,
    METRICS,
    Comparison,
    Judged,
    contrasts,
    summaries,
)
from nas_ext.comparison.metrics import Metric
from nas_ext.comparison.outcome import TESTED
from nas_ext.comparison.statistics import Contrast, average_ranks, having
from nas_ext.plots.comparisons import critical_difference, intervals
from nas_ext.references import noise_ceiling, references
from nas_ext.report.page import Figure, Section, Table, Text, setting_text, write

__all__ = [
    "comparison_sections",
    "points_of",
    "reference_lines",
    "scaled",
    "write_comparison_report",
]


def write_comparison_report(
    path: str | Path,
    comparison: Comparison,
    table: Truth,
    judged: Sequence[Judged],
    *,
    reference: str,
) -> None:
    """Write the page, whole or not at all."""
    sections = comparison_sections(comparison, table, judged, reference=reference)
    write(path, f"Comparison on {table.name}", sections)


def comparison_sections(
    comparison: Comparison, table: Truth, judged: Sequence[Judged], *, reference: str
) -> list[Section]:
    """Return tables and figures of a comparison, differences taken to `reference`."""
    found = summaries(judged)
    sections: list[Section] = [_what_was_done(comparison, table, reference)]
    for metric in METRICS:
        if metric.name not in TESTED:
            continue
        with_it = having(judged, metric.name)
        known = {one.competitor for one in with_it}
        means = {s.competitor: s.means[metric.name] for s in found if s.competitor in known}
        points = points_of(with_it, metric)
        lines = reference_lines(table, metric)
        caption = (
            f"{metric.heading}: {'more' if metric.higher_is_better else 'less'} is better. "
            f"n = {len(comparison.seeds)} seeds each. "
            "Lines: what needs no search, and, for tau, the ceiling."
        )
        drawing = intervals(
            {name: scaled(mean, metric) for name, mean in means.items()},
            points,
            title=f"{metric.heading} on {table.name}",
            label=metric.heading,
            references=lines,
        )
        sections.append(Figure(metric.heading, drawing, caption))
        if len(means) > 2:
            sections.append(_ranks(with_it, metric))
        if len(means) > 1 and reference in means:
            tested = contrasts(with_it, reference=reference, metric=metric.name)
            sections.append(_contrast_table(tested, metric, reference))
    note = "Means over the seeds with the half-width of Student's 95 % interval."
    sections += [
        _means_table(found, "All numbers", METRICS, note),
        _means_table(found, "What was trained", DIAGNOSTICS, f"{note} {_DIAGNOSED}"),
        _reference_table(table),
        _settings(comparison),
    ]
    return sections


def scaled(mean: Interval, metric: Metric) -> Interval:
    """Return an interval in the unit that the metric is printed in."""
    f = metric.scale
    return Interval(f * mean.mean, f * mean.low, f * mean.high, f * mean.deviation, mean.n)


def reference_lines(table: Truth, metric: Metric) -> dict[str, float]:
    """Return what a random choice, counting macs, and the ceiling reach by a metric."""
    known, ceiling = references(table), noise_ceiling(table)
    if metric.name == "tau":
        lines = {"random choice": 0.0}
        if "most macs" in known:
            lines["counting macs"] = known["most macs"]["tau"]["mean"]
        if ceiling is not None:
            lines["one training of each network"] = ceiling.tau
        return lines
    return {
        {"most macs": "counting macs"}.get(name, name): metric.scale * values[metric.name]
        for name, values in known.items()
        if name in ("random choice", "most macs") and metric.name in values
    }


def points_of(judged: Sequence[Judged], metric: Metric) -> dict[str, list[float]]:
    """Return a metric's values of every competitor, a number a seed, in the printed unit."""
    points: dict[str, list[float]] = {}
    for one in judged:
        value = one.values[metric.name]
        if value is not None:
            points.setdefault(one.competitor, []).append(metric.scale * value)
    return points


def _what_was_done(comparison: Comparison, table: Truth, reference: str) -> Text:
    training, seeds = comparison.training, len(comparison.seeds)
    first = (
        f"{len(comparison.competitors)} competitors searched {table.space.name} "
        f"({table.space.size:,} architectures) on {comparison.data}, {training.steps:,} training "
        f"passes each, with {seeds} seeds. Of one seed they share initial weights and the order "
        "of the training images; rewards and rankings read validation images only."
    )
    second = (
        f"Ground truth: {table.source}. Differences are to {reference}, paired by seed, with a "
        "bootstrap interval over the seeds and Wilcoxon's test after Holm's correction over the "
        "competitors. What is not significant there is not more than the noise of seeds."
    )
    third = (
        "The truth has noise of its own: the ceiling is how well one training of every network "
        "ranks them as another training does."
    )
    return Text("What was compared", (first, second, third))


def _ranks(judged: Sequence[Judged], metric: Metric) -> Figure:
    ranks = average_ranks(judged, metric=metric.name)
    drawing = critical_difference(
        ranks.ranks,
        ranks.critical_difference,
        title=f"Average ranks by {metric.heading}",
        n=ranks.n,
    )
    caption = (
        f"Rank 1 is the best of a seed; a bar joins what Nemenyi's test does not tell apart at "
        f"0.05. Friedman's test of all being equal: p = {ranks.p_value:.2g}."
    )
    return Figure(f"Average ranks by {metric.heading}", drawing, caption)


def _contrast_table(tested: Sequence[Contrast], metric: Metric, reference: str) -> Table:
    f, d = metric.scale, metric.digits
    rows = tuple(
        (
            one.competitor,
            f"{f * one.mean:+.{d}f}",
            f"[{f * one.low:+.{d}f}, {f * one.high:+.{d}f}]",
            f"{one.p_value:.3f}",
            f"{one.adjusted:.3f}",
            "yes" if one.significant else "no",
        )
        for one in tested
    )
    heads = ("competitor", "difference", "95 % interval", "p", "p (Holm)", "more than noise")
    return Table(f"{metric.heading}: differences to {reference}", heads, rows)


_DIAGNOSED = (
    "Correlations are over the architectures: how often each was trained against what its "
    "supernet says of it, and against the truth; uniform draws put about 20 % on each fifth. "
    "Density and truth: positive where the architectures that are alike are the good ones."
)


def _means_table(found: Sequence[Any], title: str, metrics: Sequence[Metric], note: str) -> Table:
    rows = []
    for one in found:
        cells = [one.competitor]
        for metric in metrics:
            mean = one.means.get(metric.name)
            cells.append(
                ""
                if mean is None
                else f"{metric.scale * mean.mean:.{metric.digits}f} "
                f"+- {metric.scale * (mean.high - mean.mean):.{metric.digits}f}"
            )
        rows.append(tuple(cells))
    return Table(title, ("competitor", *(m.heading for m in metrics)), tuple(rows), note)


def _reference_table(table: Truth) -> Table:
    rows = []
    for name, values in references(table).items():
        tau = values.get("tau")
        rows.append(
            (
                name,
                str(values["found"] or ""),
                f"{100 * values['accuracy']:.2f}",
                f"{100 * values['regret']:.2f}",
                "" if tau is None else f"{tau['mean']:.2f}",
            )
        )
    heads = ("choice", "found", "accuracy, %", "regret, points", "tau")
    return Table("Without a search", heads, tuple(rows))


def _settings(comparison: Comparison) -> Table:
    training: Mapping[str, Any] = vars(comparison.training)
    rows = [("space", setting_text(dict(comparison.space)))]
    rows += [(name, setting_text(value)) for name, value in training.items()]
    rows += [("seeds", setting_text(list(comparison.seeds)))]
    rows += [(one.label, setting_text(_flat(one.described()))) for one in comparison.competitors]
    return Table("Settings", ("name", "value"), tuple(rows))


def _flat(described: Mapping[str, Any]) -> dict[str, Any]:
    """Return a competitor's description with its settings beside the rest."""
    rest = {name: value for name, value in described.items() if name != "settings"}
    return {**rest, **described["settings"]}

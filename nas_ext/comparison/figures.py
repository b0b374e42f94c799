"""The figures of an experiment: tau, regret, supernets against the truth, density against it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from nas_ext.benchmarks import Table
from nas_ext.comparison.left import law_of, scores_of
from nas_ext.comparison.metrics import METRICS, Judged, Metric
from nas_ext.comparison.outcome import TESTED
from nas_ext.comparison.runner import Comparison
from nas_ext.comparison.statistics import having, summaries
from nas_ext.plots.comparisons import intervals, scatters
from nas_ext.plots.drawing import save
from nas_ext.report.comparison import points_of, reference_lines, scaled

__all__ = ["write_figures"]

ENDINGS = ("svg", "png")


def write_figures(
    folder: Path,
    comparison: Comparison,
    table: Table,
    judged: Sequence[Judged],
    *,
    searches: Path,
) -> None:
    """Write tau, regret, scores and density as SVG and PNG; what does not apply is left out."""
    figures: dict[str, Figure] = {}
    for metric in METRICS:
        if metric.name in TESTED:
            figures[metric.name] = _intervals(table, having(judged, metric.name), metric)
    figures |= _against_truth(comparison, table, searches)
    for name, figure in figures.items():
        for ending in ENDINGS:
            save(figure, folder / f"{name}.{ending}", dpi=150)


def _intervals(table: Table, judged: Sequence[Judged], metric: Metric) -> Figure:
    means = {s.competitor: scaled(s.means[metric.name], metric) for s in summaries(judged)}
    seeds = len({one.seed for one in judged})
    return intervals(
        means,
        points_of(judged, metric),
        title=f"{metric.heading} on {table.name}, {seeds} seeds each",
        label=metric.heading,
        references=reference_lines(table, metric),
    )


def _against_truth(comparison: Comparison, table: Table, searches: Path) -> dict[str, Figure]:
    known = list(table.accuracies)
    truth = [100 * table.accuracies[a] for a in known]
    scores: dict[str, list[list[float]]] = {}
    shares: dict[str, list[list[float]]] = {}
    for competitor in comparison.competitors:
        for seed in comparison.seeds:
            found = scores_of(searches, competitor, seed)
            if found is not None:
                unit = 1 if competitor.mixes else 100
                row = [unit * found[a] for a in known]
                scores.setdefault(competitor.label, []).append(row)
            law = law_of(searches, competitor, seed)
            if law is not None:
                row = [100 * law[a] for a in known]
                shares.setdefault(competitor.label, []).append(row)
    label = "true accuracy, %"
    figures = {}
    if scores:
        figures["scores"] = scatters(
            truth,
            scores,
            title=f"What supernets say on {table.name}: accuracy on shared weights in %, of "
            "mixtures the log of the product; mean and deviation over the seeds",
            truth_label=label,
            label="supernet's score",
        )
    if shares:
        figures["density"] = scatters(
            truth,
            shares,
            title=f"Who is drawn for being unlike the rest on {table.name}: the less dense, the "
            "higher; mean and deviation over the seeds",
            truth_label=label,
            label="share of the draws, %",
        )
    return figures

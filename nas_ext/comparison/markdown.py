"""The numbers of a study as Markdown tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nas_ext.comparison.metrics import DIAGNOSTICS, METRICS, Metric
from nas_ext.comparison.outcome import TESTED

__all__ = ["as_markdown"]


def as_markdown(values: Mapping[str, Any]) -> str:
    """Return tables of a study's `result.json`: each with n, intervals, references and ceiling."""
    parts = [_truths(values)]
    parts += [_experiment(name, found) for name, found in values["experiments"].items()]
    if values["again"]:
        parts.append(_again(values["again"]))
    return "\n\n".join(parts) + "\n"


def _rows(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [" | ".join(heads), " | ".join(["---", *["--:"] * (len(heads) - 1)])]
    lines += [" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def _truths(values: Mapping[str, Any]) -> str:
    heads = ("table", "networks", "seeds", "measured again", "tau of the means", "ceiling")
    rows = []
    for name, table in values["tables"].items():
        agreed = table["agreement"]
        settings = table["settings"] or {}
        cells = [name, str(table["size"]), str(settings.get("seeds", ""))]
        if agreed is None:
            cells += ["no", "", ""]
        else:
            said = "agrees" if agreed["agrees"] else "does not agree"
            same = f"{said}; {agreed['identical']} of {agreed['trainings']} trainings identical"
            ceiling = "" if agreed["ceiling"] is None else f"{agreed['ceiling']:.2f}"
            cells += [same, f"{agreed['tau']:.2f}", ceiling]
        rows.append(cells)
    return f"## Ground truths\n\n{_rows(heads, rows)}\n\nThe rule: {values['rule']}."


def _experiment(name: str, found: Mapping[str, Any]) -> str:
    asked = found["experiment"]
    last = asked["first_seed"] + asked["seeds"] - 1
    ceiling = found["ceiling"]
    known = "" if ceiling is None else f" The ceiling of tau is {ceiling['tau']:.2f}."
    text = (
        f"## {name}\n\n{asked['question']}\n\n"
        f"{found['table']}, {asked['budget']:,} training passes, seeds {asked['first_seed']} to "
        f"{last} (n = {asked['seeds']}); differences are to {found['reference']}, paired by seed, "
        "with a bootstrap interval and Wilcoxon's p after Holm's correction."
        f"{known} Settings chosen on: {found['chosen_on']}."
    )
    tested = [metric for metric in METRICS if metric.name in TESTED]
    heads = ["competitor"]
    for metric in tested:
        heads += [metric.heading, "difference", "p"]
    rows = [
        [label, *(cell for metric in tested for cell in _tested(label, means, metric, found))]
        for label, means in found["means"].items()
    ]
    rows += [_reference(label, row, tested) for label, row in found["references"].items()]
    return f"{text}\n\n{_rows(heads, rows)}\n\n{_diagnosed(found['means'])}"


def _tested(
    label: str, means: Mapping[str, Any], metric: Metric, found: Mapping[str, Any]
) -> list[str]:
    f, d = metric.scale, metric.digits
    mean = means.get(metric.name)
    if mean is None:
        return ["", "", ""]
    cells = [f"{f * mean['mean']:.{d}f} [{f * mean['low']:.{d}f}, {f * mean['high']:.{d}f}]"]
    for one in found["contrasts"].get(metric.name, []):
        if one["competitor"] == label:
            span = f"[{f * one['low']:+.{d}f}, {f * one['high']:+.{d}f}]"
            return [*cells, f"{f * one['mean']:+.{d}f} {span}", f"{one['adjusted']:.3f}"]
    return [*cells, "", ""]


def _reference(label: str, row: Mapping[str, Any], tested: Sequence[Metric]) -> list[str]:
    """Return the line of what needs no search; its tau is over the architectures."""
    cells = [f"*{label}*"]
    for metric in tested:
        value = row.get(metric.name)
        value = value["mean"] if isinstance(value, Mapping) else value
        text = "" if value is None else f"{metric.scale * value:.{metric.digits}f}"
        cells += [text, "", ""]
    return cells


def _diagnosed(means: Mapping[str, Mapping[str, Any]]) -> str:
    shown = [m for m in DIAGNOSTICS if any(m.name in numbers for numbers in means.values())]
    if not shown:
        return "Nothing was drawn."
    rows = []
    for label, numbers in means.items():
        cells = [label]
        for metric in shown:
            mean = numbers.get(metric.name)
            f, d = metric.scale, metric.digits
            half = None if mean is None else f * (mean["high"] - mean["mean"])
            cells.append("" if mean is None else f"{f * mean['mean']:.{d}f} ± {half:.{d}f}")
        rows.append(cells)
    return _rows(["competitor", *(metric.heading for metric in shown)], rows)


def _again(lines: Sequence[Mapping[str, Any]]) -> str:
    inside = sum(line["inside"] for line in lines)
    same = sum(line["same"] for line in lines)
    text = (
        f"## Against the shipped results\n\n{inside} of {len(lines)} means lie inside the shipped "
        f"95 % intervals, {same} are the same. (About 83 % of independent repetitions would lie "
        "inside: both have noise.)"
    )
    rows = [
        [
            line["experiment"],
            line["competitor"],
            line["metric"],
            f"{line['mean']:.4f}",
            f"{line['shipped']:.4f} [{line['low']:.4f}, {line['high']:.4f}]",
        ]
        for line in lines
        if not line["inside"]
    ]
    if not rows:
        return text
    return f"{text} Outside:\n\n" + _rows(
        ("experiment", "competitor", "metric", "mean", "shipped"), rows
    )

"""The sections about a search: what it found, how it went, and what it was run with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from nas_ext import plots
from nas_ext.architecture import SearchSpace
from nas_ext.compare import percent
from nas_ext.plots.drawing import millions
from nas_ext.report.page import Figure, Section, Table, Text, image_count, setting_text
from nas_ext.results import SearchResult

LISTED = 50
"""So many lines of a ranking are in the report; all of them are in search.json."""


def search_sections(result: SearchResult, *, space: SearchSpace | None = None) -> list[Section]:
    """Return what was found, the ranking, how the search went, and what it was run with.

    `space` names architectures in the figures that the ranking does not name. Figures of draws,
    rewards and a binary tree are there where the result has those. Raises ValueError for an
    empty ranking.
    """
    if not result.ranking:
        raise ValueError("ranking of the result must not be empty, got []")
    sections: list[Section] = [_what_was_found(result)]
    if len(result.ranking) > 1:
        caption = (
            f"The best {min(20, len(result.ranking))} of {len(result.ranking):,} evaluated "
            f"architectures, with the supernet's shared weights, on {_validation_set(result)}. "
            "Mind where the axis starts."
        )
        sections.append(Figure("Ranking", plots.ranking(result), caption))
    sections += [_ranking_table(result), *_front(result), *_course(result, space)]
    sections += [_phases(result), _budget(result)]
    if result.diagnostics:
        numbers = tuple((name, f"{value:,.4g}") for name, value in result.diagnostics.items())
        note = "What the sampler of the last phase said of itself at the end."
        sections.append(Table("Diagnostics", ("what", "value"), numbers, note))
    sections.append(_settings(result))
    versions = tuple((name, str(value)) for name, value in result.versions.items())
    if versions:
        sections.append(Table("Versions", ("package", "version"), versions))
    return sections


def _what_was_found(result: SearchResult) -> Text:
    best, others = result.best, len(result.ranking) - 1
    size = result.space.get("size")
    where = f"the space {result.space.get('name')}"
    where += f" of {size:,} architectures" if isinstance(size, int) else ""
    costs = [] if best.macs is None else [f"{millions(best.macs)} macs for one image"]
    costs += [] if best.parameters is None else [f"{best.parameters:,} parameters"]
    first = (
        f"{result.strategy} found {best.name} in {where}: {percent(best.accuracy)} % right of "
        f"{_validation_set(result)}, with the supernet's shared weights."
    )
    first += f" It has {' and '.join(costs)}." if costs else ""
    paragraphs = [first]
    if others:
        second = result.ranking[1]
        paragraphs.append(
            f"That is the highest of {others + 1:,} evaluated architectures; the next, "
            f"{second.name}, has {percent(second.accuracy)} %."
        )
    reward = result.settings.get("reward", "accuracy")
    if reward != "accuracy":
        paragraphs.append(f'What is called accuracy here is the reward "{reward}".')
    paragraphs.append(
        "Accuracies with shared weights, on the images that led the search, put architectures in "
        "an order. They do not say what a network reaches when it is trained alone, and one "
        "search (n = 1 seed) does not say how much its outcome varies."
    )
    return Text("What was found", tuple(paragraphs))


def _validation_set(result: SearchResult) -> str:
    """Name the images behind an accuracy, with their number where the result has it."""
    count = image_count(result.data.get("images"), "val")
    return "the whole validation set" + (f" ({count} less an incomplete batch)" if count else "")


def _ranking_table(result: SearchResult) -> Table:
    counts = Counter(draw.architecture for draw in result.draws)
    lines = result.ranking[:LISTED]
    rows = tuple(
        (
            str(rank),
            line.name,
            f"{percent(line.accuracy)} %",
            "" if line.macs is None else millions(line.macs),
            "" if line.parameters is None else f"{line.parameters:,}",
            f"{counts[line.architecture]:,}" if result.draws else "",
        )
        for rank, line in enumerate(lines, 1)
    )
    note = (
        f"Accuracy: share right of {_validation_set(result)}, shared weights of one supernet "
        "(n = 1). Batches smaller than the first are left out. Macs: of one image. Draws: "
        "training passes."
    )
    if len(lines) < len(result.ranking):
        note += f" The best {len(lines)} of {len(result.ranking):,}; all are in search.json."
    columns = ("rank", "architecture", "accuracy", "macs", "parameters", "draws")
    return Table("Ranking in numbers", columns, rows, note)


def _front(result: SearchResult) -> Iterator[Section]:
    """Yield the figure of accuracy and macs where there is something to choose between."""
    macs = {line.macs for line in result.ranking}
    if None not in macs and len(macs) > 1:
        yield Figure(
            "Accuracy against cost",
            plots.pareto_front(result),
            "Red dots are the architectures that no other of the ranking beats in one of accuracy "
            "and macs without losing in the other. Accuracies are those of the ranking, with "
            f"shared weights, on {_validation_set(result)}: differences of a few images are "
            "no reason to pay more macs. Mind where the axis starts.",
        )


def _course(result: SearchResult, space: SearchSpace | None) -> Iterator[Section]:
    """Yield the figures of the search's course that the result has the numbers for."""
    if result.draws:
        yield Figure(
            "Draws over time",
            plots.sampling_shares(result, space=space),
            "How often each architecture was trained: its share of the draws in each of 40 equal "
            "parts of the steps. Dashed lines part the phases.",
        )
    if any(draw.reward is not None for draw in result.draws):
        yield Figure(
            "Rewards",
            plots.reward_curve(result),
            "Each reward is the share right of one validation batch, for the architecture just "
            "trained. The average follows both the weights and the choice of architectures."
            + _discount(result.settings),
        )
    if result.tree is not None and result.tree.get("kind") == "binary":
        yield Figure(
            "The tree",
            plots.dendrogram(result, space=space),
            "Architectures that join further to the right were more alike when the tree was "
            "built. Mean rewards of architectures drawn late profit from weights trained longer.",
        )


def _discount(settings: Mapping[str, Any]) -> str:
    """Say that rewards were discounted, where they were."""
    if settings.get("cost") is None:
        return ""
    return (
        f" Where its cost ({settings['cost']}) is above {settings['cost_target']:,g}, a reward is "
        f"multiplied by (target / cost)^{settings['cost_weight']:g}."
    )


def _phases(result: SearchResult) -> Table:
    rows = []
    for number, (name, steps) in enumerate(result.phases):
        draws = [draw for draw in result.draws if draw.phase == number]
        asked = sum(draw.reward is not None for draw in draws)
        different = len({draw.architecture for draw in draws})
        rows.append((name, *(f"{n:,}" for n in (steps, len(draws), different, asked))))
    note = "Different: architectures drawn at least once. Rewards: those asked for."
    note = note if result.draws else "The search kept no record of its draws."
    columns = ("phase", "steps", "draws", "different", "rewards")
    return Table("Phases", columns, tuple(rows), note)


def _budget(result: SearchResult) -> Table:
    budget = result.budget
    rows = [
        ("optimizer steps", f"{budget.steps:,}"),
        ("training passes (one architecture, one batch)", f"{budget.train_passes:,}"),
        ("reward passes (one validation batch)", f"{budget.reward_passes:,}"),
        ("architectures evaluated on the whole validation set", f"{budget.evaluated:,}"),
        ("architectures whose outputs were compared", f"{budget.output_passes:,}"),
        ("time", f"{budget.seconds:,.1f} s"),
    ]
    if budget.macs is not None:
        rows.append(("macs of all passes, a backward one counted as two", millions(budget.macs)))
    return Table("Budget spent", ("what", "how much"), tuple(rows))


def _settings(result: SearchResult) -> Table:
    rows = [("strategy", result.strategy), ("seed", str(result.seed))]
    for group, values in (
        ("space", result.space),
        ("data", result.data),
        ("strategy", result.settings),
    ):
        rows += [(f"{group}: {name}", value) for name, value in _flat(values)]
    return Table("Settings", ("setting", "value"), tuple(rows))


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield settings as text, those of inner dictionaries under joined names."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", setting_text(value)

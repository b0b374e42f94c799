"""The sections about recipes that were confirmed: means over seeds, and what they say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from nas_ext import plots
from nas_ext.compare import percent, verdict
from nas_ext.report.page import Figure, Section, Table, Text, image_count
from nas_ext.retrain.confirmation import Confirmation, ConfirmedRecipe

SHOWN = 12
"""How many recipes a figure shows, the best ones."""


def confirm_sections(
    found: Confirmation,
    *,
    macs: Mapping[str, int | None] | None = None,
    images: Mapping[str, int] | None = None,
) -> list[Section]:
    """Return which recipes won over several seeds, by how much, and networks against macs.

    `macs` are those of one image, by network; `images` has the number of `val` images.
    """
    count = image_count(images, "val")
    judged = f"validation set ({count})" if count else "validation set"
    sections: list[Section] = [
        Text("Confirmed recipes", tuple(_paragraphs(found, judged))),
        _table(found, judged),
    ]
    shown = found.recipes[:SHOWN]
    drawing = plots.seeds(
        {label(recipe): recipe.accuracies for recipe in shown},
        title="Recipes with new seeds",
        judged="validation",
    )
    caption = f"Share right of the {judged}; each dot is one training on the training set alone."
    sections.append(Figure("Recipes by seed", drawing, caption))
    known = {name: value for name, value in (macs or {}).items() if value is not None}
    places = {
        name: (float(known[name]), found.best(name).accuracies)
        for name in found.networks
        if name in known
    }
    if len(places) > 1:
        drawing = plots.accuracy_against_macs(places, judged="validation")
        caption = "Each network with its best confirmed recipe, 95 % interval by Student's t."
        sections.append(Figure("Tuned networks against macs", drawing, caption))
    return sections


def label(recipe: ConfirmedRecipe) -> str:
    """Return what a recipe is called: its network and trial."""
    return f"{recipe.network}, trial {recipe.trial}{' (first)' if recipe.first else ''}"


def _paragraphs(found: Confirmation, judged: str) -> Iterator[str]:
    winner, count = found.winner, len(found.seeds)
    seeds = f"n = {count} seed{'s' if count > 1 else ''}"
    yield (
        f"The best recipes of each study were trained anew with {seeds}, none of which a recipe "
        f"had been picked by. {label(winner)} has the best mean on the {judged}: "
        f"{percent(winner.mean)} %. As the best of {len(found.recipes)} means it still flatters; "
        "the test accuracy, of other trainings, does not."
    )
    if count == 1:
        yield "With one seed there is no interval, so this is no evidence of a difference."
        return
    for network in found.networks:
        best, first = found.best(network), found.first(network)
        if first is not None and best is not first:
            yield _verdict(best, first)
        elif first is not None and len([r for r in found.recipes if r.network == network]) > 1:
            yield f"No tuned recipe of {network} has a better mean than the first one."
    for network in found.networks[1:]:
        yield _verdict(winner, found.best(network))


def _verdict(one: ConfirmedRecipe, other: ConfirmedRecipe) -> str:
    return verdict(label(one), one.accuracies, label(other), other.accuracies, paired=True)


def _table(found: Confirmation, judged: str) -> Table:
    rows = []
    for recipe in found.recipes:
        interval, first = recipe.interval, found.first(recipe.network)
        gap = None if first is None or recipe.first else found.minus(recipe, first)
        rows.append(
            (
                recipe.network,
                f"{recipe.trial}{' (first)' if recipe.first else ''}",
                "" if recipe.tuned is None else f"{percent(recipe.tuned)} %",
                f"{percent(recipe.mean)} %",
                "" if interval is None else f"[{percent(interval.low)}, {percent(interval.high)}]",
                ""
                if gap is None
                else f"{_signed(gap.mean)} [{_signed(gap.low)}, {_signed(gap.high)}]",
            )
        )
    columns = ("network", "trial", "in the study", "mean", "95 % interval", "minus the first")
    seeds = ", ".join(map(str, found.seeds))
    note = (
        f"Share right of the {judged}. Mean over the seeds {seeds}; the study's number is of one "
        "training, by which the recipe was picked. Differences in points, paired by seed."
    )
    return Table("Recipes over several seeds", columns, tuple(rows), note)


def _signed(share: float) -> str:
    return f"{100 * share:+.2f}"

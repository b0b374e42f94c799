"""One HTML page about a search and the retrainings after it, complete in itself."""

from __future__ import annotations

import base64
import html
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import optuna
from matplotlib.figure import Figure as Drawing
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from nas_ext import plots
from nas_ext.architecture import SearchSpace
from nas_ext.compare import mean_interval, percent, verdict
from nas_ext.files import read_json, write_text
from nas_ext.results import SearchResult

__all__ = [
    "Figure",
    "Retraining",
    "Section",
    "Table",
    "Text",
    "read_retraining",
    "render",
    "retrain_sections",
    "search_sections",
    "write",
    "write_search_report",
]

LISTED = 50
"""So many lines of a ranking are in the report; all of them are in search.json."""


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


# The page.

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


# A search.


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
            "architectures, with the supernet's shared weights, on the whole validation set. "
            "Mind where the axis starts."
        )
        sections.append(Figure("Ranking", plots.ranking(result), caption))
    sections += [_ranking_table(result), *_course(result, space)]
    sections += [_phases(result), _budget(result), _settings(result)]
    versions = tuple((name, str(value)) for name, value in result.versions.items())
    if versions:
        sections.append(Table("Versions", ("package", "version"), versions))
    return sections


def _what_was_found(result: SearchResult) -> Text:
    best, others = result.best, len(result.ranking) - 1
    size = result.space.get("size")
    where = f"the space {result.space.get('name')}"
    where += f" of {size:,} architectures" if isinstance(size, int) else ""
    costs = [] if best.macs is None else [f"{_millions(best.macs)} macs for one image"]
    costs += [] if best.parameters is None else [f"{best.parameters:,} parameters"]
    first = (
        f"{result.strategy} found {best.name} in {where}: {percent(best.accuracy)} % right of the "
        "whole validation set, with the supernet's shared weights."
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


def _ranking_table(result: SearchResult) -> Table:
    counts = Counter(draw.architecture for draw in result.draws)
    lines = result.ranking[:LISTED]
    rows = tuple(
        (
            str(rank),
            line.name,
            f"{percent(line.accuracy)} %",
            "" if line.macs is None else _millions(line.macs),
            "" if line.parameters is None else f"{line.parameters:,}",
            f"{counts[line.architecture]:,}" if result.draws else "",
        )
        for rank, line in enumerate(lines, 1)
    )
    note = (
        "Accuracy: share right of the whole validation set (batches smaller than the first left "
        "out), shared weights of one supernet (n = 1). Macs: of one image. Draws: training passes."
    )
    if len(lines) < len(result.ranking):
        note += f" The best {len(lines)} of {len(result.ranking):,}; all are in search.json."
    columns = ("rank", "architecture", "validation accuracy", "macs", "parameters", "draws")
    return Table("Ranking in numbers", columns, rows, note)


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
            "trained. The average follows both the weights and the choice of architectures.",
        )
    if result.tree is not None and result.tree.get("kind") == "binary":
        yield Figure(
            "The tree",
            plots.dendrogram(result, space=space),
            "Architectures that join further to the right were more alike when the tree was "
            "built. Mean rewards of architectures drawn late profit from weights trained longer.",
        )


def _phases(result: SearchResult) -> Table:
    rows = []
    for number, (name, steps) in enumerate(result.phases):
        draws = [draw for draw in result.draws if draw.phase == number]
        asked = sum(draw.reward is not None for draw in draws)
        different = len({draw.architecture for draw in draws})
        rows.append((name, *(f"{n:,}" for n in (steps, len(draws), different, asked))))
    note = "" if result.draws else "The search kept no record of its draws."
    columns = ("phase", "steps", "draws", "different architectures", "rewards asked")
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
        rows.append(("macs of all passes, a backward one counted as two", _millions(budget.macs)))
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
            yield f"{prefix}{name}", _value(value)


def _value(value: Any) -> str:
    """Return a setting as people write it, floats with six digits."""
    if value is None:
        return "none"
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return json.dumps(value)
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"


def _millions(count: int) -> str:
    return f"{count / 1e6:,.1f} M"


# Retrainings.


@dataclass(frozen=True, kw_only=True, eq=False)
class Retraining:
    """Hold what retraining one architecture left in its folder.

    `accuracies` are the shares right of the test set, one a seed, with the recipe of the study's
    trial `trial`; all three are empty before the test. `study` is None where its journal is gone.
    """

    name: str
    macs: int | None = None
    study: optuna.Study | None = None
    accuracies: tuple[float, ...] = ()
    seeds: tuple[int, ...] = ()
    recipe: Mapping[str, Any] | None = None
    trial: int | None = None


def read_retraining(folder: str | Path) -> Retraining:
    """Read `final.json` and the Optuna journal `study.log` of a retraining, whichever exist.

    The name is the one that the study has for its architecture, else the folder's. The journal is
    not changed, so a study may be running. Raises ValueError when neither file exists, or
    `final.json` is not what `nas_ext.retrain.final` writes.
    """
    place = Path(folder)
    journal, tested = place / "study.log", place / "final.json"
    if not journal.exists() and not tested.exists():
        raise ValueError(f"folder must hold final.json or study.log, got {place}")
    study = _load_study(journal) if journal.exists() else None
    attributes = {} if study is None else study.user_attrs
    architecture = attributes.get("architecture")
    known = architecture.get("name") if isinstance(architecture, Mapping) else None
    name, macs = str(known or place.name), attributes.get("macs")
    if not tested.exists():
        return Retraining(name=name, macs=macs, study=study)
    values = read_json(tested)
    try:
        accuracies = tuple(float(value) for value in values["accuracies"])
        seeds = tuple(int(seed) for seed in values["seeds"])
        recipe, trial = dict(values["recipe"]), int(values["trial"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{tested} must be the result of a retraining: {error!r}") from error
    if not accuracies or len(accuracies) != len(seeds):
        raise ValueError(f"{tested} must have one accuracy a seed, got {len(accuracies)}")
    return Retraining(
        name=name,
        macs=macs,
        study=study,
        accuracies=accuracies,
        seeds=seeds,
        recipe=recipe,
        trial=trial,
    )


def _load_study(journal: Path) -> optuna.Study | None:
    """Open the one study of a journal, None while it has none yet."""
    storage = JournalStorage(JournalFileBackend(str(journal)))
    names = optuna.get_all_study_names(storage)
    if len(names) > 1:
        raise ValueError(f"{journal} must hold one study, got {names}")
    return optuna.load_study(study_name=names[0], storage=storage) if names else None


def retrain_sections(retrainings: Sequence[Retraining]) -> list[Section]:
    """Return test accuracies by seed, what they say, and how the recipes were found.

    Raises ValueError without a retraining, and for two of the same name.
    """
    names = [r.name for r in retrainings]
    if not names or len(set(names)) != len(names):
        raise ValueError(f"retrainings must be at least one, with different names, got {names}")
    tested = {r.name: r for r in retrainings if r.accuracies}
    sections: list[Section] = [_what_retraining_brought(retrainings)]
    if tested:
        accuracies = {name: r.accuracies for name, r in tested.items()}
        sections.append(_test_table(tuple(tested.values())))
        sections.append(
            Figure(
                "Test accuracy by seed",
                plots.seeds(accuracies),
                "Each dot is one training from scratch on all search images (training and "
                "validation), judged once on the test set after its last epoch.",
            )
        )
    costs = {n: (float(r.macs), r.accuracies) for n, r in tested.items() if r.macs is not None}
    if len(costs) > 1:
        caption = "Mean test accuracy over the seeds, with its 95 % interval by Student's t."
        drawing = plots.accuracy_against_macs(costs)
        sections.append(Figure("Test accuracy against macs", drawing, caption))
    for retraining in retrainings:
        sections += _recipe_sections(retraining)
    return sections


def _what_retraining_brought(retrainings: Sequence[Retraining]) -> Text:
    paragraphs = []
    for r in retrainings:
        if not r.accuracies:
            paragraphs.append(f"{r.name} is not tested yet: its recipe is being searched.")
            continue
        mean = f"{percent(np.mean(r.accuracies))} %"
        spread = "n = 1 seed, so without an interval"
        if len(r.accuracies) > 1:
            found = mean_interval(r.accuracies)
            ends = f"[{percent(found.low)}, {percent(found.high)}]"
            spread = f"mean of n = {found.n} seeds, 95 % interval {ends}"
        paragraphs.append(
            f"{r.name} reaches {mean} on the test set ({spread}), trained alone on training and "
            f"validation images with the recipe of trial {r.trial}."
        )
    several = [r for r in retrainings if len(r.accuracies) > 1]
    pairs = list(combinations(several, 2))
    for one, two in pairs:
        paragraphs.append(verdict(one.name, one.accuracies, two.name, two.accuracies))
    if len(pairs) > 1:
        paragraphs.append(
            f"Of {len(pairs)} comparisons at 95 % each, some may exceed the noise by chance."
        )
    return Text("What retraining brought", tuple(paragraphs))


def _test_table(tested: Sequence[Retraining]) -> Table:
    rows = []
    for r in tested:
        interval = deviation = ""
        if len(r.accuracies) > 1:
            found = mean_interval(r.accuracies)
            interval = f"[{percent(found.low)}, {percent(found.high)}]"
            deviation = percent(found.deviation)
        values = ", ".join(
            f"{seed}: {percent(value)}" for seed, value in zip(r.seeds, r.accuracies, strict=True)
        )
        mean = f"{percent(np.mean(r.accuracies))} %"
        macs = "" if r.macs is None else _millions(r.macs)
        rows.append((r.name, macs, mean, interval, deviation, str(len(r.accuracies)), values))
    columns = ("network", "macs", "mean", "95 % interval", "deviation", "n", "by seed (%)")
    note = "Share right of the test set; deviation of the sample (ddof = 1), in points."
    return Table("Test accuracies", columns, tuple(rows), note)


def _recipe_sections(retraining: Retraining) -> Iterator[Section]:
    """Yield the history of the study, and the best recipe beside the first one."""
    study, name = retraining.study, retraining.name
    trials = [] if study is None else study.get_trials(deepcopy=False)
    states = Counter(trial.state.name for trial in trials)
    first = None
    if study is not None and states["COMPLETE"] + states["PRUNED"]:
        first = trials[0].user_attrs.get("recipe")
        kind = "published recipe" if _begins_published(study) else "first recipe"
        yield Figure(
            f"Recipe search for {name}",
            plots.study_history({name: study}, first=kind),
            f"{states['COMPLETE']:,} complete and {states['PRUNED']:,} pruned trials, each one "
            "training (n = 1 seed): share right of the validation set in its last epoch. The best "
            "is picked by this number, which flatters it here; its test accuracy is not picked.",
        )
    best, number = retraining.recipe, retraining.trial
    if best is None and study is not None and states["COMPLETE"]:
        best, number = study.best_trial.user_attrs.get("recipe"), study.best_trial.number
    if best is not None:
        columns = ["setting", f"best (trial {number})", *(["trial 0"] if first else [])]
        rows = [
            (setting, _value(value), *([_value(first.get(setting))] if first else []))
            for setting, value in best.items()
        ]
        yield Table(f"Best recipe for {name}", tuple(columns), tuple(rows))


def _begins_published(study: optuna.Study) -> bool:
    """Say whether the first trial has the published recipe wherever the study varies it."""
    from nas_ext.retrain.recipe import Recipe
    from nas_ext.retrain.space import default_suggest, parameters
    from nas_ext.retrain.study import WARM_START

    base = study.user_attrs.get("fingerprint", {}).get("base recipe")
    trials = study.get_trials(deepcopy=False)
    if base is None or not trials:
        return False
    recipe = Recipe.from_json(base)
    published = Recipe.published(WARM_START, epochs=recipe.epochs)
    return trials[0].params == parameters(published, default_suggest, recipe, exact=False)


# A folder.


def write_search_report(folder: str | Path) -> Path:
    """Write `report.html` for the folder of a search, and return its path.

    Read are `search.json` and, where they exist, `final.json` and `study.log` in the folders of
    `retrain`. Raises ValueError when there is no `search.json`, or a file is broken.
    """
    place = Path(folder)
    if not (place / "search.json").is_file():
        raise ValueError(f"folder must hold the search.json of a search, got {place}")
    result = SearchResult.load(place / "search.json")
    sections = search_sections(result, space=_space(result))
    files = [*place.glob("retrain/*/final.json"), *place.glob("retrain/*/study.log")]
    retrainings = {path: read_retraining(path) for path in {file.parent for file in files}}
    if retrainings:
        ranks = {line.name: rank for rank, line in enumerate(result.ranking)}
        order = sorted(retrainings, key=lambda p: (ranks.get(retrainings[p].name, len(ranks)), p))
        names = Counter(r.name for r in retrainings.values())
        sections[1:1] = retrain_sections(
            [
                replace(r, name=r.name if names[r.name] == 1 else f"{r.name} ({path.name})")
                for path, r in ((path, retrainings[path]) for path in order)
            ]
        )
    report = place / "report.html"
    write(report, f"{result.strategy} on {result.space.get('name')}", sections)
    return report


def _space(result: SearchResult) -> SearchSpace | None:
    """Rebuild a registered space where a figure needs names that the ranking does not have."""
    arguments = result.space.get("arguments") or {}
    leaves = (result.tree or {}).get("architectures", ())
    shown = {*(draw.architecture for draw in result.draws), *map(tuple, leaves)}
    if not arguments or shown <= {line.architecture for line in result.ranking}:
        return None
    from nas_ext.spaces import SPACES, create

    return create(**arguments).search_space if arguments.get("name") in SPACES else None

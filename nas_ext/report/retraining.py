"""The sections about retrained networks: test accuracies, what they say, and recipes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np
import optuna
from optuna.trial import TrialState

from nas_ext import plots
from nas_ext.compare import mean_interval, percent, verdict
from nas_ext.plots.drawing import millions
from nas_ext.plots.recipes import LEAST_TRIALS
from nas_ext.report.confirming import confirm_sections
from nas_ext.report.page import Figure, Section, Table, Text, image_count, setting_text
from nas_ext.report.reading import Retraining
from nas_ext.retrain.confirmation import Confirmation


def retrain_sections(
    retrainings: Sequence[Retraining],
    *,
    images: Mapping[str, int] | None = None,
    confirmation: Confirmation | None = None,
) -> list[Section]:
    """Return test accuracies by seed, what they say, and how the recipes were found.

    `images` has the numbers of `val` and `test` images, which the texts then say. `confirmation`
    is that of these networks. Raises ValueError without a retraining, and for two of the same
    name.
    """
    names = [r.name for r in retrainings]
    if not names or len(set(names)) != len(names):
        raise ValueError(f"retrainings must be at least one, with different names, got {names}")
    tested = {r.name: r for r in retrainings if r.accuracies}
    test_set = _counted("test set", images, "test")
    sections: list[Section] = [_what_retraining_brought(retrainings, images)]
    if tested:
        accuracies = {name: r.accuracies for name, r in tested.items()}
        sections.append(_test_table(tuple(tested.values()), images))
        sections.append(
            Figure(
                "Test accuracy by seed",
                plots.seeds(accuracies),
                "Each dot is one training from scratch on all search images (training and "
                f"validation), judged once on the {test_set} after its last epoch.",
            )
        )
    costs = {n: (float(r.macs), r.accuracies) for n, r in tested.items() if r.macs is not None}
    if len(costs) > 1:
        caption = f"Mean accuracy on the {test_set} over the seeds, 95 % interval by Student's t."
        drawing = plots.accuracy_against_macs(costs)
        sections.append(Figure("Test accuracy against macs", drawing, caption))
    if confirmation is not None:
        macs = {r.name: r.macs for r in retrainings}
        sections += confirm_sections(confirmation, macs=macs, images=images)
    for retraining in retrainings:
        sections += _recipe_sections(retraining, images)
    return sections


def _counted(what: str, images: Mapping[str, int] | None, name: str) -> str:
    """Return what a set is called, with the number of its images where that is known."""
    count = image_count(images, name)
    return f"{what} ({count})" if count else what


def _what_retraining_brought(
    retrainings: Sequence[Retraining], images: Mapping[str, int] | None
) -> Text:
    paragraphs = []
    count = image_count(images, "test")
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
        behind = f"{count}; {spread}" if count else spread
        paragraphs.append(
            f"{r.name} reaches {mean} on the test set ({behind}), trained alone on training and "
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


def _test_table(tested: Sequence[Retraining], images: Mapping[str, int] | None) -> Table:
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
        macs = "" if r.macs is None else millions(r.macs)
        rows.append((r.name, macs, mean, interval, deviation, str(len(r.accuracies)), values))
    columns = ("network", "macs", "mean", "95 % interval", "deviation", "n", "by seed (%)")
    test_set = _counted("test set", images, "test")
    note = f"Share right of the {test_set}; deviation of the sample (ddof = 1), in points."
    return Table("Test accuracies", columns, tuple(rows), note)


def _recipe_sections(
    retraining: Retraining, images: Mapping[str, int] | None
) -> Iterator[Section]:
    """Yield the history of the study, and the best recipe beside the first one."""
    study, name = retraining.study, retraining.name
    trials = [] if study is None else study.get_trials(deepcopy=False)
    states = Counter(trial.state.name for trial in trials)
    first = None
    if study is not None and states["COMPLETE"] + states["PRUNED"]:
        first = trials[0].user_attrs.get("recipe")
        validation_set = _counted("validation set", images, "val")
        kind = "published recipe" if _begins_published(study) else "first recipe"
        yield Figure(
            f"Recipe search for {name}",
            plots.study_history({name: study}, first=kind),
            f"{states['COMPLETE']:,} complete and {states['PRUNED']:,} pruned trials, each one "
            f"training (n = 1 seed): share right of the {validation_set} in its last epoch. The "
            "best is picked by this number, which flatters it here; its test accuracy is not "
            "picked.",
        )
        yield from _parameter_figures(name, study)
    best, number = retraining.recipe, retraining.trial
    if best is None and study is not None and states["COMPLETE"] and len(study.directions) == 1:
        best, number = study.best_trial.user_attrs.get("recipe"), study.best_trial.number
    if best is not None:
        chosen = "given" if number is None else f"trial {number}"
        columns = ["setting", f"best ({chosen})", *(["trial 0"] if first else [])]
        rows = [
            (setting, setting_text(value), *([setting_text(first.get(setting))] if first else []))
            for setting, value in best.items()
        ]
        yield Table(f"Best recipe for {name}", tuple(columns), tuple(rows))


def _parameter_figures(name: str, study: optuna.Study) -> Iterator[Section]:
    """Yield what parameters are worth, and how trials combined them, where there are enough."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    tuned = [trial for trial in complete if trial.params]
    if len(tuned) >= LEAST_TRIALS and len({trial.values[0] for trial in tuned}) > 1:
        yield Figure(
            f"What mattered for {name}",
            plots.parameter_importances(study),
            f"How much each parameter tells the better of {len(complete)} trials from the others "
            "(PED-ANOVA), each one training with one seed. With few trials this is a rough guide.",
        )
    if len(tuned) > 1:
        yield Figure(
            f"Recipes tried for {name}",
            plots.parallel_coordinates(study),
            "Each line is a complete trial: its validation accuracy, then its most important "
            "parameters between the ends of their ranges.",
        )


def _begins_published(study: optuna.Study) -> bool:
    """Say whether the first trial has the published recipe wherever the study varies it."""
    from nas_ext.retrain.recipe import Recipe
    from nas_ext.retrain.space import DefaultSpace, parameters
    from nas_ext.retrain.study import WARM_START

    base = study.user_attrs.get("fingerprint", {}).get("base recipe")
    trials = study.get_trials(deepcopy=False)
    if base is None or not trials:
        return False
    recipe, first = Recipe.from_json(base), trials[0]
    published = Recipe.published(WARM_START, epochs=recipe.epochs)
    sizes = getattr(first.distributions.get("batch_size"), "choices", ())
    space = DefaultSpace(auto_augment="rand_augment" in first.params, batch_sizes=tuple(sizes))
    try:
        return first.params == parameters(published, space, recipe, exact=False)
    except ValueError:  # the published recipe lies outside what this study varies
        return False

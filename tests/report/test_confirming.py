"""What a confirmation says: means over seeds, paired differences, networks against macs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import optuna
import pytest

from nas_ext.compare import verdict
from nas_ext.files import write_json
from nas_ext.report import Section, render, write_retrain_report
from nas_ext.report.confirming import confirm_sections
from nas_ext.retrain import Confirmation, ConfirmedRecipe, Recipe

Texts: TypeAlias = Callable[[Sequence[Section]], str]
Read: TypeAlias = Callable[[str], Any]


def recipe(network: str, trial: int, *values: float) -> ConfirmedRecipe:
    return ConfirmedRecipe(
        network=network,
        trial=trial,
        recipe=Recipe(lr=0.1 + trial / 100),
        tuned=0.95,
        first=trial == 0,
        accuracies=values,
    )


BEST, FIRST = recipe("a", 3, 0.91, 0.93, 0.92), recipe("a", 0, 0.90, 0.91, 0.91)
OTHER = recipe("b", 0, 0.85, 0.86, 0.84)


def test_the_winner_the_gain_over_the_first_recipe_and_other_networks_are_said(
    texts: Texts, read: Read
) -> None:
    found = Confirmation(seeds=(1, 2, 3), recipes=(BEST, FIRST, OTHER))
    sections = confirm_sections(found, macs={"a": 5_000_000, "b": 3_000_000}, images={"val": 400})
    said = texts(sections)
    assert "a, trial 3 has the best mean on the validation set (n = 400 images): 92.0 %" in said
    # both are named so that a reader finds them in the table
    gain = verdict(
        "a, trial 3", BEST.accuracies, "a, trial 0 (first)", FIRST.accuracies, paired=True
    )
    networks = verdict(
        "a, trial 3", BEST.accuracies, "b, trial 0 (first)", OTHER.accuracies, paired=True
    )
    assert gain in said
    assert networks in said
    page = read(render("Title", sections))
    rows = [row for row in page.cells if row[0] in ("a", "b")]
    assert [row[1] for row in rows] == ["3", "0 (first)", "0 (first)"]
    # gains 0.01, 0.02, 0.01: mean 1.33, t(0.975, 2) = 4.302653 times 0.57735 / sqrt(3)
    assert rows[0][-1] == "+1.33 [-0.10, +2.77]"
    headings = [section.heading for section in sections]
    assert headings[-2:] == ["Recipes by seed", "Tuned networks against macs"]


def test_a_tuned_recipe_that_is_no_better_is_said_to_be_none(texts: Texts) -> None:
    found = Confirmation(seeds=(1, 2, 3), recipes=(recipe("a", 0, 0.9, 0.9, 0.9), FIRST, OTHER))
    changed = Confirmation(
        seeds=(1, 2, 3), recipes=(found.recipes[0], recipe("a", 5, 0.8, 0.8, 0.8))
    )
    assert "No tuned recipe of a has a better mean than the first one." in texts(
        confirm_sections(changed)
    )


def test_one_seed_is_no_evidence(texts: Texts) -> None:
    found = Confirmation(seeds=(1,), recipes=(recipe("a", 3, 0.9), recipe("a", 0, 0.8)))
    said = texts(confirm_sections(found))
    assert "this is no evidence of a difference" in said
    assert "seed noise" not in said


def test_a_folder_without_a_search_has_a_report_of_its_own(
    tmp_path: Path, journal: Callable[..., optuna.Study], final_values: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="folder must hold retrainings"):
        write_retrain_report(tmp_path)
    for name in ("a", "b"):
        journal(tmp_path / "retrain" / name, name=name)
        write_json(tmp_path / "retrain" / name / "final.json", final_values)
    found = Confirmation(seeds=(1, 2, 3), recipes=(BEST, FIRST, OTHER))
    values = {"format": "nas-ext/confirm-1", "seeds": [1, 2, 3], "recipes": found.table()}
    write_json(tmp_path / "retrain" / "confirm.json", values)
    assert Confirmation.load(tmp_path / "retrain") == found
    page = write_retrain_report(tmp_path).read_text()
    assert "Confirmed recipes" in page
    write_json(tmp_path / "retrain" / "confirm.json", {**values, "recipes": []})  # not finished
    assert "Confirmed recipes" not in write_retrain_report(tmp_path).read_text()

"""Retrainings are read as they were written, and compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import optuna
import pytest

from nas_ext.compare import verdict
from nas_ext.files import write_json
from nas_ext.report import Retraining, Section, read_retraining, render, retrain_sections

Texts: TypeAlias = Callable[[Sequence[Section]], str]
Read: TypeAlias = Callable[[str], Any]
Journal: TypeAlias = Callable[..., optuna.Study]


def headings(sections: list[Section]) -> list[str]:
    return [section.heading for section in sections]


def test_retrained_networks_are_compared_by_seed(texts: Texts, read: Read) -> None:
    one = Retraining(
        name="[5,3,2]", macs=62_800_000, accuracies=(0.97, 0.98, 0.99), seeds=(0, 1, 2), trial=7
    )
    two = Retraining(
        name="[4,2,2]", macs=26_700_000, accuracies=(0.94, 0.95, 0.96), seeds=(0, 1, 2), trial=1
    )
    sections = retrain_sections([one, two])
    assert headings(sections) == [
        "What retraining brought",
        "Test accuracies",
        "Test accuracy by seed",
        "Test accuracy against macs",
    ]
    said = texts(sections)
    # t(0.975, 2) = 4.302653 and a deviation of 1 point: 98 -+ 2.484.
    assert (
        "[5,3,2] reaches 98.0 % on the test set (mean of n = 3 seeds, 95 % interval "
        "[95.5, 100.5]), trained alone on training and validation images with the recipe of "
        "trial 7."
    ) in said
    assert verdict("[5,3,2]", one.accuracies, "[4,2,2]", two.accuracies) in said
    assert "by chance" not in said
    row = read(render("Title", sections)).row("[5,3,2]")
    assert row == [
        *("[5,3,2]", "62.8 M", "98.0 %", "[95.5, 100.5]", "1.0", "3"),
        "0: 97.0, 1: 98.0, 2: 99.0",
    ]


def test_the_number_of_images_behind_an_accuracy_is_said_where_it_is_known(
    tmp_path: Path, texts: Texts, journal: Journal, final_values: dict[str, Any]
) -> None:
    journal(tmp_path, name="c-b-c")
    write_json(tmp_path / "final.json", final_values)
    found = read_retraining(tmp_path)
    two = Retraining(name="other", macs=1, accuracies=(0.9, 0.91), seeds=(0, 1), trial=0)
    said = texts(retrain_sections([found, two], images={"val": 1_673, "test": 450}))
    assert "c-b-c reaches 97.5 % on the test set (n = 450 images; mean of n = 2 seeds" in said
    # Both networks' texts, the captions of both figures, the table's note.
    assert said.count("test set (n = 450 images") == 5
    assert "of the validation set (n = 1,673 images) in its last epoch" in said
    assert "images)" not in texts(retrain_sections([found, two], images={"train": 7}))


def test_several_comparisons_come_with_a_warning(texts: Texts) -> None:
    networks = [
        Retraining(name=name, accuracies=(0.9, 0.91), seeds=(0, 1), trial=0) for name in "abc"
    ]
    said = texts(retrain_sections(networks))
    assert said.count("seed noise") == 3
    assert "Of 3 comparisons at 95 % each, some may exceed the noise by chance." in said


def test_a_single_seed_has_no_interval_and_an_untested_network_says_so(texts: Texts) -> None:
    once = Retraining(name="once", accuracies=(0.9,), seeds=(0,), trial=2)
    said = texts(retrain_sections([once, Retraining(name="not yet")]))
    assert "once reaches 90.0 % on the test set (n = 1 seed, so without an interval)" in said
    assert "not yet is not tested yet: its recipe is being searched." in said
    assert "seed noise" not in said
    assert headings(retrain_sections([Retraining(name="not yet")])) == ["What retraining brought"]


def test_retrainings_have_different_names() -> None:
    for wrong in ([], [Retraining(name="a"), Retraining(name="a")]):
        with pytest.raises(ValueError, match="must be at least one, with different names"):
            retrain_sections(wrong)


def test_a_retraining_without_a_journal_is_called_by_its_folder(
    tmp_path: Path, final_values: dict[str, Any]
) -> None:
    write_json(tmp_path / "5-3-2" / "final.json", final_values)
    found = read_retraining(tmp_path / "5-3-2")
    assert (found.name, found.accuracies, found.study) == ("5-3-2", (0.97, 0.98), None)
    assert "Best recipe for 5-3-2" in headings(retrain_sections([found]))


def test_reading_a_journal_does_not_change_it(
    tmp_path: Path, texts: Texts, journal: Journal
) -> None:
    journal(tmp_path / "running", name="a")
    log = tmp_path / "running" / "study.log"
    with log.open("ab") as file:
        file.write(b'{"op_code": 4, "wor')  # another process is about to finish this line
    before = log.read_bytes()
    found = read_retraining(tmp_path / "running")
    assert found.study is not None
    assert len(found.study.trials) == 3
    assert texts(retrain_sections([found]))
    assert log.read_bytes() == before
    assert [path.name for path in (tmp_path / "running").iterdir()] == ["study.log"]


def test_a_journal_that_has_only_begun_is_no_study_yet(tmp_path: Path, journal: Journal) -> None:
    (tmp_path / "study.log").touch()
    assert read_retraining(tmp_path).study is None
    journal(tmp_path / "enqueued", trials=0)
    found = read_retraining(tmp_path / "enqueued")
    assert headings(retrain_sections([found])) == ["What retraining brought"]

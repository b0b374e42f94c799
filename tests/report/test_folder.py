"""The report of a folder has everything in it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import optuna
import pytest
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from torch import nn

from nas_ext.data import ImageData, digits
from nas_ext.files import write_json
from nas_ext.report import Figure, read_retraining, retrain_sections, write_search_report
from nas_ext.results import RankedArchitecture, SearchResult
from nas_ext.retrain import Recipe, final, study

Read: TypeAlias = Callable[[str], Any]
Journal: TypeAlias = Callable[..., optuna.Study]

EVIL = "<script>alert('x')</script> & \"quotes\""


def test_a_folder_with_a_search_gets_a_report_complete_in_itself(
    tmp_path: Path, searched: SearchResult, read: Read
) -> None:
    searched.save(tmp_path / "search.json")
    assert write_search_report(tmp_path) == tmp_path / "report.html"
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = read(text)
    assert len(page.found["src"]) == 4
    assert all(source.startswith("data:image/png;base64,") for source in page.found["src"])
    assert all(link.startswith("#") for link in page.found["href"])
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    without_images = re.sub(r"base64,[^\"]+", "", text)
    assert "http" not in without_images
    assert "url(" not in without_images
    assert "LearnedTree on small" in page.words
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["report.html", "search.json"]


def test_names_from_files_are_escaped(
    tmp_path: Path,
    without_tree: SearchResult,
    journal: Journal,
    final_values: dict[str, Any],
    read: Read,
) -> None:
    evil = replace(without_tree.best, name=EVIL)
    replace(
        without_tree,
        strategy=EVIL,
        space={"name": EVIL, "size": 18},
        ranking=(evil, *without_tree.ranking[1:]),
        settings={EVIL: EVIL},
    ).save(tmp_path / "search.json")
    journal(tmp_path / "retrain" / "evil", name=EVIL)
    write_json(tmp_path / "retrain" / "evil" / "final.json", final_values)
    text = write_search_report(tmp_path).read_text(encoding="utf-8")
    assert "<script" not in text
    assert EVIL in read(text).words


def test_retrainings_beside_a_search_are_in_its_report_in_the_rankings_order(
    tmp_path: Path,
    without_tree: SearchResult,
    journal: Journal,
    final_values: dict[str, Any],
    read: Read,
) -> None:
    without_tree.save(tmp_path / "search.json")
    second, first = without_tree.ranking[1].name, without_tree.ranking[0].name
    write_json(tmp_path / "retrain" / "a" / "final.json", final_values)
    journal(tmp_path / "retrain" / "a", name=second)
    journal(tmp_path / "retrain" / "b", name=first)
    (tmp_path / "retrain" / "c").mkdir()  # nothing in it yet
    page = read(write_search_report(tmp_path).read_text(encoding="utf-8"))
    assert page.words.index(f"{first} is not tested yet") < page.words.index(f"{second} reaches")
    assert page.row(second)[1:3] == ["12.3 M", "97.5 %"]
    assert f"Recipe search for {first}" in page.words
    heads = [row for row in page.cells if row[0] == "setting" and len(row) == 3]
    # The journal's best is trial 2; the tested one used trial 1, as final.json says.
    assert heads == [
        ["setting", "best (trial 2)", "trial 0"],
        ["setting", "best (trial 1)", "trial 0"],
    ]
    rows = [row for row in page.cells if row[0] == "lr"]
    assert rows == [["lr", "0.3", "0.1"], ["lr", "0.3", "0.1"]]


def test_the_searchs_numbers_of_images_stand_behind_the_retrainings_accuracies(
    tmp_path: Path, without_tree: SearchResult, final_values: dict[str, Any], read: Read
) -> None:
    images = {"train": 674, "val": 673, "test": 450}
    replace(without_tree, data={"images": images}).save(tmp_path / "search.json")
    write_json(tmp_path / "retrain" / "a" / "final.json", final_values)
    page = read(write_search_report(tmp_path).read_text(encoding="utf-8"))
    assert "a reaches 97.5 % on the test set (n = 450 images; mean of n = 2 seeds" in page.words
    assert page.row("data: images.val")[1] == "673"


def test_two_retrainings_of_one_architecture_are_told_apart_by_their_folders(
    tmp_path: Path, without_tree: SearchResult, journal: Journal, read: Read
) -> None:
    without_tree.save(tmp_path / "search.json")
    for folder in ("old", "new"):
        journal(tmp_path / "retrain" / folder, name="same")
    words = read(write_search_report(tmp_path).read_text(encoding="utf-8")).words
    assert "same (old) is not tested yet" in words
    assert "same (new) is not tested yet" in words


def test_a_folder_without_a_search_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(
            ValueError, match=r"folder must hold the search\.json of a search, got"
        ):
            write_search_report(folder)
    assert list(tmp_path.iterdir()) == []


def test_broken_files_are_refused_by_name(tmp_path: Path, final_values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"folder must hold final\.json or study\.log, got"):
        read_retraining(tmp_path)
    for wrong in (
        {},
        {**final_values, "accuracies": []},
        {**final_values, "accuracies": "x"},
        [1],
    ):
        write_json(tmp_path / "final.json", wrong)
        with pytest.raises(ValueError, match=r"final\.json must"):
            read_retraining(tmp_path)
    (tmp_path / "search.json").write_text(json.dumps({"format": "other"}))
    with pytest.raises(ValueError, match=r"search\.json must be 'nas-ext/search-1'"):
        write_search_report(tmp_path)
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "study.log")))
    for name in ("one", "two"):
        optuna.create_study(study_name=name, storage=storage)
    with pytest.raises(ValueError, match=r"study\.log must hold one study, got \['one', 'two'\]"):
        read_retraining(tmp_path)


def test_a_registered_space_names_the_architectures_that_were_not_ranked(
    tmp_path: Path, without_tree: SearchResult
) -> None:
    from nas_ext.report.folder import _space
    from nas_ext.search import Draw
    from nas_ext.spaces import create

    model = create("mini-pooling", num_classes=10, in_chs=1)
    architectures = model.search_space.enumerate()
    best = RankedArchitecture(architectures[0], "[1,1,6]", {}, 0.9)
    result = replace(
        without_tree,
        space={"name": "mini-pooling", "size": 21, "arguments": model.arguments},
        draws=tuple(Draw(0, step, architectures[step]) for step in range(20)),
        ranking=(best,),
    )
    space = _space(result)
    assert space is not None
    assert space.enumerate() == architectures
    named = replace(result, draws=result.draws[:1])
    assert _space(named) is None
    mine = replace(result, space={**result.space, "arguments": {"name": "of somebody else"}})
    assert _space(mine) is None
    result.save(tmp_path / "search.json")
    assert write_search_report(tmp_path).is_file()


def tiny_task() -> tuple[Callable[[Recipe], nn.Module], ImageData]:
    """Return what builds a linear network, and digits with 150 of the training images."""
    data = digits(seed=0)
    small = replace(data, train=data.train.select(torch.arange(150)))
    return lambda recipe: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), small


def legend(section: Figure) -> list[str]:
    return [text.get_text() for text in section.figure.legends[0].get_texts()]


def test_a_real_study_and_its_final_training_are_read_as_they_were_written(
    tmp_path: Path, without_tree: SearchResult, read: Read
) -> None:
    build, small = tiny_task()
    without_tree.save(tmp_path / "search.json")
    folder = tmp_path / "retrain" / "c-b-c"
    recipe = Recipe(epochs=1, batch_size=50)
    names = {"architecture": {"name": "c-b-c"}, "macs": 640}
    tuned = study(build, small, out=folder, recipe=recipe, n_trials=2, user_attrs=names)
    tested = final(tuned, build, small, out=folder, seeds=2)
    found = read_retraining(folder)
    assert (found.name, found.macs) == ("c-b-c", 640)
    assert (found.accuracies, found.seeds, found.trial) == (
        tested.accuracies,
        tested.seeds,
        tested.trial,
    )
    assert found.recipe == tested.recipe.to_json()
    assert found.study is not None
    assert [t.value for t in found.study.trials] == [t.value for t in tuned.trials]
    (history,) = [s for s in retrain_sections([found]) if s.heading == "Recipe search for c-b-c"]
    assert isinstance(history, Figure)
    assert "trial 0: published recipe" in legend(history)
    words = read(write_search_report(tmp_path).read_text(encoding="utf-8")).words
    assert f"with the recipe of trial {tested.trial}" in words


def test_a_study_that_begins_with_another_recipe_does_not_call_it_published(
    tmp_path: Path,
) -> None:
    build, small = tiny_task()
    recipe = Recipe(epochs=1, batch_size=50)
    first = replace(recipe, smoothing=0.1)
    study(build, small, out=tmp_path, recipe=recipe, n_trials=1, enqueue=[first])
    (history, _) = retrain_sections([read_retraining(tmp_path)])[1:]
    assert isinstance(history, Figure)
    assert "trial 0: first recipe" in legend(history)

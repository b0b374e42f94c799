"""The page is whole, safe and complete in itself, and says what the files beside it say."""

from __future__ import annotations

import base64
import json
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from matplotlib.figure import Figure as Drawing
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from nas_ext.compare import verdict
from nas_ext.files import write_json
from nas_ext.report import (
    Figure,
    Retraining,
    Section,
    Table,
    Text,
    read_retraining,
    render,
    retrain_sections,
    search_sections,
    write,
    write_search_report,
)
from nas_ext.results import Budget, RankedArchitecture, SearchResult
from nas_ext.samplers import TreeSampler, UniformSampler
from nas_ext.search import Phase, Search, Setting
from nas_ext.testing import FakeSupernet, small_space
from nas_ext.tree import rank_tree

EVIL = "<script>alert('x')</script> & \"quotes\""
VOID = {"meta", "img", "link", "br", "hr", "input"}
SPACE = small_space()


class Page(HTMLParser):
    """Read a page, and refuse tags that do not close in the order in which they opened."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.found: dict[str, list[str]] = {"href": [], "src": [], "id": [], "alt": []}
        self.words = ""
        self.cells: list[list[str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        for name, value in attrs:
            assert not name.startswith("on")
            if name in self.found:
                self.found[name].append(value or "")
        if tag == "tr":
            self.cells.append([])
        if tag in ("td", "th"):
            self.cells[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words += data
        if {"td", "th"} & set(self.open):
            self.cells[-1][-1] += data

    def row(self, first: str) -> list[str]:
        """Return the cells of the one row that begins so."""
        (found,) = [row for row in self.cells if row[0] == first]
        return found


def searched(*, tree: bool = True) -> SearchResult:
    """Search 18 architectures in 60 steps, the last 40 with rewards if there is a tree."""
    accuracies = {a: 0.5 + i / 40 for i, a in enumerate(SPACE)}
    estimator = FakeSupernet(SPACE, accuracies)

    def grown(setting: Setting) -> TreeSampler:
        return TreeSampler(
            setting.space,
            setting.rng,
            tree=rank_tree(list(SPACE), list(accuracies.values())),
            temperature=lambda step: 0.02,
            final_temperature=0.0025,
            exploration=0.5,
            decay=0.95,
        )

    phases = [Phase("uniform", 20, lambda s: UniformSampler(s.space, s.rng))]
    if tree:
        phases.append(Phase("search", 40, grown))
    search = Search(phases, Setting(SPACE, estimator, np.random.default_rng(0)))
    for _ in range(search.steps):
        for architecture in search.ask():
            if search.sampler.needs_reward:
                search.tell(architecture, estimator.reward(architecture))
    sampler = search.sampler
    ranking = tuple(
        RankedArchitecture(
            architecture=r.architecture,
            name=SPACE.describe(r.architecture),
            sample=SPACE.decode(r.architecture),
            accuracy=r.accuracy,
            macs=12_345_678 if i == 0 else None,
            parameters=11_606 if i == 0 else None,
        )
        for i, r in enumerate(search.rank(None))
    )
    return SearchResult(
        strategy="LearnedTree",
        settings={"temperature": 0.02, "shares": [0.4, 0.6], "training": {"steps": 2000}},
        seed=3,
        space={"name": "small", "size": 18, "arguments": None},
        phases=tuple((phase.name, phase.steps) for phase in search.phases),
        draws=tuple(search.draws),
        ranking=ranking,
        budget=Budget(60, 60, 40, 18, 0, 1234.5, macs=9_876_543_210),
        tree=sampler.tree.state_dict() if isinstance(sampler, TreeSampler) else None,
        data={"name": "digits", "size": [8, 8]},
        versions={"python": "3.11.7", "nni": "3.0"},
    )


def page_of(sections: list[Section]) -> Page:
    return Page(render("Title", sections))


def headings(sections: list[Section]) -> list[str]:
    return [section.heading for section in sections]


def texts(sections: list[Section]) -> str:
    """Return all paragraphs and captions."""
    found: list[str] = []
    for section in sections:
        if isinstance(section, Text):
            found += section.paragraphs
        else:
            found.append(section.note if isinstance(section, Table) else section.caption)
    return "\n".join(found)


# The page.


def drawing() -> Drawing:
    figure = Drawing(figsize=(1, 1))
    figure.subplots()
    return figure


def test_a_page_is_balanced_html_with_a_table_of_contents() -> None:
    sections: list[Section] = [
        Text("First", ("one", "two")),
        Table("Second & last", ("a", "b"), (("x", "1.0"), ("y", "2,000")), "a note"),
        Figure("Third", drawing(), "a caption"),
        Text("First", ()),
    ]
    text = render("The title", sections)
    assert text.startswith("<!DOCTYPE html>\n")
    page = Page(text)
    assert page.found["href"] == [f"#{anchor}" for anchor in page.found["id"]]
    assert len(set(page.found["id"])) == 4
    assert all(re.fullmatch(r"s\d+(-[a-z0-9]+)*", anchor) for anchor in page.found["id"])
    assert page.tags["h1"] == 1
    assert page.tags["h2"] == page.tags["section"] == page.tags["li"] == 4
    assert page.tags["p"] == 3
    assert page.cells == [["a", "b"], ["x", "1.0"], ["y", "2,000"]]
    assert page.found["alt"] == ["a caption"]
    assert 'name="viewport"' in text
    assert "color-scheme: light dark" in text


def test_figures_lie_in_the_page_as_png_images() -> None:
    (source,) = page_of([Figure("A figure", drawing(), "")]).found["src"]
    kind, image = source.split(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(image, validate=True)[:8] == b"\x89PNG\r\n\x1a\n"


def test_every_text_of_a_page_is_escaped() -> None:
    sections: list[Section] = [
        Text(EVIL, (EVIL,)),
        Table(EVIL, (EVIL,), ((EVIL,),), EVIL),
        Figure(EVIL, drawing(), EVIL),
    ]
    text = render(EVIL, sections)
    page = Page(text)
    assert "script" not in page.tags
    assert "<script" not in text
    # title, h1, three times contents and h2, paragraph, head, cell, note, caption
    assert page.words.count(EVIL) == 13
    assert page.found["alt"] == [EVIL]


def test_only_columns_of_numbers_stand_on_the_right() -> None:
    rows = (("1,000", "0.5", "12.3 M", "5", ""), ("20", "x", "", "-6.1 %", ""))
    text = render("t", [Table("h", ("a", "b", "c", "d", "e"), rows)])
    assert re.findall(r'<td class="number">([^<]*)<', text) == [
        *("1,000", "12.3 M", "5"),
        *("20", "", "-6.1 %"),
    ]


def test_pages_and_tables_refuse_what_has_no_form() -> None:
    with pytest.raises(ValueError, match=r"sections must not be empty, got \[\]"):
        render("t", [])
    with pytest.raises(ValueError, match=r"rows of table 'h' must have 2 cells, got \('a',\)"):
        Table("h", ("a", "b"), (("a",),))
    assert page_of([Table("h", ("a", "b"), ())]).cells == [["a", "b"]]


def test_a_page_is_written_as_it_is_rendered(tmp_path: Path) -> None:
    sections = [Text("Ü", ("é",))]
    write(tmp_path / "new" / "page.html", "t", sections)
    assert (tmp_path / "new" / "page.html").read_text(encoding="utf-8") == render("t", sections)


# A search.


def test_the_report_of_a_search_has_all_its_parts() -> None:
    assert headings(search_sections(searched())) == [
        "What was found",
        "Ranking",
        "Ranking in numbers",
        "Draws over time",
        "Rewards",
        "The tree",
        "Phases",
        "Budget spent",
        "Settings",
        "Versions",
    ]


def test_parts_without_numbers_are_left_out() -> None:
    result = searched(tree=False)
    found = headings(search_sections(result))
    assert "Draws over time" in found
    assert not {"Rewards", "The tree"} & set(found)
    bare = replace(result, draws=(), ranking=result.ranking[:1], versions={})
    sections = search_sections(bare)
    left = ["What was found", "Ranking in numbers", "Phases", "Budget spent", "Settings"]
    assert headings(sections) == left
    assert "The search kept no record of its draws." in texts(sections)


def test_the_report_says_what_was_found_on_which_data() -> None:
    said = texts(search_sections(searched()))
    # The last of 18 architectures: 0.5 + 17 / 40 = 92.5 %; the one before 90.0 %.
    assert (
        "LearnedTree found c-b-c in the space small of 18 architectures: 92.5 % right of the "
        "whole validation set, with the supernet's shared weights. It has 12.3 M macs for one "
        "image and 11,606 parameters."
    ) in said
    assert "the highest of 18 evaluated architectures; the next, c-b-b, has 90.0 %." in said
    assert "one search (n = 1 seed) does not say how much its outcome varies" in said


def test_a_reward_of_another_kind_is_called_by_its_name() -> None:
    result = searched(tree=False)
    assert "is the reward" not in texts(search_sections(result))
    other = replace(result, settings={"reward": "val_f1"})
    assert 'What is called accuracy here is the reward "val_f1".' in texts(search_sections(other))


def test_the_numbers_of_a_search_are_in_its_tables() -> None:
    result = searched()
    page = page_of(search_sections(result))
    draws = sum(d.architecture == result.best.architecture for d in result.draws)
    assert page.row("1") == ["1", "c-b-c", "92.5 %", "12.3 M", "11,606", str(draws)]
    assert page.row("18")[:3] == ["18", "a-a-a", "50.0 %"]
    different = len({d.architecture for d in result.draws if d.phase == 1})
    assert page.row("uniform")[:3] == ["uniform", "20", "20"]
    assert page.row("search") == ["search", "40", "40", str(different), "40"]
    assert page.row("time")[1] == "1,234.5 s"
    assert page.row("macs of all passes, a backward one counted as two")[1] == "9,876.5 M"
    assert page.row("strategy: temperature")[1] == "0.02"
    assert page.row("strategy: shares")[1] == "[0.4, 0.6]"
    assert page.row("strategy: training.steps")[1] == "2,000"
    assert page.row("space: arguments")[1] == "none"
    assert page.row("data: name")[1] == "digits"
    assert page.row("nni")[1] == "3.0"


def test_a_long_ranking_is_cut_and_says_so() -> None:
    result = searched(tree=False)
    line = result.best
    many = tuple(replace(line, architecture=(i,), accuracy=1 - i / 100) for i in range(60))
    sections = search_sections(replace(result, ranking=many))
    (table,) = [s for s in sections if s.heading == "Ranking in numbers"]
    assert isinstance(table, Table)
    assert len(table.rows) == 50
    assert table.note.endswith("The best 50 of 60; all are in search.json.")


def test_a_result_without_ranking_is_refused() -> None:
    with pytest.raises(ValueError, match="ranking of the result must not be empty"):
        search_sections(replace(searched(tree=False), ranking=()))


# Retrainings.


def test_retrained_networks_are_compared_by_seed() -> None:
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
    row = page_of(sections).row("[5,3,2]")
    assert row == [
        *("[5,3,2]", "62.8 M", "98.0 %", "[95.5, 100.5]", "1.0", "3"),
        "0: 97.0, 1: 98.0, 2: 99.0",
    ]


def test_several_comparisons_come_with_a_warning() -> None:
    networks = [
        Retraining(name=name, accuracies=(0.9, 0.91), seeds=(0, 1), trial=0) for name in "abc"
    ]
    said = texts(retrain_sections(networks))
    assert said.count("seed noise") == 3
    assert "Of 3 comparisons at 95 % each, some may exceed the noise by chance." in said


def test_a_single_seed_has_no_interval_and_an_untested_network_says_so() -> None:
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


# A folder.


FINAL: dict[str, Any] = {
    "accuracies": [0.97, 0.98],
    "seeds": [0, 1],
    "mean": 0.975,
    "half_width": 0.06,
    "recipe": {"lr": 0.30000000000000004, "clip_grad": None, "opt": "momentum"},
    "trial": 1,
}


def journal(folder: Path, *, name: str | None = None, trials: int = 3) -> optuna.Study:
    """Leave a study of hand-made trials as `study.log`."""
    folder.mkdir(parents=True, exist_ok=True)
    storage = JournalStorage(JournalFileBackend(str(folder / "study.log")))
    study = optuna.create_study(study_name="retrain", storage=storage, direction="maximize")
    if name is not None:
        study.set_user_attr("architecture", {"name": name})
        study.set_user_attr("macs", 12_300_000)
    for number in range(trials):
        attributes = {"recipe": {"lr": 0.1 * (number + 1), "opt": "momentum"}}
        study.add_trial(
            optuna.create_trial(
                value=0.9 + number / 100, state=TrialState.COMPLETE, user_attrs=attributes
            )
        )
    return study


def test_a_folder_with_a_search_gets_a_report_complete_in_itself(tmp_path: Path) -> None:
    result = searched()
    result.save(tmp_path / "search.json")
    assert write_search_report(tmp_path) == tmp_path / "report.html"
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert len(page.found["src"]) == 4
    assert all(source.startswith("data:image/png;base64,") for source in page.found["src"])
    assert all(link.startswith("#") for link in page.found["href"])
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    without_images = re.sub(r"base64,[^\"]+", "", text)
    assert "http" not in without_images
    assert "url(" not in without_images
    assert "LearnedTree on small" in page.words
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["report.html", "search.json"]


def test_names_from_files_are_escaped(tmp_path: Path) -> None:
    result = searched(tree=False)
    evil = replace(result.best, name=EVIL)
    replace(
        result,
        strategy=EVIL,
        space={"name": EVIL, "size": 18},
        ranking=(evil, *result.ranking[1:]),
        settings={EVIL: EVIL},
    ).save(tmp_path / "search.json")
    journal(tmp_path / "retrain" / "evil", name=EVIL)
    write_json(tmp_path / "retrain" / "evil" / "final.json", FINAL)
    text = write_search_report(tmp_path).read_text(encoding="utf-8")
    assert "<script" not in text
    assert EVIL in Page(text).words


def test_retrainings_beside_a_search_are_in_its_report_in_the_rankings_order(
    tmp_path: Path,
) -> None:
    result = searched(tree=False)
    result.save(tmp_path / "search.json")
    second, first = result.ranking[1].name, result.ranking[0].name
    write_json(tmp_path / "retrain" / "a" / "final.json", FINAL)
    journal(tmp_path / "retrain" / "a", name=second)
    journal(tmp_path / "retrain" / "b", name=first)
    (tmp_path / "retrain" / "c").mkdir()  # nothing in it yet
    page = Page(write_search_report(tmp_path).read_text(encoding="utf-8"))
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


def test_two_retrainings_of_one_architecture_are_told_apart_by_their_folders(
    tmp_path: Path,
) -> None:
    searched(tree=False).save(tmp_path / "search.json")
    for folder in ("old", "new"):
        journal(tmp_path / "retrain" / folder, name="same")
    words = Page(write_search_report(tmp_path).read_text(encoding="utf-8")).words
    assert "same (old) is not tested yet" in words
    assert "same (new) is not tested yet" in words


def test_a_retraining_without_a_journal_is_called_by_its_folder(tmp_path: Path) -> None:
    write_json(tmp_path / "5-3-2" / "final.json", FINAL)
    found = read_retraining(tmp_path / "5-3-2")
    assert (found.name, found.accuracies, found.study) == ("5-3-2", (0.97, 0.98), None)
    assert "Best recipe for 5-3-2" in headings(retrain_sections([found]))


def test_reading_a_journal_does_not_change_it(tmp_path: Path) -> None:
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


def test_a_journal_that_has_only_begun_is_no_study_yet(tmp_path: Path) -> None:
    (tmp_path / "study.log").touch()
    assert read_retraining(tmp_path).study is None
    journal(tmp_path / "enqueued", trials=0)
    found = read_retraining(tmp_path / "enqueued")
    assert headings(retrain_sections([found])) == ["What retraining brought"]


def test_a_folder_without_a_search_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(
            ValueError, match=r"folder must hold the search\.json of a search, got"
        ):
            write_search_report(folder)
    assert list(tmp_path.iterdir()) == []


def test_broken_files_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"folder must hold final\.json or study\.log, got"):
        read_retraining(tmp_path)
    for wrong in ({}, {**FINAL, "accuracies": []}, {**FINAL, "accuracies": "x"}, [1]):
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


def test_a_registered_space_names_the_architectures_that_were_not_ranked(tmp_path: Path) -> None:
    from nas_ext.report import _space
    from nas_ext.search import Draw
    from nas_ext.spaces import create

    model = create("mini-pooling", num_classes=10, in_chs=1)
    architectures = model.search_space.enumerate()
    best = RankedArchitecture(architectures[0], "[1,1,6]", {}, 0.9)
    result = replace(
        searched(tree=False),
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


def test_a_real_study_and_its_final_training_are_read_as_they_were_written(
    tmp_path: Path,
) -> None:
    import torch
    from torch import nn

    from nas_ext.data import digits
    from nas_ext.retrain import Recipe, final, study

    data = digits(seed=0)
    small = replace(data, train=data.train.select(torch.arange(150)))

    def build(recipe: Recipe) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    searched(tree=False).save(tmp_path / "search.json")
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
    labels = [text.get_text() for text in history.figure.legends[0].get_texts()]
    assert "trial 0: published recipe" in labels
    words = Page(write_search_report(tmp_path).read_text(encoding="utf-8")).words
    assert f"with the recipe of trial {tested.trial}" in words
    other = study(
        build,
        small,
        out=tmp_path / "other",
        recipe=recipe,
        n_trials=1,
        enqueue=[replace(recipe, smoothing=0.1)],
    )
    assert other.trials
    (figure, _) = retrain_sections([read_retraining(tmp_path / "other")])[1:]
    assert isinstance(figure, Figure)
    labels = [text.get_text() for text in figure.figure.legends[0].get_texts()]
    assert "trial 0: first recipe" in labels

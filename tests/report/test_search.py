"""The report of a search says what its result says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import pytest

from nas_ext.report import Section, Table, render, search_sections
from nas_ext.results import SearchResult

Texts: TypeAlias = Callable[[Sequence[Section]], str]
Read: TypeAlias = Callable[[str], Any]


def headings(sections: list[Section]) -> list[str]:
    return [section.heading for section in sections]


def test_the_report_of_a_search_has_all_its_parts(searched: SearchResult) -> None:
    assert headings(search_sections(searched)) == [
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


def test_parts_without_numbers_are_left_out(without_tree: SearchResult, texts: Texts) -> None:
    found = headings(search_sections(without_tree))
    assert "Draws over time" in found
    assert not {"Rewards", "The tree"} & set(found)
    bare = replace(without_tree, draws=(), ranking=without_tree.ranking[:1], manifest={})
    sections = search_sections(bare)
    left = ["What was found", "Ranking in numbers", "Phases", "Budget spent", "Settings"]
    assert headings(sections) == left
    assert "The search kept no record of its draws." in texts(sections)


def test_the_report_says_what_was_found_on_which_data(
    searched: SearchResult, texts: Texts
) -> None:
    said = texts(search_sections(searched))
    # The last of 18 architectures: 0.5 + 17 / 40 = 92.5 %; the one before 90.0 %.
    assert (
        "LearnedTree found c-b-c in the space small of 18 architectures: 92.5 % right of the "
        "whole validation set, with the supernet's shared weights. It has 12.3 M macs for one "
        "image and 11,606 parameters."
    ) in said
    assert "the highest of 18 evaluated architectures; the next, c-b-b, has 90.0 %." in said
    assert "one search (n = 1 seed) does not say how much its outcome varies" in said


def test_the_number_of_validation_images_is_said_where_the_result_has_it(
    searched: SearchResult, texts: Texts
) -> None:
    counted = replace(searched, data={"images": {"train": 1_674, "val": 1_673, "test": 450}})
    said = texts(search_sections(counted))
    known = "the whole validation set (n = 1,673 images less an incomplete batch)"
    assert f"92.5 % right of {known}, with the supernet's shared weights." in said
    # The paragraph, the caption of the ranking's figure and the note of its table.
    assert said.count(known) == 3
    assert "images less" not in texts(search_sections(searched))


def test_a_reward_of_another_kind_is_called_by_its_name(
    without_tree: SearchResult, texts: Texts
) -> None:
    assert "is the reward" not in texts(search_sections(without_tree))
    other = replace(without_tree, settings={"reward": "val_f1"})
    assert 'What is called accuracy here is the reward "val_f1".' in texts(search_sections(other))


def test_the_numbers_of_a_search_are_in_its_tables(searched: SearchResult, read: Read) -> None:
    page = read(render("Title", search_sections(searched)))
    draws = sum(d.architecture == searched.best.architecture for d in searched.draws)
    assert page.row("1") == ["1", "c-b-c", "92.5 %", "12.3 M", "11,606", str(draws)]
    assert page.row("18")[:3] == ["18", "a-a-a", "50.0 %"]
    different = len({d.architecture for d in searched.draws if d.phase == 1})
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


def test_a_long_ranking_is_cut_and_says_so(without_tree: SearchResult) -> None:
    line = without_tree.best
    many = tuple(replace(line, architecture=(i,), accuracy=1 - i / 100) for i in range(60))
    sections = search_sections(replace(without_tree, ranking=many))
    (table,) = [s for s in sections if s.heading == "Ranking in numbers"]
    assert isinstance(table, Table)
    assert len(table.rows) == 50
    assert table.note.endswith("The best 50 of 60; all are in search.json.")


def test_a_result_without_ranking_is_refused(without_tree: SearchResult) -> None:
    with pytest.raises(ValueError, match="ranking of the result must not be empty"):
        search_sections(replace(without_tree, ranking=()))


def test_accuracy_stands_against_cost_where_there_is_a_choice(
    without_tree: SearchResult, texts: Texts
) -> None:
    priced = tuple(
        replace(line, macs=1_000_000 * (18 - place))
        for place, line in enumerate(without_tree.ranking)
    )
    sections = search_sections(replace(without_tree, ranking=priced))
    assert headings(sections)[:4] == [
        "What was found",
        "Ranking",
        "Ranking in numbers",
        "Accuracy against cost",
    ]
    assert "differences of a few images are no reason to pay more macs" in texts(sections)
    alike = tuple(replace(line, macs=1_000_000) for line in without_tree.ranking)
    for ranking in (alike, without_tree.ranking):  # one cost for all; unknown but for the first
        found = headings(search_sections(replace(without_tree, ranking=ranking)))
        assert "Accuracy against cost" not in found


def test_discounted_rewards_are_said_to_be_so(searched: SearchResult, texts: Texts) -> None:
    assert "multiplied by" not in texts(search_sections(searched))
    discounted = {"cost": "macs", "cost_target": 5e6, "cost_weight": 0.07}
    said = texts(search_sections(replace(searched, settings=discounted)))
    assert (
        "Where its cost (macs) is above 5e+06, a reward is multiplied by (target / cost)^0.07."
    ) in said


def test_diagnostics_have_a_table_where_there_are_some(searched: SearchResult, read: Read) -> None:
    told = replace(searched, diagnostics={"perplexity": 0.51234})
    sections = search_sections(told)
    assert "Diagnostics" in headings(sections)
    assert read(render("Title", sections)).row("perplexity") == ["perplexity", "0.5123"]

"""Results survive the disk, and say what is wrong with a file that does not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nas_ext.results import (
    Budget,
    RankedArchitecture,
    SearchResult,
    counts_by_phase,
    installed_versions,
)
from nas_ext.search import Draw
from nas_ext.testing import small_space


def result() -> SearchResult:
    return SearchResult(
        strategy="LearnedTree",
        settings={"temperature": 0.02, "shares": [0.4, 0.25, 0.35]},
        seed=3,
        space={"name": "small", "size": 13**21, "arguments": {"widths": [4, 8]}},
        phases=(("uniform", 2), ("search", 1)),
        draws=(
            Draw(0, 0, (0, 0, 1)),
            Draw(0, 1, (1, 1, 1), 0.5),
            Draw(1, 2, (0, 0, 1), 0.25),
        ),
        ranking=(RankedArchitecture((0, 0, 1), "a-a-b", {"layer0": "a"}, 0.75, macs=12),),
        budget=Budget(3, 3, 2, 1, 0, 1.5, None),
        tree=None,
        data={"name": "digits"},
        manifest={"versions": {"python": "3"}},
    )


def test_a_result_survives_the_disk(tmp_path: Path) -> None:
    result().save(tmp_path / "search.json")
    assert SearchResult.load(tmp_path / "search.json") == result()
    assert SearchResult.load(tmp_path) == result()
    assert result().best.name == "a-a-b"


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("nas-ext/tree-1", r"format of .*search.json must be 'nas-ext/search-1'"),
        ("nas-ext/search-x", r"format of .*search.json must be 'nas-ext/search-1'"),
        ("nas-ext/search-2", r"search.json was written by a newer nas-ext, .*'nas-ext/search-2'"),
    ],
)
def test_another_format_is_refused_and_a_newer_one_is_said_to_be_newer(
    form: str, message: str, tmp_path: Path
) -> None:
    values = {**result().to_json(), "format": form}
    (tmp_path / "search.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=message):
        SearchResult.load(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda v: v.pop("ranking"),
        lambda v: v["draws"].pop("rows"),
        lambda v: v["draws"].update(rows=[[0, 0, 99, None]]),
        lambda v: v.update(budget={"steps": 1}),
        lambda v: v.update(phases=[1, 2]),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, damage: Any) -> None:
    values = json.loads(json.dumps(result().to_json()))
    damage(values)
    (tmp_path / "search.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"search.json must be a whole search result"):
        SearchResult.load(tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda v: v["draws"]["rows"][0].__setitem__(1, 3),
            "draws of .* its 2 phases and 3 steps",
        ),
        (
            lambda v: v["draws"]["rows"][0].__setitem__(0, 2),
            "draws of .* its 2 phases and 3 steps",
        ),
        (lambda v: v["phases"][1].__setitem__(1, 0), "steps of 'search' in .* at least 1, got 0"),
        (lambda v: v["space"].update(name=1), "name of the space of .* must be a text, got 1"),
        (lambda v: v["space"]["arguments"].update(name="x"), "must have num_classes and in_chs"),
        (lambda v: v["data"].update(digest=[]), r"digest of the data of .* be a text, got \[\]"),
        (lambda v: v["data"].update(size=[1, 0, 8]), r"size of the data of .*got \[1, 0, 8\]"),
    ],
)
def test_a_value_out_of_place_is_named_with_its_file(
    tmp_path: Path, damage: Any, message: str
) -> None:
    values = json.loads(json.dumps(result().to_json()))
    damage(values)
    (tmp_path / "search.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=message) as raised:
        SearchResult.load(tmp_path)
    assert "search.json" in str(raised.value)


def test_draws_are_counted_by_phase_and_name() -> None:
    counts = counts_by_phase(result().draws, small_space())
    assert counts == {0: {"a-a-b": 1, "b-b-b": 1}, 1: {"a-a-b": 1}}


def test_versions_name_what_shapes_a_result() -> None:
    versions = installed_versions()
    assert {"python", "nas-ext", "numpy", "torch", "nni"} <= set(versions)


def test_a_result_from_before_there_were_diagnostics_and_extra_loads_without_them() -> None:
    values = json.loads(json.dumps(result().to_json()))
    del values["diagnostics"]
    for line in values["ranking"]:
        del line["extra"]
    assert SearchResult.from_json(values) == result()


def test_diagnostics_and_extra_survive_the_disk(tmp_path: Path) -> None:
    line = replace(result().best, extra={"supernet": 2})
    told = replace(result(), ranking=(line,), diagnostics={"perplexity": 0.5})
    told.save(tmp_path / "search.json")
    loaded = SearchResult.load(tmp_path)
    assert loaded == told
    assert (loaded.best.extra, loaded.diagnostics) == ({"supernet": 2}, {"perplexity": 0.5})

"""What the searches of a comparison leave, and how what is wrong with it is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nas_ext.benchmarks.measured import mini_pooling_table
from nas_ext.comparison import Competitor
from nas_ext.comparison.left import (
    FORMAT,
    judged_search,
    law_of,
    scores_of,
    search_folder,
    seconds_of,
)

DARTS = Competitor(label="darts", strategy="nni-darts")
DENSE = Competitor(label="density-aware", strategy="density-aware")


def values(**more: Any) -> dict[str, Any]:
    """What is left by a search that scores an architecture higher the later it comes."""
    scores = [[list(a), 0.5 * i] for i, a in enumerate(mini_pooling_table().space)]
    left = {"scores": scores, "pick": scores[-1][0], "seconds": 1.5, "law": scores}
    return {"format": FORMAT, **left, **more}


def write(folder: Path, competitor: Competitor, left: Any) -> None:
    place = search_folder(folder, competitor, 0)
    place.mkdir(parents=True)
    (place / "scores.json").write_text(json.dumps(left), encoding="utf-8")


def read_all(folder: Path, competitor: Competitor) -> None:
    judged_search(folder, mini_pooling_table(), competitor, 0)
    scores_of(folder, competitor, 0)
    law_of(folder, competitor, 0)
    seconds_of(folder, competitor, 0)


def test_what_is_left_is_read(tmp_path: Path) -> None:
    write(tmp_path, DENSE, values())
    space = mini_pooling_table().space
    expected = {a: 0.5 * i for i, a in enumerate(space)}
    assert scores_of(tmp_path, DENSE, 0) == law_of(tmp_path, DENSE, 0) == expected
    assert law_of(tmp_path, DARTS, 0) is None
    assert seconds_of(tmp_path, DENSE, 0) == 1.5
    judged = judged_search(tmp_path, mini_pooling_table(), DENSE, 0)
    assert (judged.competitor, judged.seed) == ("density-aware", 0)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda v: v.update(format="nas-ext/comparison-2"), "was written by a newer nas-ext"),
        (lambda v: v.update(scores=None), "must be architectures with a number, got None"),
        (lambda v: v["scores"].append([[0], 1e300]), "must be architectures with a number"),
        (lambda v: v["scores"].append([[0.5], 1]), "must be architectures with a number"),
        (lambda v: v["scores"].append(v["scores"][0]), "every architecture once, one is double"),
        (lambda v: v["scores"].pop(), "scores"),
        (lambda v: v.update(pick=3), "must be whole, got TypeError"),
        (lambda v: v.pop("pick"), "must have a pick, or a search.json beside it"),
        (lambda v: v.pop("seconds"), "must have a seconds, or a search.json beside it"),
        (lambda v: v.update(seconds=-1), "seconds of .* must be a number from 0, got -1"),
        (lambda v: v.update(seconds=True), "seconds of .* must be a number from 0, got True"),
    ],
)
def test_what_is_wrong_with_the_scores_is_named_with_their_file(
    damage: Callable[[Any], object], message: str, tmp_path: Path
) -> None:
    left = values()
    damage(left)
    write(tmp_path, DARTS, left)
    with pytest.raises(ValueError, match=message) as raised:
        read_all(tmp_path, DARTS)
    assert str(search_folder(tmp_path, DARTS, 0) / "scores.json") in str(raised.value)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda v: v.update(law=[[[0], "x"]]), "law of .* must be architectures with a number"),
        (lambda v: v.pop("law"), "must have a law, or a search.json beside it"),
    ],
)
def test_what_is_wrong_with_a_law_is_named_with_its_file(
    damage: Callable[[Any], object], message: str, tmp_path: Path
) -> None:
    left = values()
    damage(left)
    write(tmp_path, DENSE, left)
    with pytest.raises(ValueError, match=message) as raised:
        law_of(tmp_path, DENSE, 0)
    assert "scores.json" in str(raised.value)

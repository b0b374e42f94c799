"""Searches side by side on real images, against a ground truth."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from nas_ext.benchmarks import Table
from nas_ext.benchmarks.measured import measured_table
from nas_ext.comparison import Comparison, Competitor, compare, competitors
from nas_ext.comparison.outcome import outcome, write_runs
from nas_ext.pooling import PoolingSpace
from nas_ext.report.comparison import write_comparison_report
from nas_ext.results import SearchResult
from nas_ext.runs import Training

SPACE = {"name": "pooling-resnet", "widths": [2, 2, 2, 2], "poolings": 1}
TEXT = """name,architecture,macs,parameters,seed0,seed1
"[1,3]",0 1 1,100,7,80.00,82.00
"[2,2]",1 0 1,200,7,85.00,86.00
"[3,1]",1 1 0,300,7,85.50,85.00
"""


def table() -> Table:
    space = PoolingSpace(layers=4, poolings=1, name="pooling-resnet")
    return measured_table(TEXT, space, name="tiny", source="made up")


def comparison(names: str, seeds: tuple[int, ...] = (0, 1)) -> Comparison:
    return Comparison(
        space=SPACE,
        data="digits",
        image_size=None,
        competitors=competitors(names.split()),
        seeds=seeds,
        training=Training(
            steps=6, batch_size=32, validation_batch_size=64, device="cpu", progress=False
        ),
    )


NAMES = "uniform mcts:exploration=0 strict-fairness nni-random-oneshot"


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("compared")
    judged = compare(comparison(NAMES), table(), out=out)
    (out / "judged.json").write_text(json.dumps([[j.competitor, j.seed] for j in judged]))
    return out


def test_every_competitor_is_judged_on_every_seed(ran: Path) -> None:
    judged = json.loads((ran / "judged.json").read_text())
    labels = ["uniform", "mcts exploration=0", "strict-fairness", "nni-random-oneshot"]
    assert judged == [[label, seed] for label in labels for seed in (0, 1)]


def test_all_spend_the_same_training_passes(ran: Path) -> None:
    folders = [p for p in (ran / "searches").glob("*/seed0")]
    spent = {p.parent.name: SearchResult.load(p).budget for p in folders}
    assert {name: budget.train_passes for name, budget in spent.items()} == {
        "uniform": 6,
        "mcts-exploration-0": 6,
        "strict-fairness": 6,  # two steps of three architectures
        "nni-random-oneshot": 6,
    }
    assert spent["strict-fairness"].steps == 2


def test_runs_of_one_seed_share_the_draws_of_the_uniform_warm_up(ran: Path) -> None:
    draws = {
        name: [d.architecture for d in SearchResult.load(ran / "searches" / name / "seed1").draws]
        for name in ("uniform", "mcts-exploration-0")
    }
    assert draws["uniform"][:2] == draws["mcts-exploration-0"][:2]


def test_a_finished_search_is_not_repeated_and_an_interrupted_one_is(ran: Path) -> None:
    judged = compare(comparison(NAMES), table(), out=ran)
    said: list[str] = []
    (ran / "searches" / "uniform" / "seed1" / "scores.json").unlink()
    again = compare(comparison(NAMES), table(), out=ran, say=said.append)
    assert said == ["1 searches to run", "1 of 1: uniform, seed 1"]
    assert again == judged


def test_json_csv_and_report_hold_the_same_competitors(ran: Path, tmp_path: Path) -> None:
    made = comparison(NAMES)
    judged = compare(made, table(), out=ran)
    values = outcome(table(), judged, reference="uniform")
    assert list(values["means"]) == [one.label for one in made.competitors]
    assert [c["competitor"] for c in values["contrasts"]["tau"]] == list(values["means"])[1:]
    assert json.loads(json.dumps(values)) == values
    write_runs(tmp_path / "runs.csv", judged)
    with open(tmp_path / "runs.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    assert {row["different_drawn"] for row in rows[:2]} <= {"2", "3"}
    assert rows[-1]["draws_on_true_top"] == ""  # NNI keeps no record of its draws
    write_comparison_report(tmp_path / "report.html", made, table(), judged, reference="uniform")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for one in made.competitors:
        assert one.label in page


def test_another_budget_in_the_same_folder_is_refused(ran: Path) -> None:
    other = comparison("uniform")
    shorter = Comparison(**{**vars(other), "training": Training(steps=5, progress=False)})
    with pytest.raises(ValueError, match=r"training of .* must be"):
        compare(shorter, table(), out=ran)


def test_a_table_of_another_space_is_refused(tmp_path: Path) -> None:
    other = Comparison(**{**vars(comparison("uniform")), "space": {"name": "mini-pooling"}})
    with pytest.raises(ValueError, match="table must be of space 'mini-pooling'"):
        compare(other, table(), out=tmp_path)


def test_who_mixes_all_options_is_refused_on_a_pooling_space_before_anything_runs(
    tmp_path: Path,
) -> None:
    for name in ("nni-darts", "gaea"):
        message = f"{name} cannot search pooling-resnet: space must be a plain product of choices"
        with pytest.raises(ValueError, match=message):
            compare(comparison(f"uniform {name}"), table(), out=tmp_path)
    with pytest.raises(ValueError, match="table 'tiny' must have the manifest"):
        compare(comparison("random-search"), table(), out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_multiple_of_the_budget_and_equal_steps_are_spent_as_asked(tmp_path: Path) -> None:
    names = "uniform:times=2 strict-fairness:equal=steps"
    compare(comparison(names, seeds=(0, 1)), table(), out=tmp_path)
    budgets = {
        p.parent.name: SearchResult.load(p).budget for p in tmp_path.glob("searches/*/seed0")
    }
    assert budgets["uniform-times-2"].steps == 12
    assert budgets["strict-fairness-equal-steps"].steps == 6


def test_bad_competitors_are_named() -> None:
    with pytest.raises(ValueError, match="equal must be 'passes' or 'steps', got 'time'"):
        competitors(["uniform:equal=time"])
    with pytest.raises(ValueError, match="times must be a whole number from 1, got 0"):
        competitors(["uniform:times=0"])
    with pytest.raises(ValueError, match="setting of nni-darts must be one of"):
        competitors(["nni-darts:epochs=3"])
    with pytest.raises(ValueError, match="trainings must be a whole number"):
        competitors(["random-search:trainings=1.5"])
    with pytest.raises(ValueError, match="equal must be 'passes' for random-search"):
        competitors(["random-search:equal=steps"])
    with pytest.raises(ValueError, match="strategy must be one of"):
        competitors(["nobody"])
    with pytest.raises(ValueError, match="mcts:x must be NAME=VALUE, got 'x'"):
        competitors(["mcts:x"])
    with pytest.raises(ValueError, match="must be named once each"):
        competitors(["uniform", "uniform"])
    with pytest.raises(ValueError, match="settings of nni-random-oneshot must be none"):
        Competitor(label="n", strategy="nni-random-oneshot", settings={"a": 1})
    with pytest.raises(ValueError, match="seeds must be at least 2 and differ"):
        comparison("uniform", seeds=(0, 0))

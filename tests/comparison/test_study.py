"""A slice of the study, run for real: two strategies, two seeds, digits instead of clothes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nas_ext.benchmarks import SHIPPED
from nas_ext.comparison.again import against_shipped, read_shipped
from nas_ext.comparison.experiments import EXPERIMENTS, Experiment
from nas_ext.comparison.presets import competitors
from nas_ext.comparison.study import Study, run_study
from nas_ext.comparison.tables import truth
from nas_ext.ground_truth import GroundTruth, measure
from nas_ext.retrain import Recipe

TRAINING = {"batch_size": 16, "validation_batch_size": 64}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Measure three architectures with two seeds."""
    settings = GroundTruth(
        space={"name": "pooling-resnet", "widths": [2, 2, 2, 2], "poolings": 1},
        data="digits",
        seeds=2,
        recipe=Recipe(epochs=2, batch_size=16, opt="sgd", lr=0.1),
    )
    return str(measure(settings, out=tmp_path_factory.mktemp("truth")))


def experiments(table: str) -> tuple[Experiment, ...]:
    common: dict[str, Any] = {
        "question": "Does it run?",
        "table": table,
        "first_seed": 5,
        "seeds": 2,
        "budget": 6,
        "training": TRAINING,
    }
    return (
        Experiment(name="first", competitors=("uniform", "density-aware"), **common),
        Experiment(name="second", competitors=("uniform", "random-search"), **common),
    )


@pytest.fixture(scope="module")
def ran(table: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Study, list[str]]:
    out, said = tmp_path_factory.mktemp("study"), list[str]()
    return out, run_study(experiments(table), out=out, say=said.append), said


def test_the_ground_truth_is_measured_again_and_agrees_to_the_bit(
    ran: tuple[Path, Study, list[str]], table: str
) -> None:
    (found,) = ran[1].agreements.values()
    assert (found.identical, found.trainings) == (6, 6)
    assert found.largest_difference == 0
    assert found.outside == ()
    assert found.tau == pytest.approx(1)
    assert ran[1].agrees
    again = ran[0] / "truths" / "ground-truth" / "ground-truth.csv"
    assert again.read_bytes() == Path(table).read_bytes()


def test_every_experiment_leaves_numbers_figures_and_where_settings_were_chosen(
    ran: tuple[Path, Study, list[str]],
) -> None:
    out = ran[0]
    values = json.loads((out / "result.json").read_text(encoding="utf-8"))
    assert list(values["experiments"]) == ["first", "second"]
    first, second = values["experiments"].values()
    assert first["chosen_on"].startswith("nothing")
    assert first["experiment"]["first_seed"] == 5
    assert first["means"]["density-aware"]["tau"]["n"] == 2
    assert "density_to_truth" in first["means"]["density-aware"]
    assert second["means"]["random-search"]["accuracy"]["n"] == 2
    for name in ("tau", "regret", "scores", "density"):
        assert (out / "first" / f"{name}.svg").read_text(encoding="utf-8").count("</svg>") == 1
        assert (out / "first" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert not (out / "second" / "density.svg").exists()
    text = (out / "tables.md").read_text(encoding="utf-8")
    assert "agrees; 6 of 6 trainings identical" in text
    assert "seeds 5 to 6 (n = 2)" in text
    assert "| *random choice* |" in text


def test_searches_that_experiments_share_are_run_once(
    ran: tuple[Path, Study, list[str]],
) -> None:
    # two strategies with two seeds for the first; the second needs nothing that is not there
    assert [text for text in ran[2] if "to run" in text] == [
        "4 searches to run",
        "0 searches to run",
    ]


def test_the_same_call_runs_nothing_again_and_finds_its_own_means_in_the_intervals(
    ran: tuple[Path, Study, list[str]], table: str
) -> None:
    out, before, _ = ran
    said: list[str] = []
    again = run_study(
        experiments(table), out=out, shipped_tables=True, against=out, say=said.append
    )
    assert [text for text in said if "to run" in text] == ["0 searches to run"] * 2
    assert (
        again.values["experiments"]["first"]["means"]
        == (before.values["experiments"]["first"]["means"])
    )
    # tau and regret of two competitors, tau and regret of uniform, regret of random search
    assert len(again.again) == 7
    assert all(one.same and one.inside for one in again.again)
    assert "7 of 7 means lie inside" in (out / "tables.md").read_text(encoding="utf-8")


def test_a_mean_outside_the_shipped_interval_is_said_so(
    ran: tuple[Path, Study, list[str]], tmp_path: Path
) -> None:
    values = json.loads(json.dumps(dict(ran[1].values)))
    values["experiments"]["first"]["means"]["uniform"]["tau"] |= {
        "mean": 7.0,
        "low": 6.0,
        "high": 8.0,
    }
    (tmp_path / "result.json").write_text(json.dumps(values), encoding="utf-8")
    found = against_shipped(ran[1].values["experiments"], read_shipped(tmp_path))
    wrong = [one for one in found if not one.inside]
    assert [(one.experiment, one.competitor, one.metric) for one in wrong] == [
        ("first", "uniform", "tau")
    ]
    other = dict(ran[1].values["experiments"])
    other["first"] = {**other["first"], "experiment": {**other["first"]["experiment"], "seeds": 9}}
    again = against_shipped(other, read_shipped(tmp_path))
    assert {one.experiment for one in again} == {"second"}


def test_the_studys_own_experiments_fit_their_tables() -> None:
    assert len({one.name for one in EXPERIMENTS}) == len(EXPERIMENTS)
    for one in EXPERIMENTS:
        assert json.loads(json.dumps(one.to_json())) == one.to_json()
        assert one.table in SHIPPED
        found = truth(one.table)
        for competitor in competitors(one.competitors):
            assert competitor.misfit(found.space) is None, one.name


def test_bad_experiments_are_refused_by_name(tmp_path: Path, table: str) -> None:
    good: dict[str, Any] = {"question": "?", "table": table, "competitors": ("uniform",)}
    with pytest.raises(ValueError, match="reference must be one of"):
        Experiment(name="x", **{**good, "reference": "mcts"})
    with pytest.raises(ValueError, match="name must be letters, digits and hyphens"):
        Experiment(name="a/b", **good)
    with pytest.raises(ValueError, match="training must not have steps"):
        Experiment(name="x", **{**good, "training": {"steps": 3}})
    with pytest.raises(ValueError, match="question and chosen_on of x"):
        Experiment(name="x", **{**good, "chosen_on": ""})
    mixing = Experiment(name="x", **{**good, "competitors": ("uniform", "gaea")})
    with pytest.raises(ValueError, match="experiment x: gaea cannot search pooling-resnet"):
        run_study([mixing], out=tmp_path)
    with pytest.raises(ValueError, match="experiments must be some, with a name each"):
        run_study([], out=tmp_path)
    with pytest.raises(ValueError, match="against must be a folder"):
        read_shipped(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda v: v.update(format="nas-ext/evidence-2"), "was written by a newer nas-ext"),
        (lambda v: v.update(experiments=[]), r"experiments of .*result\.json must be an object"),
        (lambda v: v["experiments"].update(first=3), r"experiment 'first' of .*must be an object"),
        (lambda v: v["experiments"]["first"].pop("means"), "means of 'first' of .* be an object"),
        (
            lambda v: v["experiments"]["first"]["means"]["uniform"].update(tau=[1]),
            r"numbers of tau of 'uniform' in .*result\.json must be mean, low and high, got \[1\]",
        ),
        (
            lambda v: v["experiments"]["first"]["means"]["uniform"]["tau"].update(low="0.1"),
            r"low of tau of 'uniform' in .*result\.json must be a number, got '0.1'",
        ),
    ],
)
def test_damaged_earlier_results_are_named_before_anything_runs(
    ran: tuple[Path, Study, list[str]], tmp_path: Path, damage: Any, message: str
) -> None:
    values = json.loads(json.dumps(dict(ran[1].values)))
    damage(values)
    (tmp_path / "result.json").write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_shipped(tmp_path)


def test_a_folder_without_earlier_results_is_refused(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text('{"name": "something else"}', encoding="utf-8")
    with pytest.raises(ValueError, match=r"folder with earlier results, .* has none"):
        read_shipped(tmp_path)

"""Whatever made a folder runs again from the folder alone, and differences are found."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from nas_ext.agreement import numbers, things
from nas_ext.cli import app
from nas_ext.comparison import Comparison, competitors
from nas_ext.comparison.runner import run_searches
from nas_ext.data import digits
from nas_ext.ground_truth import GroundTruth, measure
from nas_ext.reproduce import reproduce
from nas_ext.retrain import Recipe, train_and_test
from nas_ext.retrain.plain import fit_seeds
from nas_ext.retrain_inputs import candidate_of
from nas_ext.runs import Training, search_images
from nas_ext.second_stage import select
from nas_ext.strategies.registry import create
from nas_ext.taking_out import found_in

SPACE = {"name": "pooling-resnet", "widths": [2, 2, 2, 2], "poolings": 1}
TRAINING = Training(steps=9, batch_size=32, validation_batch_size=64, device="cpu", progress=False)


def searched(out: Path, name: str = "learned-tree", **settings: Any) -> Path:
    search_images(
        create(name, seed=3, **settings),
        "pooling-resnet",
        digits(),
        out=out,
        training=TRAINING,
        data_source={"source": "digits", "seed": 0, "image_size": None},
        arguments={k: v for k, v in SPACE.items() if k != "name"},
    )
    return out


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = searched(tmp_path_factory.mktemp("searched") / "x")
    select(out, "exhaustive")
    return out


@pytest.fixture
def copied(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "x"))


def doctor(file: Path, change: Any) -> None:
    values = json.loads(file.read_text())
    change(values)
    file.write_text(json.dumps(values))


def call(*words: str | Path, code: int) -> str:
    outcome = CliRunner().invoke(app, ["reproduce", *map(str, words)])
    assert outcome.exit_code == code, outcome.output
    return outcome.output


def test_a_search_comes_out_the_same_to_the_last_bit(run: Path, tmp_path: Path) -> None:
    printed = call(run, "--out", tmp_path / "again", code=0)
    for line in (
        "equal    draws: 9 compared",
        "equal    rewards: 9 compared",
        "equal    ranking: 3 compared",
        "equal    accuracies: 3 compared",
        "equal    ranking of select exhaustive: 3 compared",
    ):
        assert line in printed
    assert "weights in supernet.safetensors" in printed
    assert "DIFFERS" not in printed
    assert f"reproduced: {run}" in printed
    left = json.loads((tmp_path / "again" / "reproduction.json").read_text())
    assert left["same"]
    assert left["changes"] == []


def test_the_number_of_threads_is_that_of_the_manifest_and_then_put_back(run: Path) -> None:
    assert json.loads((run / "search.json").read_text())["manifest"]["threads"] == 1
    torch.set_num_threads(2)
    made = reproduce(run)
    assert made.out == run.with_name("x-again")
    again = json.loads((made.out / "search.json").read_text())
    assert again["manifest"]["threads"] == 1
    assert made.changes == ()
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("draws", lambda v: v["draws"]["rows"][4].__setitem__(2, 1 - v["draws"]["rows"][4][2])),
        ("rewards", lambda v: v["draws"]["rows"][-1].__setitem__(3, 0.123)),
        ("ranking", lambda v: v["ranking"].reverse()),
        ("accuracies", lambda v: v["ranking"][0].update(accuracy=0.999)),
        ("budget", lambda v: v["budget"].update(reward_passes=1)),
    ],
)
def test_a_doctored_result_is_reported_and_ends_with_exit_code_1(
    what: str, change: Any, copied: Path
) -> None:
    doctor(copied / "search.json", change)
    printed = call(copied, code=1)
    lines = [line for line in printed.splitlines() if line.startswith("DIFFERS")]
    assert [line.split(":")[0] for line in lines] == [f"DIFFERS  {what}"]
    assert f"NOT reproduced: {copied}" in printed


def test_a_difference_may_be_allowed_and_is_said_all_the_same(copied: Path) -> None:
    values = json.loads((copied / "search.json").read_text())
    first = values["ranking"][0]["accuracy"]
    doctor(copied / "search.json", lambda v: v["ranking"][0].update(accuracy=first + 2**-10))
    printed = call(copied, "--within", "0.001", code=0)
    assert "within   accuracies: 1 of 3 differ, by at most 0.000977" in printed
    made = json.loads(call(copied, "--out", copied / "b", "--json", code=1))
    assert not made["same"]


def test_other_versions_are_said_first_and_the_comparison_is_made_nonetheless(
    copied: Path,
) -> None:
    doctor(copied / "search.json", lambda v: v["manifest"]["versions"].update(torch="1.0"))
    printed = call(copied, code=0)
    assert printed.startswith("not as it was: torch: 1.0, now ")
    assert "so the last bits may differ" in printed
    assert "reproduced" in printed


def test_a_search_that_draws_from_gradients_and_one_without_draws_come_out_the_same(
    tmp_path: Path,
) -> None:
    assert reproduce(searched(tmp_path / "p", "pada")).same
    search_images(
        create("gaea"),
        "nasbench-macro",
        digits(),
        out=tmp_path / "g",
        training=TRAINING,
        data_source={"source": "digits", "seed": 0, "image_size": None},
        arguments={"stem": 8, "widths": [8], "layers": [2], "head": 8},
    )
    made = reproduce(tmp_path / "g")
    assert made.same
    assert [check.what for check in made.checks[:2]] == ["ranking", "accuracies"]


def test_images_that_moved_are_named_and_others_are_refused(copied: Path) -> None:
    doctor(copied / "search.json", lambda v: v["data"].update(source="/nowhere"))
    assert "data must be" in call(copied, code=2)
    assert reproduce(copied, source="digits", out=copied / "a").same
    doctor(copied / "search.json", lambda v: v["data"].update(seed=1))
    assert "data must be the images that were searched" in call(
        copied, "--data", "digits", "--out", copied / "b", code=2
    )


def test_what_cannot_be_run_again_is_refused_with_the_reason(copied: Path) -> None:
    file = copied / "search.json"
    whole = file.read_text()
    doctor(file, lambda v: (v.pop("manifest"), v.update(versions={"torch": "2.0"})))
    assert "results from before there were manifests do not" in " ".join(
        call(copied, code=2).split()
    )
    file.write_text(whole)
    doctor(file, lambda v: v.update(strategy="NNI RandomOneShot"))
    assert "it draws without a seed" in call(copied, "--out", copied / "b", code=2)
    file.write_text(whole)
    doctor(file, lambda v: v["manifest"]["made_with"]["training"].update(speed=1))
    assert "got ['speed']" in call(copied, "--out", copied / "c", code=2)
    doctor(file, lambda v: v["manifest"].update(threads="many"))
    assert "threads of the manifest of" in call(copied, "--out", copied / "d", code=2)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("search.json", "[]"),
        ("search.json", '{"format": "nas-ext/search-1", "manifest": 3}'),
        ("search.json", '{"format": "nas-ext/search-9"}'),
        ("fit.json", '{"format": "nas-ext/fit-1", "recipe": 1, "runs": 2}'),
        ("fit.json", '{"format": "nas-ext/fit-1", "manifest": {"made_with": 5}, "runs": [{}]}'),
        ("final.json", '{"recipe": {}}'),
        ("final.json", '{"recipe": [], "manifest": {"made_with": {"architecture": 7}}}'),
        ("comparison.json", '{"format": "nas-ext/comparison-1", "space": []}'),
        ("ground-truth.json", '{"format": "nas-ext/ground-truth-1", "settings": "x"}'),
        ("ground-truth.json", '{"format": "other"}'),
        ("bench.json", '{"table": "pooling", "scores": 1}'),
        ("bench.json", '{"table": "x", "scores": 1, "manifest": {"made_with": {}}}'),
    ],
)
def test_a_damaged_file_is_one_line_that_names_it(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / name).write_text(content)
    run = tmp_path / "x" / name if name == "bench.json" else tmp_path / "x"
    printed = call(run, code=2)
    *said, error = printed.splitlines()
    assert error.startswith("Error: ")
    assert all(line.startswith(("not as it was", "so the last", "running the")) for line in said)
    assert str(tmp_path / "x") in error or "manifest" in error


def test_a_folder_without_a_run_and_an_out_that_is_not_new_are_refused(
    run: Path, tmp_path: Path
) -> None:
    assert "folder must hold one of search.json" in call(tmp_path, code=2)
    assert "is not empty" in call(run, "--out", run, code=2)
    (tmp_path / "file").write_text("{}")
    assert "bench --json" in call(tmp_path / "file", code=2)
    assert "got the file" in call(run, "--out", tmp_path / "file", code=2)


def test_a_ground_truth_comes_out_the_same_and_a_doctored_training_does_not(
    tmp_path: Path,
) -> None:
    truth = GroundTruth(
        space={**SPACE, "widths": [2, 2, 2]},
        data="digits",
        seeds=2,
        recipe=Recipe(epochs=1, batch_size=256),
    )
    measure(truth, out=tmp_path / "x")
    assert reproduce(tmp_path / "x").same
    doctor(tmp_path / "x/trainings/00001-01.json", lambda v: v.update(accuracy=0.5))
    made = reproduce(tmp_path / "x", out=tmp_path / "y")
    assert [check.what for check in made.checks if not check.same] == ["accuracies"]
    (tmp_path / "x/ground-truth.csv").unlink()
    with pytest.raises(ValueError, match="must hold a finished ground truth"):
        reproduce(tmp_path / "x", out=tmp_path / "z")


def test_a_comparison_comes_out_the_same_but_for_a_doctored_score(tmp_path: Path) -> None:
    named = competitors(["uniform", "mcts"])
    comparison = Comparison(
        space=SPACE,
        data="digits",
        image_size=None,
        competitors=named,
        seeds=(0, 1),
        training=TRAINING,
    )
    pairs = [(named[0], 0), (named[1], 1)]
    run_searches(comparison, pairs, out=tmp_path / "x")
    made = reproduce(tmp_path / "x")
    assert made.same
    assert {check.what.split(":")[0] for check in made.checks} == {
        "uniform seed 0",
        "mcts seed 1",
    }
    file = tmp_path / "x/searches/mcts/seed1/scores.json"
    doctor(file, lambda v: v["scores"][0].__setitem__(1, 0.111))
    made = reproduce(tmp_path / "x", out=tmp_path / "y")
    wrong = [check.what for check in made.checks if not check.same]
    assert wrong == ["mcts seed 1: scores of all architectures"]


def test_a_fit_and_a_final_training_come_out_the_same(run: Path, tmp_path: Path) -> None:
    data = digits()
    found = candidate_of(found_in(run), data)
    recipe = Recipe(epochs=1, batch_size=128)
    source = {"data_source": {"source": "digits", "seed": 0, "image_size": None}}
    fit_seeds(found, recipe, data, out=tmp_path / "fit", seeds=2, made_with=source)
    made = reproduce(tmp_path / "fit")
    assert made.same
    assert [check.what for check in made.checks] == [
        "accuracies",
        "losses",
        "weights in fit-seed0.safetensors",
        "weights in fit-seed1.safetensors",
    ]
    doctor(tmp_path / "fit/fit.json", lambda v: v["runs"][1].update(accuracy=0.0))
    assert not reproduce(tmp_path / "fit", out=tmp_path / "b").same
    doctor(tmp_path / "fit/fit.json", lambda v: v["manifest"].pop("made_with"))
    with pytest.raises(ValueError, match="--data must say where the images are"):
        reproduce(tmp_path / "fit", out=tmp_path / "c")
    attributes = {"architecture": dict(found.architecture), **source}
    train_and_test(
        found.build, recipe, data, out=tmp_path / "final", seeds=2, attributes=attributes
    )
    assert reproduce(tmp_path / "final").same


def test_a_bench_comes_out_the_same_from_what_it_printed(tmp_path: Path) -> None:
    words = ["bench", "mini-pooling", "--seeds", "2", "--steps", "60", "--no-baselines", "--json"]
    outcome = CliRunner().invoke(app, words)
    assert outcome.exit_code == 0, outcome.output
    (tmp_path / "bench.json").write_text(outcome.stdout)
    made = reproduce(tmp_path / "bench.json")
    assert made.same
    assert made.out == tmp_path / "bench-again"
    assert made.checks[0].count == 6  # three strategies, two seeds
    doctor(tmp_path / "bench.json", lambda v: v["scores"][0]["runs"][1].update(found="[0]"))
    assert not reproduce(tmp_path / "bench.json", out=tmp_path / "b").same


def test_things_differ_by_place_and_in_length() -> None:
    assert things("x", [1, 2], [1, 2]).bits
    found = things("x", ["a", "b", "c"], ["a", "d"])
    assert (found.count, found.differing, found.same) == (3, 2, False)
    assert found.text == "DIFFERS  x: 2 of 3 differ: at 1 b, now d"


def test_numbers_differ_by_name_and_missing_ones_are_never_within() -> None:
    before = {"a": 1.0, "b": None, "c": 2.0}
    assert numbers("x", before, dict(before)).bits
    assert numbers("x", {"a": float("nan")}, {"a": float("nan")}).bits
    close = numbers("x", before, {**before, "c": 2.25}, within=0.25)
    assert (close.same, close.bits, close.largest) == (True, False, 0.25)
    assert close.text == "within   x: 1 of 3 differ, by at most 0.25: c 2.0, now 2.25"
    assert not numbers("x", before, {**before, "c": 2.25}, within=0.2).same
    for other in ({**before, "b": 0.0}, {"a": 1.0, "b": None}, {**before, "a": float("nan")}):
        missing = numbers("x", before, other, within=100)
        assert (missing.same, missing.differing, missing.largest) == (False, 1, None)
    with pytest.raises(ValueError, match="within must not be negative, got -1"):
        numbers("x", before, before, within=-1)

"""The command line as a user meets it: output, exit codes, and whole small runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from nas_ext.benchmarks import NASBenchMacroSpace
from nas_ext.benchmarks.nasbench_macro import FILE
from nas_ext.cli import app
from nas_ext.strategies.registry import STRATEGIES

RUNNER = CliRunner()
TINY = ["--steps", "12", "--batch-size", "16", "--validation-batch-size", "16", "--device", "cpu"]


def call(*arguments: str, code: int = 0) -> str:
    """Run a command in this process, and return its standard output."""
    result = RUNNER.invoke(app, list(arguments))
    assert result.exit_code == code, (result.output, result.exception)
    return result.stdout if code == 0 else result.output


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder of two classes of RGB images of differing sizes."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for label, level in (("dark", 60), ("light", 180)):
        (folder / label).mkdir()
        for number in range(45):
            side = (int(rng.integers(20, 60)), int(rng.integers(20, 60)), 3)
            pixels = rng.normal(level, 30, side).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def searched(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Search the photos once, for several tests."""
    out = tmp_path_factory.mktemp("runs") / "x"
    space = ["--space", "mini-pooling", "--image-size", "16", "--strategy", "learned-tree"]
    printed = call("search", "--data", str(photos), "--out", str(out), *space, *TINY, "--json")
    assert json.loads(printed)["strategy"] == "LearnedTree"
    return out


def test_a_search_on_a_folder_leaves_its_result_and_report(searched: Path) -> None:
    result = json.loads((searched / "search.json").read_text())
    assert result["data"]["image_size"] == 16
    assert result["space"]["arguments"]["in_chs"] == 3
    assert result["budget"]["train_passes"] == 12
    assert "<html" in (searched / "report.html").read_text()


def test_retraining_goes_on_from_a_search(searched: Path) -> None:
    few = ["--trials", "2", "--epochs", "1", "--seeds", "2", "--batch-size", "16"]
    (line,) = json.loads(call("retrain", str(searched), *few, "--json"))
    assert 0 <= line["test_accuracy"] <= 1
    assert len(line["accuracies"]) == 2
    folder = Path(line["folder"])
    assert {"study.log", "final.json"} <= {path.name for path in folder.iterdir()}
    again = call("retrain", str(searched), *few, code=2)
    assert "the test set was already used" in again
    assert (
        "Retraining" in (searched / "report.html").read_text()
        or "etrain" in (searched / "report.html").read_text()
    )


def test_the_same_seed_gives_the_same_search_in_two_processes(tmp_path: Path) -> None:
    found = []
    for name in ("a", "b"):
        out = tmp_path / name
        command = [
            sys.executable,
            "-m",
            "nas_ext",
            "search",
            "--data",
            "digits",
            "--out",
            str(out),
        ]
        options = ["--space", "mini-pooling", "--steps", "30", "--device", "cpu", "--json"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HOME": str(tmp_path)}
        subprocess.run([*command, *options], check=True, env=environment, capture_output=True)
        result: dict[str, Any] = json.loads((out / "search.json").read_text())
        found.append({key: result[key] for key in ("draws", "ranking", "tree", "phases")})
    assert found[0] == found[1]
    assert any(row[3] is not None for row in found[0]["draws"]["rows"])


def test_bench_prints_what_every_seed_found(tmp_path: Path) -> None:
    options = ["--strategy", "learned-tree", "--seeds", "3", "--steps", "200", "--json"]
    values = json.loads(call("bench", "pooling", *options))
    assert [score["strategy"] for score in values["scores"]] == ["learned-tree", "uniform", "mcts"]
    for score in values["scores"]:
        assert [run["seed"] for run in score["runs"]] == [0, 1, 2]
        assert score["regret"]["low"] <= score["regret"]["mean"] <= score["regret"]["high"]
        for run in score["runs"]:
            assert run["evaluations"] == 200
            assert 1 <= run["rank"] <= 36
            assert run["regret"] == pytest.approx(
                values["references"]["best"]["accuracy"] - run["accuracy"]
            )
    assert "oracle" in values["note"]


def test_bench_prints_a_table_for_people() -> None:
    printed = call("bench", "pooling", "--seeds", "2", "--steps", "50")
    for words in (
        "random choice",
        "most macs",
        "learned-tree found",
        "tpe found",
        "Kendall's tau",
    ):
        assert words in printed


def test_bench_runs_every_strategy_beside_every_baseline() -> None:
    few = ["--seeds", "2", "--steps", "60", "--json"]
    values = json.loads(call("bench", "pooling", "--strategy", "all", *few))
    scores = {score["strategy"]: score for score in values["scores"]}
    assert set(scores) | set(values["skipped"]) == set(STRATEGIES)
    assert {"uniform", "mcts", "learned-tree"} <= set(scores)
    beside = {score["strategy"]: score for score in values["baselines"]}
    assert list(beside) == ["random-search", "regularised-evolution", "tpe"]
    assert beside["random-search"]["runs"] == scores["uniform"]["runs"]
    for score in (*values["scores"], *values["baselines"]):
        assert 0 <= score["found_in_top5"]["low"] <= score["found_in_top5"]["high"] <= 1
        for metric in ("regret", "regret_of_top5", "regret_of_top10", "rank", "draws_in_top10"):
            assert score[metric]["low"] <= score[metric]["mean"] <= score[metric]["high"]
        assert all(run["evaluations"] <= 60 for run in score["runs"])
    assert values["references"]["most macs"]["tau"]["n"] == 36
    assert values["ceiling"]["simulated"]


def test_bench_reads_a_table_from_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {}
    space = NASBenchMacroSpace()
    for architecture in space:
        mean = 50 + sum(architecture) / 10
        rows[space.code(architecture)] = {
            "test_acc": [mean, mean], "mean_acc": mean, "std": 0.0,
            "params": space.params(architecture), "flops": space.macs(architecture),
        }  # fmt: skip
    (tmp_path / FILE).write_text(json.dumps(rows))
    monkeypatch.delenv("NAS_EXT_DATA", raising=False)
    few = ["--strategy", "mcts", "--seeds", "2", "--steps", "20", "--json", "--no-baselines"]
    values = json.loads(call("bench", "nasbench-macro", *few, "--data", str(tmp_path)))
    assert [score["strategy"] for score in values["scores"]] == ["mcts", "uniform"]
    assert values["references"]["best"]["found"] == "22222222"
    assert values["references"]["most macs"]["rank"] == 1
    assert values["ceiling"] == {"tau": 1.0, "simulated": False}
    assert (values["candidates"], values["baselines"]) == (50, [])
    monkeypatch.setenv("NAS_EXT_DATA", str(tmp_path))
    assert json.loads(call("bench", "nasbench-macro", *few))["scores"] == values["scores"]


def test_bench_says_how_to_name_a_file_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NAS_EXT_DATA", raising=False)
    printed = " ".join(call("bench", "nasbench-macro", code=2).split())
    assert "set NAS_EXT_DATA to the file or to its folder, or pass its path" in printed
    shipped = call("bench", "pooling", "--data", "x", code=2)
    assert "data must not be given for table 'pooling'" in " ".join(shipped.split())


def test_lists_are_readable_by_people_and_machines() -> None:
    names = {line["name"] for line in json.loads(call("strategies", "--json"))}
    assert {"uniform", "mcts", "learned-tree"} <= names
    sizes = {line["name"]: line["size"] for line in json.loads(call("spaces", "--json"))}
    assert sizes["pooling-resnet20"] == 36
    assert sizes["mini-pooling"] == 21
    assert "uniform" in call("strategies")
    assert "36" in call("spaces")


def test_help_names_every_command() -> None:
    printed = call("--help")
    for command in ("demo", "search", "retrain", "bench", "report", "strategies", "spaces"):
        assert command in printed
        assert "--help" in call(command, "--help")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--strategy", "nope"], "strategy must be one of"),
        (["--space", "nope"], "name must be one of"),
        (["--set", "temperature=0"], "temperature must be positive, got 0"),
        (["--set", "temprature=1"], "setting of learned-tree must be one of"),
        (["--set", "temperature"], "--set must be NAME=VALUE"),
        (["--space-set", "depth=3"], "arguments of space"),
        (["--device", "tpu"], "device must be auto, cpu or gpu, got 'tpu'"),
        (["--steps", "2"], "steps must be at least 1 for each of 3 phases, got 2"),
        (["--validation-batch-size", "700"], "batch_size must be at most the number of"),
        (["--batch-size", "700"], "batch_size must be at most the number of"),
        (["--learning-rate", "-1"], "learning_rate must be positive"),
        (["--image-size", "16"], "image_size must be None for digits"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str], reason: str, tmp_path: Path
) -> None:
    base = ["search", "--data", "digits", "--space", "mini-pooling", "--steps", "12"]
    printed = call(*base, "--out", str(tmp_path / "x"), "--json", *arguments, code=2)
    assert reason in " ".join(printed.split())
    assert "Traceback" not in printed
    assert not (tmp_path / "x" / "search.json").exists()


def test_bad_folders_are_named(tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    (tmp_path / "empty").mkdir()
    assert "no image" in call("search", "--data", str(tmp_path / "empty"), "--out", out, code=2)
    one = tmp_path / "one" / "cats"
    one.mkdir(parents=True)
    for number in range(9):
        Image.new("L", (8, 8), number).save(one / f"{number}.png")
    single = call("search", "--data", str(tmp_path / "one"), "--out", out, code=2)
    assert "cats" in single
    missing = call("search", "--data", str(tmp_path / "nowhere"), "--out", out, code=2)
    assert "or a folder of images" in " ".join(missing.split())


def test_a_run_is_never_overwritten(searched: Path) -> None:
    before = (searched / "search.json").read_bytes()
    printed = call("search", "--data", "digits", "--out", str(searched), *TINY, code=2)
    assert "out must not hold a search already" in " ".join(printed.split())
    assert (searched / "search.json").read_bytes() == before


def test_what_is_no_run_is_no_run(tmp_path: Path) -> None:
    for command in ("retrain", "report"):
        assert "search.json" in call(command, str(tmp_path), code=2)
    assert "table must be one of" in call("bench", "nope", code=2)


def test_a_demonstration_leaves_its_report_and_result(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    few = ["--steps", "30", "--trials", "1", "--epochs", "1", "--seeds", "2"]
    values = json.loads(call("demo", "--out", str(out), *few, "--json"))
    assert values["found"] == values["picks"]["learned-tree"]
    assert set(values["test_accuracy_same_recipe"]) == set(values["picks"].values())
    assert len(values["conclusions"]) >= 5
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") >= 6
    assert "out must not hold" in " ".join(call("demo", "--out", str(out), *few, code=2).split())
    (out / "mine.txt").write_text("precious")
    kept = call("demo", "--out", str(out), *few, "--force", code=2)
    assert "mine.txt" in kept
    assert (out / "mine.txt").exists()

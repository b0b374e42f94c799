"""`nas-ext compare` and `nas-ext ground-truth`."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from nas_ext.cli import app

TINY = [*("--space-set", "widths=[2,2,2,2]"), *("--space-set", "poolings=1")]


TABLE = """name,architecture,macs,parameters,seed0,seed1
"[1,3]",0 1 1,100,7,80.00,82.00
"[2,2]",1 0 1,200,7,85.00,86.00
"[3,1]",1 1 0,300,7,85.50,85.00
"""


def test_a_ground_truth_is_measured_and_found_by_its_path(tmp_path: Path) -> None:
    argv = ["ground-truth", "pooling-resnet", "--out", str(tmp_path), *TINY, "--data", "digits"]
    argv += ["--seeds", "2", "--epochs", "1", "--json"]
    done = CliRunner().invoke(app, argv)
    assert done.exit_code == 2
    assert "image_size must be None for digits" in done.output
    done = CliRunner().invoke(app, [*argv, "--image-size", "0"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["table"] == str(tmp_path / "ground-truth.csv")
    assert (tmp_path / "ground-truth.csv").read_text(encoding="utf-8").count("\n") == 4


def test_two_strategies_on_two_seeds_leave_report_csv_and_json(tmp_path: Path) -> None:
    truth = tmp_path / "truth.csv"
    truth.write_text(TABLE, encoding="utf-8")
    argv = ["compare", "--out", str(tmp_path), "--table", str(truth)]
    argv += ["--space", "pooling-resnet", *TINY, "--data", "digits", "--image-size", "0"]
    argv += ["--strategies", "uniform mcts", "--seeds", "2", "--budget", "6"]
    argv += ["--batch-size", "32", "--validation-batch-size", "64"]
    done = CliRunner().invoke(app, argv)
    assert done.exit_code == 0, done.output
    assert "2 seeds, mean" in done.output
    values = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert list(values["means"]) == ["uniform", "mcts"]
    assert values["contrasts"]["tau"][0]["n"] == 2
    assert values["ceiling"]["simulated"] is False
    assert (tmp_path / "runs.csv").read_text(encoding="utf-8").count("\n") == 5
    assert (tmp_path / "report.html").is_file()


def test_a_missing_table_and_an_absent_reference_are_refused_before_anything_runs(
    tmp_path: Path,
) -> None:
    argv = ["compare", "--out", str(tmp_path)]
    done = CliRunner().invoke(app, [*argv, "--table", "nowhere.csv"])
    assert done.exit_code == 2
    assert "table must be mini-pooling or a CSV" in done.output
    done = CliRunner().invoke(app, [*argv, "--strategies", "mcts"])
    assert done.exit_code == 2
    assert "reference must be one of the competitors" in done.output
    assert not list(tmp_path.iterdir())

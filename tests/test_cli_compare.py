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
    assert "table must be one of ['mini-pooling'" in done.output
    done = CliRunner().invoke(app, [*argv, "--strategies", "mcts"])
    assert done.exit_code == 2
    assert "reference must be one of the competitors" in done.output
    assert not list(tmp_path.iterdir())


def test_space_images_and_size_are_those_of_the_table_and_another_is_refused(
    tmp_path: Path,
) -> None:
    out = str(tmp_path / "truth")
    argv = ["ground-truth", "pooling-resnet", "--out", out, *TINY, "--data", "digits"]
    argv += ["--image-size", "0", "--seeds", "2", "--epochs", "2", "--batch-size", "16"]
    done = CliRunner().invoke(app, argv)
    assert done.exit_code == 0, done.output
    table = ["--table", f"{out}/ground-truth.csv"]
    argv = ["compare", *table, "--out", str(tmp_path / "compared"), "--strategies"]
    argv += ["uniform random-search", "--seeds", "2", "--budget", "4", "--json"]
    done = CliRunner().invoke(app, argv)
    assert done.exit_code == 0, done.output
    shared = json.loads((tmp_path / "compared" / "comparison.json").read_text(encoding="utf-8"))
    assert shared["space"] == {"name": "pooling-resnet", "widths": [2, 2, 2, 2], "poolings": 1}
    assert (shared["data"], shared["image_size"]) == ("digits", None)
    assert set(json.loads(done.output)["means"]) == {"uniform", "random-search"}
    again = CliRunner().invoke(app, [*argv, "--space", "pooling-resnet", *TINY])
    assert again.exit_code == 0, again.output
    for option, message in (
        (["--space", "mini-pooling"], "space must be"),
        (["--image-size", "8"], "image_size must be 0"),
        (["--data", "synthetic"], "data must be digits"),
        (TINY, "space must be given with --space-set"),
    ):
        done = CliRunner().invoke(app, [*argv, *option])
        assert done.exit_code == 2
        assert message in done.output


def test_a_csv_without_a_manifest_says_neither_space_nor_images(tmp_path: Path) -> None:
    truth = tmp_path / "truth.csv"
    truth.write_text(TABLE, encoding="utf-8")
    argv = ["compare", "--out", str(tmp_path / "x"), "--table", str(truth)]
    done = CliRunner().invoke(app, argv)
    assert done.exit_code == 2
    assert "space must be given" in done.output
    done = CliRunner().invoke(app, [*argv, "--space", "pooling-resnet", *TINY])
    assert done.exit_code == 2
    assert "data must be given" in done.output


def test_the_evidence_names_its_experiments(tmp_path: Path) -> None:
    argv = ["evidence", "--out", str(tmp_path / "x"), "--only", "everything"]
    done = CliRunner().invoke(app, argv)
    assert done.exit_code == 2
    assert "only must be one of ['strategies'" in done.output
    assert not list(tmp_path.iterdir())

"""`retrain` and `fit` from the shell, with and without a search."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from typer.testing import CliRunner

from nas_ext.architecture import Architecture
from nas_ext.cli import app
from nas_ext.cli_retrain import seconds
from nas_ext.data import digits
from nas_ext.retrain import Candidate, Confirmation, Recipe
from nas_ext.retrain_inputs import from_sample, write_samples
from nas_ext.runs import FoundBuild
from nas_ext.spaces import create

RUNNER = CliRunner()
FEW = ("--trials", "2", "--epochs", "1", "--seeds", "2", "--batch-size", "64")
PLACED = ("[4,2,2]", "[2,2,4]")


def call(*arguments: object, code: int = 0) -> str:
    """Run the command in this process, and return its standard output."""
    result = RUNNER.invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, (result.output, result.exception)
    return result.stdout if code == 0 else " ".join(result.output.split())


def opened(run: Path, name: str) -> optuna.Study:
    """Open the study of a network."""
    backend = JournalFileBackend(str(run / "retrain" / name / "study.log"))
    return optuna.load_study(study_name="retrain", storage=JournalStorage(backend))


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """Two placements of the small pooling space, as NNI exports them."""
    space = create("mini-pooling", num_classes=10, in_chs=1).search_space
    path = tmp_path / "samples.json"
    write_samples(path, [space.decode(space.parse(name)) for name in PLACED])
    return path


@pytest.fixture
def searched(tmp_path: Path) -> Path:
    """A search of a few steps."""
    out = tmp_path / "x"
    steps = ("--steps", "12", "--batch-size", "16", "--validation-batch-size", "16")
    call("search", "--data", "digits", "--space", "mini-pooling", "--out", out, *steps, "--json")
    return out


def test_samples_of_nni_are_tuned_confirmed_and_tested_beside_a_baseline(
    samples: Path, tmp_path: Path
) -> None:
    run = tmp_path / "new"
    options = [*FEW, "--confirm-seeds", "2", "--confirm-top", "1", "--baseline", "resnet10t"]
    source = ["--data", "digits", "--sample", samples, "--space", "mini-pooling"]
    lines = json.loads(call("retrain", run, *source, *options, "--json"))
    names = ["[4,2,2]", "[2,2,4]", "resnet10t"]
    assert [line["name"] for line in lines] == names
    assert sum(line["chosen"] for line in lines) == 1
    confirmed = Confirmation.load(run / "retrain")
    assert set(confirmed.networks) == set(names)
    for line in lines:
        assert line["trial"] == confirmed.best(line["name"]).trial
        assert (Path(line["folder"]) / "model" / "config.json").is_file()
    first, second = opened(run, "4-2-2"), opened(run, "2-2-4")
    assert second.trials[1].params == first.best_trial.params  # the warm start
    page = (run / "report.html").read_text()
    assert "Recipes over several seeds" in page
    assert "Tuned networks against macs" in page
    # what is tested is not tested again; a new network joins it
    other = ["--baseline", "mobilenetv3_small_050"]
    again = json.loads(call("retrain", run, *source, *options, *other, "--json"))
    assert [line["accuracies"] for line in again[:3]] == [line["accuracies"] for line in lines]
    (run / "retrain" / "resnet10t" / "final.json").unlink()
    said = call("retrain", run, *source, *options)
    assert "Recipes on validation images, 2 seeds, best first" in said
    assert "resnet10t: test accuracy" in said
    assert "the test set was already used" in call(
        "retrain", run, *source, *options, *other, code=2
    )


def test_several_workers_share_a_storage_and_people_read_the_accuracy(
    searched: Path, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/studies.db"
    ranges = tmp_path / "ranges.json"
    ranges.write_text(json.dumps({"lr": {"low": 0.01, "high": 0.05, "log": True}}))
    said = call("retrain", searched, "--suggest", ranges, code=2)
    assert "enqueued lr must lie in [0.01, 0.05], got 0.1" in said
    options = [
        *FEW,
        "--no-published",
        "--storage",
        url,
        "--workers",
        "2",
        "--suggest",
        ranges,
        "--timeout",
        "1h",
    ]
    said = call("retrain", searched, *options, "--confirm-seeds", "0")
    assert "(n = 2 seeds, 95 %), recipe of trial" in " ".join(said.split())
    (name,) = optuna.get_all_study_names(url)
    assert name.startswith("x-")
    trials = optuna.load_study(study_name=name, storage=url).trials
    assert [set(trial.params) for trial in trials] == [{"lr"}, {"lr"}]
    assert (searched / "report.html").is_file()


def test_fit_trains_one_architecture_with_a_recipe(searched: Path, tmp_path: Path) -> None:
    file = tmp_path / "recipe.json"
    file.write_text(json.dumps({"recipe": Recipe(epochs=1, batch_size=64, lr=0.05).to_json()}))
    named = ["--name", "[4,2,2]", "--recipe", file, "--set", "smoothing=0.1", "--seeds", "2"]
    found = json.loads(call("fit", searched, *named, "--json"))
    assert (found["name"], found["judged_on"], len(found["accuracies"])) == (
        "[4,2,2]",
        "validation",
        2,
    )
    assert (found["recipe"]["lr"], found["recipe"]["smoothing"]) == (0.05, 0.1)
    assert "[4,2,2]: validation accuracy" in call("fit", searched, *named)  # nothing to train
    assert "the recipe it was made with" in call("fit", searched, *named, "--set", "lr=1", code=2)
    tested = ["--test", "--out", tmp_path / "tested"]
    assert json.loads(call("fit", searched, *named, *tested, "--json"))["judged_on"] == "test"
    assert "the test set was already used" in call("fit", searched, *named, *tested, code=2)


@pytest.mark.parametrize("how", [[], ["--test"]])
def test_a_fit_that_diverges_says_in_which_epoch_and_what_to_lower(
    how: list[str], searched: Path, tmp_path: Path
) -> None:
    wild = ["--set", "lr=1e30", "--set", "batch_size=64", "--epochs", "2", "--seeds", "2"]
    said = call("fit", searched, *wild, *how, "--out", tmp_path, code=2)
    assert re.search(
        r"^Error: .*seed 0: the training loss became (nan|inf) in epoch [01] of 2: "
        r"lower the recipe's lr of 1e\+30, or set warmup_epochs or clip_grad",
        said,
    ), said


def test_a_seed_that_diverged_beside_others_is_named(searched: Path, tmp_path: Path) -> None:
    named = ["--set", "batch_size=64", "--epochs", "1", "--seeds", "2", "--out", tmp_path]
    call("fit", searched, *named)
    values = json.loads((tmp_path / "fit.json").read_text())
    values["runs"][1] |= {"accuracy": 0.0, "loss": None, "error": "the loss became nan"}
    (tmp_path / "fit.json").write_text(json.dumps(values))
    said = RUNNER.invoke(app, [str(argument) for argument in ("fit", searched, *named)]).output
    assert "counted as accuracy 0, seed 1: the loss became nan" in said
    assert "n = 2 seeds" in said


def test_bad_input_is_one_line(searched: Path, samples: Path, tmp_path: Path) -> None:
    for arguments, words in (
        (("retrain", tmp_path / "no"), "must hold the search.json of a search, or data be given"),
        (("retrain", tmp_path / "no", "--data", "digits"), "a sample or a baseline must be given"),
        (("retrain", searched, "--timeout", "2x"), "timeout must be seconds, or such as 30m"),
        (("retrain", searched, "--baseline", "resnt18"), "is it one of resnet18"),
        (("retrain", searched, "--suggest", "nothing"), "suggest must be module:function or"),
        (
            ("retrain", tmp_path / "no", "--data", "digits", "--sample", samples),
            "space must be given for the samples",
        ),
        (("fit", searched, "--recipe", "unknown"), "name must be one of resnet20-pooling"),
        (("fit", searched, "--set", "rate=1"), "recipe must only have the settings"),
        (("fit", tmp_path / "no", "--data", "digits"), "or --baseline be given"),
    ):
        said = call(*arguments, code=2)
        assert said.startswith("Error: ")
        assert words in said


@pytest.mark.parametrize(
    ("text", "value"),
    [("90", 90), ("45s", 45), ("30m", 1800), ("2h", 7200), ("1.5h", 5400), ("1h30m", 5400)],
)
def test_a_timeout_has_a_unit(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "2x", "h", "-1", "0", "1h 30m", "1h30"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="timeout must"):
        seconds(text)


def builds(candidate: Candidate) -> Architecture:
    assert isinstance(candidate.build, FoundBuild)
    return candidate.build.architecture


def test_a_sample_comes_back_from_json_as_the_same_architecture(tmp_path: Path) -> None:
    data = digits()
    space = create("nasbench-macro", num_classes=10, in_chs=1).search_space
    for architecture in (space.at(0), space.at(space.size // 2)):
        path = tmp_path / "sample.json"
        write_samples(path, [space.decode(architecture)])
        (sample,) = json.loads(path.read_text())
        assert builds(from_sample("nasbench-macro", sample, data)) == architecture
    wrong: dict[str, Any] = {**sample, "more": 1}
    with pytest.raises(ValueError, match="must have exactly the labels"):
        from_sample("nasbench-macro", wrong, data)
    macro = create("autodeeplab-macro", num_classes=10, in_chs=1).search_space
    with pytest.raises(ValueError, match="must be for classification"):
        from_sample("autodeeplab-macro", macro.decode(macro.at(0)), data)

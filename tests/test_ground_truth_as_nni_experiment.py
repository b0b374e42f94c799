"""The configuration of the ground truth's NNI experiment; nothing is started."""

from __future__ import annotations

import json
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from nas_ext.ground_truth import GroundTruth, record, remaining, train_one

FILE = Path(__file__).parents[1] / "examples" / "ground_truth_as_nni_experiment.py"


@pytest.fixture(scope="module")
def example() -> Any:
    spec = spec_from_file_location("ground_truth_as_nni_experiment", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_trial_is_one_missing_training(example: Any, tmp_path: Path) -> None:
    truth = example.settings(fast=True)
    remaining(truth, out=tmp_path)
    record(train_one(truth, 1, 0), out=tmp_path)
    config = example.configuration(truth, tmp_path, concurrency=2, remote=None).json()
    missing = [[0, 0], [0, 1], [1, 1]]
    assert config["searchSpace"] == {"training": {"_type": "choice", "_value": missing}}
    assert config["maxTrialNumber"] == 3
    assert config["trialConcurrency"] == 2
    assert config["tuner"]["name"] == "GridSearch"
    assert config["trainingService"]["platform"] == "local"


def test_what_a_trial_needs_travels_with_it(
    example: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home" / ".ssh"
    home.mkdir(parents=True)
    (home / "id_rsa").touch()  # NNI looks whether it is there
    monkeypatch.setenv("HOME", str(home.parent))
    truth = example.settings(fast=True)
    config = example.configuration(truth, tmp_path / "out", concurrency=1, remote="me@there")
    code = tmp_path / "out" / "trial"
    values = json.loads((code / "settings.json").read_text(encoding="utf-8"))
    assert GroundTruth.from_json(values) == truth
    assert (code / "trial.py").read_text(encoding="utf-8") == FILE.read_text(encoding="utf-8")
    service = config.json()["trainingService"]
    assert service["platform"] == "remote"
    assert service["trialCommand"] == "python3 trial.py --trial"
    assert service["trialCodeDirectory"] == str(code)
    (machine,) = service["machineList"]
    assert (machine["user"], machine["host"]) == ("me", "there")

"""Train every architecture of a small space alone, as the trials of an NNI experiment.

Without `--start` nothing is started: the configuration is shown, and one training is run in this
process. With it, NNI's manager runs the trials on this machine (or on another, see
docs/scaling.md). It asks for no password, so `nas_ext.loopback` keeps it to this machine. Trials
on another machine must reach it: --remote therefore needs --listen-everywhere, with which whoever
reaches the port can run commands here; let a firewall admit that machine alone.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import nni
from nni.experiment import Experiment, ExperimentConfig, RemoteMachineConfig

from nas_ext.files import read_json, write_json
from nas_ext.ground_truth import GroundTruth, record, remaining, train_one, write_table
from nas_ext.loopback import on_loopback
from nas_ext.retrain import Recipe

SETTINGS = "settings.json"


def settings(fast: bool) -> GroundTruth:
    """Return what is measured; the fast one is 2 architectures of a toy space."""
    space = {"name": "pooling-resnet", "widths": [2, 2, 2], "poolings": 1}
    if fast:
        return GroundTruth(
            space=space, data="digits", seeds=2, recipe=Recipe(epochs=1, batch_size=256)
        )
    return GroundTruth(
        space={"name": "mini-pooling"}, data="digits", seeds=6, recipe=Recipe(epochs=15)
    )


def configuration(
    truth: GroundTruth, out: Path, *, concurrency: int, remote: str | None
) -> ExperimentConfig:
    """Return an experiment with one trial for each training that is not in the folder.

    This file and the settings go to where the trials run; `remote` is USER@HOST with a Python
    that has nas-ext.
    """
    code = out / "trial"
    code.mkdir(parents=True, exist_ok=True)
    shutil.copy(__file__, code / "trial.py")
    write_json(code / SETTINGS, truth.to_json())
    missing = [list(training) for training in remaining(truth, out=out)]
    config: Any = ExperimentConfig("local" if remote is None else "remote")
    config.experiment_name = "ground-truth"
    config.search_space = {"training": {"_type": "choice", "_value": missing}}
    config.tuner.name = "GridSearch"
    config.trial_code_directory = str(code.resolve())
    config.trial_command = f"{sys.executable if remote is None else 'python3'} trial.py --trial"
    config.trial_concurrency = concurrency
    config.max_trial_number = len(missing)
    config.experiment_working_directory = str((out / "nni").resolve())
    if remote is not None:
        user, _, host = remote.partition("@")
        config.training_service.machine_list = [RemoteMachineConfig(host=host, user=user)]
    return config


def trial() -> None:
    """Be one trial: train what NNI names, and report it whole."""
    truth = GroundTruth.from_json(read_json(SETTINGS))
    place, seed = nni.get_next_parameter()["training"]
    cell = train_one(truth, place, seed)
    nni.report_final_result({"default": cell["accuracy"], **cell})


def start(
    truth: GroundTruth, out: Path, config: ExperimentConfig, port: int, *, everywhere: bool
) -> Path:
    """Run the trials, keep what they reported, and return the table."""
    experiment: Any = Experiment(config)
    with nullcontext() if everywhere else on_loopback():
        try:
            experiment.run(port)
            for result in experiment.export_data():
                record({k: v for k, v in result.value.items() if k != "default"}, out=out)
        finally:
            experiment.stop()
    return write_table(truth, out=out)


def main() -> None:
    """Show or run the experiment."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fast", action="store_true", help="4 trainings of a second")
    parser.add_argument("--start", action="store_true", help="start NNI's manager")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--concurrency", type=int, default=1, help="trials at the same time")
    parser.add_argument("--remote", help="USER@HOST, by the SSH key of this account")
    parser.add_argument(
        "--listen-everywhere", action="store_true", help="open the manager to the network"
    )
    parser.add_argument("--out", type=Path, help="goes on with a folder of measure()")
    parser.add_argument("--trial", action="store_true", help="what NNI calls")
    given = parser.parse_args()
    if given.trial:
        trial()
        return
    if given.start and given.remote is not None and not given.listen_everywhere:
        parser.error("--remote must come with --listen-everywhere: the trials call the manager")
    truth = settings(given.fast)
    out = given.out or Path(tempfile.mkdtemp())
    config = configuration(truth, out, concurrency=given.concurrency, remote=given.remote)
    if given.start:
        print(start(truth, out, config, given.port, everywhere=given.listen_everywhere))
        return
    print(json.dumps(config.json(), indent=1))
    cell = train_one(truth, *remaining(truth, out=out)[0])
    record(cell, out=out)
    print(f"{cell['name']}, seed {cell['seed']}: {100 * cell['accuracy']:.2f} % in {out}")


if __name__ == "__main__":
    main()

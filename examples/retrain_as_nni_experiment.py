"""The same retraining as an NNI experiment: NNI's own tuner instead of an Optuna study.

    python retrain_as_nni_experiment.py --dry-run       # prints the configuration
    python retrain_as_nni_experiment.py --trials 10     # starts NNI's manager and runs it

NNI's manager has no password and listens on all interfaces; `nas_ext.loopback` keeps it to this
machine. Trials are processes of this file with --trial. There is no resuming within a
trial, no confirmation and no test: take the recipe that is printed to `nas-ext fit --recipe`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import nni
import torch
from nni.experiment import Experiment

from nas_ext.data import digits
from nas_ext.loopback import on_loopback
from nas_ext.retrain import Epoch, Recipe, fit
from nas_ext.spaces import PoolingResNet

SEARCH_SPACE: dict[str, Any] = {
    "optimizer": {
        "_type": "choice",
        "_value": [
            {
                "_name": "momentum",
                "lr": {"_type": "loguniform", "_value": [1e-2, 1.0]},
                "weight_decay": {"_type": "loguniform", "_value": [1e-5, 1e-2]},
            },
            {
                "_name": "adamw",
                "lr": {"_type": "loguniform", "_value": [1e-4, 1e-2]},
                "weight_decay": {"_type": "loguniform", "_value": [1e-4, 0.5]},
            },
        ],
    },
    "smoothing": {"_type": "quniform", "_value": [0.0, 0.2, 0.05]},
    "reprob": {"_type": "quniform", "_value": [0.0, 0.4, 0.1]},
    "model_ema_decay": {"_type": "choice", "_value": [0, 0.98]},
}


def recipe_of(parameters: dict[str, Any], epochs: int) -> Recipe:
    """Return the recipe that a trial's parameters stand for; the published one for none."""
    if not parameters:
        return Recipe(epochs=epochs, batch_size=64)
    chosen = parameters["optimizer"]
    return Recipe(
        epochs=epochs,
        batch_size=64,
        opt=chosen["_name"],
        lr=chosen["lr"],
        weight_decay=chosen["weight_decay"],
        smoothing=round(parameters["smoothing"], 6),
        reprob=round(parameters["reprob"], 6),
        model_ema_decay=parameters["model_ema_decay"] or None,
    )


def run_trial(epochs: int) -> None:
    """Train the recipe that NNI gives, and tell NNI every epoch's accuracy."""
    torch.set_num_threads(1)
    data = digits()
    space = PoolingResNet.mini(num_classes=data.num_classes, in_chs=data.in_chs)
    architecture = space.search_space.from_stages((4, 2, 2))
    recipe = recipe_of(nni.get_next_parameter() or {}, epochs)

    def report(epoch: Epoch) -> None:
        if epoch.accuracy is not None:
            nni.report_intermediate_result(epoch.accuracy)

    result = fit(
        lambda: space.network(architecture, drop_path_rate=recipe.drop_path),
        recipe,
        data.train,
        data.val,
        data,
        seed=0,
        on_epoch=report,
    )
    nni.report_final_result(result.accuracy)


def configured(trials: int, epochs: int, out: Path) -> Any:
    """Return NNI's experiment, nothing started."""
    experiment: Any = Experiment("local")
    config = experiment.config
    config.experiment_name = "retrain"
    config.search_space = SEARCH_SPACE
    config.tuner.name = "TPE"
    config.tuner.class_args = {"optimize_mode": "maximize", "seed": 0}
    config.trial_command = f"{sys.executable} {Path(__file__).name} --trial --epochs {epochs}"
    config.trial_code_directory = Path(__file__).parent
    config.trial_concurrency = 1
    config.max_trial_number = trials
    config.experiment_working_directory = out
    return experiment


def run_experiment(experiment: Any, port: int, epochs: int) -> None:
    """Start NNI's manager on the loopback, wait for all trials, and print the best recipe."""
    with on_loopback():
        try:
            experiment.run(port)
            trials = experiment.export_data()
        finally:
            experiment.stop()
    best = max(trials, key=lambda trial: float(trial.value))
    recipe = recipe_of(dict(best.parameter), epochs)
    print(f"best of {len(trials)} trials: {float(best.value):.1%} on validation")
    print(json.dumps(recipe.to_json()))


def main() -> None:
    """Be the experiment, or one of its trials."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trial", action="store_true", help="be a trial; NNI calls it so")
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--out", type=Path, help="folder; a new temporary one unless given")
    parser.add_argument("--dry-run", action="store_true", help="print the configuration only")
    parser.add_argument("--fast", action="store_true", help="dry run, and one epoch without NNI")
    chosen = parser.parse_args()
    if chosen.trial:
        run_trial(chosen.epochs)
        return
    out = (chosen.out or Path(tempfile.mkdtemp(prefix="nas-ext-nni-"))).resolve()
    out.mkdir(parents=True, exist_ok=True)
    experiment = configured(chosen.trials, chosen.epochs, out)
    if chosen.dry_run or chosen.fast:
        print(json.dumps(experiment.config.json(), indent=1))
        if chosen.fast:
            run_trial(1)
        return
    run_experiment(experiment, chosen.port, chosen.epochs)


if __name__ == "__main__":
    main()

"""The clock jumps by a day, both ways, while things run: nothing is lost and durations stay."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from nas_ext.ground_truth import GroundTruth, measure
from nas_ext.ground_truth_queue import STUDY, collect, fill
from nas_ext.results import SearchResult
from nas_ext.retrain import Recipe

pytestmark = pytest.mark.drill

HERE = Path(__file__).parent
DAY = 86_400
SPACE = {"name": "pooling-resnet", "widths": (2, 2, 2), "poolings": 1}


class Clock:
    """The clock of the processes that run under it."""

    def __init__(self, folder: Path) -> None:
        self.library, self.offset = folder / "clock.so", folder / "offset"
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            pytest.skip("needs a C compiler, for a clock that can be set")
        command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(self.library)]
        subprocess.run([*command, str(HERE / "clock.c"), "-ldl"], check=True)
        self.set(0)

    def set(self, seconds: int) -> None:
        """Set it so far ahead."""
        self.offset.write_text(str(seconds))

    @property
    def env(self) -> dict[str, str]:
        """What a process needs to live by it."""
        return {"LD_PRELOAD": str(self.library), "CLOCK_OFFSET": str(self.offset)}


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    """A clock that can be set."""
    return Clock(tmp_path)


def test_the_durations_of_a_search_do_not_follow_the_clock(
    clock: Clock, start: Callable[..., Any], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    argv = ["search", "--data", "digits", "--space", "pooling-resnet", "--out", out, "--json"]
    argv += ["--space-set", "widths=[2,2,2]", "--space-set", "poolings=1", "--steps", "300"]
    argv += ["--batch-size", "16", "--validation-batch-size", "64", "--device", "cpu"]
    argv += ["--checkpoint-steps", "20", "--strategy", "mcts"]
    running = start(*argv, env=clock.env)
    running.wait_for(lambda: (out / "checkpoint.ckpt").exists())
    clock.set(-DAY)
    output, errors = running.communicate(timeout=240)
    assert running.returncode == 0, errors
    assert json.loads(output)["ranking"]
    result = SearchResult.load(out)
    assert len(result.draws) == 300
    assert 0 < result.budget.seconds < 240


@pytest.mark.parametrize("jump", [DAY, -DAY])
def test_a_queue_whose_clock_jumps_loses_nothing_and_counts_nothing_twice(
    jump: int, clock: Clock, program: Callable[..., Any], tmp_path: Path
) -> None:
    recipe = Recipe(epochs=3, batch_size=32)
    truth = GroundTruth(space=SPACE, data="digits", seeds=3, recipe=recipe)
    url = f"sqlite:///{tmp_path}/queue.db"
    fill(truth, out=tmp_path / "out", storage=url)
    running = [program(HERE / "queue_program.py", url, tmp_path, env=clock.env) for _ in range(2)]
    study = optuna.load_study(study_name=STUDY, storage=url)
    running[0].wait_for(lambda: study.get_trials(states=(TrialState.COMPLETE,)))
    clock.set(jump)
    for process in running:
        errors = process.communicate(timeout=240)[1]  # Optuna logs a trial that was given up
        assert process.returncode == 0, errors
    table = collect(truth, out=tmp_path / "out", storage=url)
    alone = measure(truth, out=tmp_path / "alone")
    assert table.read_bytes() == alone.read_bytes()
    done = study.get_trials(states=(TrialState.COMPLETE,))
    assert len({tuple(trial.user_attrs["queued"]) for trial in done}) == 6
    # at most the training that each worker was at when the clock jumped
    assert 6 <= len(done) <= 8

"""What a search leaves on disk and on the screen, and that another process repeats it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from nas_ext.oneshot import SupernetTraining
from nas_ext.results import SearchResult
from nas_ext.strategies import LearnedTree, Uniform

Make = Callable[..., Any]

SEARCH = """
import sys
from contextlib import nullcontext
import torch
from nni.nas.evaluator.pytorch import Classification, DataLoader
from nas_ext.data import digits, loader
from nas_ext.oneshot import SearchExperiment, quiet
from nas_ext.spaces import PoolingResNet
from nas_ext.strategies import LearnedTree

out, silent = sys.argv[1], sys.argv[2] == "quiet"
torch.set_num_threads(1)
torch.manual_seed(0)
data = digits(seed=0)
with quiet() if silent else nullcontext():
    evaluator = Classification(
        num_classes=10,
        learning_rate=0.01,
        train_dataloaders=loader(data.train, data, batch_size=64, train=True, seed=0),
        val_dataloaders=loader(data.val, data, batch_size=64, train=False, drop_last=True),
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    strategy = LearnedTree(seed=3, out=out)
    space = PoolingResNet(widths=(2, 2, 2, 2, 2), poolings=2, in_chs=1)
    experiment = SearchExperiment(space, evaluator, strategy, out=out)
    experiment.run()
    experiment.export_top_models(2, formatter="dict")
    experiment.stop()
"""

ORDER = """
import {first}
import {second}
import nni.nas.strategy as strategies
import nas_ext.strategies
for name in ("DARTS", "RandomOneShot", "Proxyless", "GumbelDARTS", "ENAS"):
    made = getattr(strategies, name)
    assert made.__name__ == name, made
    assert "ImportFailed" not in repr(made.__mro__), made.__mro__
    assert made.__module__.startswith("nni.nas.oneshot.pytorch"), made.__module__
"""


def start(script: str, *arguments: str, home: Path) -> subprocess.Popen[str]:
    """Start a fresh process with a home of its own."""
    home.mkdir()
    # Matplotlib, which Lightning's metrics import, would write its font cache under HOME.
    cache = {"MPLCONFIGDIR": str(home.parent / "matplotlib"), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        env={**os.environ, "HOME": str(home), **cache},
        cwd=home.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The same search in two processes, one of them quiet: folders and what they printed."""
    started = {}
    for name in ("plain", "quiet"):
        folder = tmp_path_factory.mktemp(name)
        process = start(SEARCH, str(folder / "out"), name, home=folder / "home")
        started[name] = (folder, process)
    found = {}
    for name, (folder, process) in started.items():
        printed = process.communicate()
        assert process.returncode == 0, printed[1]
        found[name] = (folder, *printed)
    return found


def test_two_processes_search_alike_bit_for_bit(runs: dict[str, Any]) -> None:
    one, other = (SearchResult.load(runs[name][0] / "out") for name in ("plain", "quiet"))
    assert one.draws == other.draws
    assert len({draw.architecture for draw in one.draws}) > 1
    assert any(draw.reward is not None for draw in one.draws)
    assert one.ranking == other.ranking
    assert one.tree == other.tree
    assert one.tree is not None


def test_nothing_is_written_outside_the_folder(runs: dict[str, Any]) -> None:
    for folder, *_ in runs.values():
        assert list((folder / "home").iterdir()) == []
        assert {path.name for path in folder.iterdir()} <= {"home", "out", "matplotlib"}
        assert {path.name for path in (folder / "out").iterdir()} == {"nni", "search.json"}


def test_nothing_floods_the_screen(runs: dict[str, Any]) -> None:
    _, out, errors = runs["plain"]
    # NNI tells of its experiment in 9 lines; torch, NNI and Lightning need 7 for themselves
    assert len(out.splitlines()) <= 9, out
    assert len(errors.splitlines()) <= 9, errors
    assert "training_service" not in out


def test_a_quiet_search_prints_nothing(runs: dict[str, Any]) -> None:
    _, out, errors = runs["quiet"]
    assert out == ""
    assert errors == ""


def test_the_saved_result_is_the_strategys(search: Make, tmp_path: Path) -> None:
    strategy = LearnedTree(out=tmp_path)
    search(strategy)
    assert SearchResult.load(tmp_path / "search.json") == strategy.result
    text = (tmp_path / "search.json").read_text()
    assert json.loads(text)["settings"] == json.loads(json.dumps(strategy.settings))


@pytest.mark.parametrize(
    ("first", "second"),
    [("nas_ext.oneshot", "nni.nas.strategy"), ("nni.nas.strategy", "nas_ext.oneshot")],
)
def test_nnis_own_strategies_are_real_classes(first: str, second: str, tmp_path: Path) -> None:
    process = start(ORDER.format(first=first, second=second), home=tmp_path / "home")
    _, errors = process.communicate()
    assert process.returncode == 0, errors


class Weights(SupernetTraining):
    """Note the first weights."""

    def on_train_start(self) -> None:
        self.first = [p.detach().clone() for p in self.model.parameters()]


@pytest.mark.parametrize("strategy", [Uniform, LearnedTree])
def test_the_seed_leads_the_draws_but_not_the_first_weights(strategy: Any, search: Make) -> None:
    results, weights = [], []
    for seed in (0, 0, 1):
        module = Weights()
        results.append(search(strategy(seed=seed), module=module, max_epochs=4).result)
        weights.append(module.first)
    assert results[0].draws == results[1].draws
    assert results[0].ranking == results[1].ranking
    drawn = [[draw.architecture for draw in result.draws] for result in results]
    assert drawn[0] != drawn[2]
    for one, other in zip(weights[0], weights[2], strict=True):
        assert torch.equal(one, other)

"""A run's architectures evaluated by one process and by several."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nas_ext.cli import app
from nas_ext.data import digits
from nas_ext.evaluation import evaluate
from nas_ext.runs import Training, search_images
from nas_ext.second_stage import select
from nas_ext.strategies import BalancedMixture
from nas_ext.supernets import load_supernet

TRAINING = Training(
    steps=12, batch_size=16, validation_batch_size=100, device="cpu", progress=False
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mixture of two supernets: an architecture is evaluated in its own of them."""
    out = tmp_path_factory.mktemp("runs") / "mixture"
    source = {"source": "digits", "seed": 0, "image_size": None}
    strategy = BalancedMixture(seed=1, models=2)
    data = digits(seed=0)
    search_images(strategy, "mini-pooling", data, out=out, training=TRAINING, data_source=source)
    return out


def test_two_processes_give_the_numbers_of_one_to_the_bit(run: Path) -> None:
    space = load_supernet(run).space
    names = list(dict.fromkeys(architecture[:-1] for architecture in space))
    names = [*names[::-1], names[0]]  # unsorted, one of them twice
    one, two = (evaluate(run, names, workers=workers) for workers in (1, 2))
    assert one.tolist() == two.tolist()
    assert len(set(one.tolist())) > 2
    first = evaluate(run, names[:1], batches=1)
    assert first.shape == (1,)
    assert 100 * first[0] == pytest.approx(round(100 * first[0]))  # of one batch of 100


def test_a_second_stage_on_two_processes_is_that_of_one(run: Path) -> None:
    done = CliRunner().invoke(
        app, ["select", str(run), "--method", "exhaustive", "--workers", "2", "--json"]
    )
    assert done.exit_code == 0, done.output
    found, alone = json.loads(done.output), select(run, "exhaustive")
    assert found["ranking"] == json.loads(json.dumps(alone.to_json()["ranking"]))
    assert found["passes"] == alone.passes
    assert found["passes"]["accuracies"] > 0


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_for_a_search_step_by_step_are_refused(workers: int, run: Path) -> None:
    with pytest.raises(ValueError, match=f"workers must be at least 1.*got {workers} for evol"):
        select(run, "evolution", workers=workers)


def test_nothing_to_evaluate_is_refused(run: Path) -> None:
    with pytest.raises(ValueError, match="architectures must be at least one, got none"):
        evaluate(run, [])

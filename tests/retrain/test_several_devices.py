"""One training on two devices: in processes of gloo's on the CPU, torchrun's and own ones."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from nas_ext.data import ImageData
from nas_ext.retrain import Recipe, fit

HERE = Path(__file__).parent


def output(*command: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, *command], cwd=HERE, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.fixture(scope="module")
def torchruns(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What both of torchrun's processes found."""
    folder = str(tmp_path_factory.mktemp("torchrun"))
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    return output(*launcher, "devices_program.py", "torchrun", folder)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a training that starts its own processes found."""
    return output("devices_program.py", "own", str(tmp_path_factory.mktemp("own")))[0]


def test_two_devices_take_the_steps_of_one(
    torchruns: list[dict[str, Any]], own: dict[str, Any]
) -> None:
    # without batch norm and draws, the mean of two halves' gradients is the whole batch's
    for found in torchruns:
        assert found["flat"] == pytest.approx(own["flat"], rel=1e-5)
        assert found["flat weights"] == pytest.approx(own["flat weights"], rel=1e-4, abs=1e-6)


def test_all_devices_end_with_the_same_weights(torchruns: list[dict[str, Any]]) -> None:
    # with batch norm, whose statistics each takes of its share, a moving average and dropout
    assert len(torchruns) == 2
    assert torchruns[0]["whole"] == torchruns[1]["whole"]


def test_a_training_on_several_devices_goes_on_bit_by_bit(
    torchruns: list[dict[str, Any]], own: dict[str, Any]
) -> None:
    bits = {found[kind] for found in torchruns for kind in ("whole", "resumed")}
    assert bits == {own["resumed"]}


def test_one_process_is_told_the_epochs_and_may_end_the_training(
    torchruns: list[dict[str, Any]], own: dict[str, Any]
) -> None:
    ends = sorted((found["told"], found["ended"]) for found in torchruns)
    assert ends == [([], "RuntimeError"), ([0, 1], "Stop")]
    assert (own["told"], own["ended"]) == ([0, 1], "Stop")
    assert own["listened"] == [0, 1, 2]


def test_an_error_in_an_own_process_is_raised_as_it_was(own: dict[str, Any]) -> None:
    assert own["diverged"].startswith("the training loss became inf in epoch 7: lower the ")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 25}, "batch_size must be a multiple of 2 for 2 devices, got 25"),
        ({"batch_size": 30, "mixup": 0.2}, "must be a multiple of 4 for 2 devices, got 30"),
        ({}, "build must be a function of a module, or functools.partial of one"),
    ],
)
def test_what_two_devices_cannot_share_is_refused_at_once(
    data: ImageData, changes: dict[str, Any], message: str
) -> None:
    recipe = replace(Recipe(epochs=1, batch_size=50), **changes)
    images = (data.train, data.val, data)
    with pytest.raises(ValueError, match=message):
        fit(lambda: nn.Identity(), recipe, *images, seed=0, device=["cpu", "cpu"])


def test_a_training_without_a_device_is_refused(data: ImageData) -> None:
    recipe = Recipe(epochs=1, batch_size=50)
    with pytest.raises(ValueError, match="device must name one at least"):
        fit(nn.Identity, recipe, data.train, data.val, data, seed=0, device=[])

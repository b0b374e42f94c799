"""What Lightning does at every step for nobody is left out, and nothing else."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pytorch_lightning.profilers import SimpleProfiler

from nas_ext.oneshot import SearchModule, SupernetTraining
from nas_ext.strategies import Uniform

Make = Callable[..., Any]


@pytest.mark.parametrize(
    "name", ["on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer"]
)
def test_a_users_hook_still_gets_every_batch(name: str, search: Make) -> None:
    class Own(SupernetTraining):
        pass

    seen: list[Any] = []

    def hook(self: Any, batch: Any, *rest: Any, **named: Any) -> Any:
        seen.append(batch)
        return batch

    setattr(Own, name, hook)
    found = search(Uniform(candidates=1), module=Own())
    assert len(seen) >= len(found.result.draws)
    assert all(isinstance(part, torch.Tensor) for batch in seen for part in batch)


def test_lightning_reads_the_arguments_of_the_step_without_making_them_anew() -> None:
    step = SearchModule.training_step
    assert inspect.getfullargspec(step).args == ["self", "batch", "batch_idx"]
    assert vars(step)["__signature__"] is inspect.signature(step)


def test_a_users_profiler_sees_every_section(search: Make) -> None:
    profiler = SimpleProfiler()
    search(Uniform(candidates=1), profiler=profiler)
    assert len(profiler.recorded_durations["run_training_batch"]) == 10

"""Search with one strategy after another, each in a fresh process, and report what it holds on to.

Reads lines of `STRATEGY STEPS LEAK` and answers each with a line of JSON: at every tenth of the
steps the resident bytes, those that are this process's own, open files, threads and child
processes. LEAK bytes are kept at every step on purpose: 0, but where the watch itself is tested.
Everything is imported once, before the processes part. Nothing is collected or trimmed before it
is measured.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nni.nas.nn.pytorch import LayerChoice
from pytorch_lightning import Callback
from torch import Tensor, nn

from nas_ext.data.images import ImageData, Images, assemble
from nas_ext.nni import ModelSpace
from nas_ext.oneshot import SearchExperiment, quiet
from nas_ext.runs import Training, evaluator
from nas_ext.strategies.registry import create

SETTINGS: dict[str, dict[str, Any]] = {"prototype-density": {"prototypes": 4}}
"""What differs from a strategy's usual settings: the space has 8 architectures."""


class Smallest(ModelSpace):  # type: ignore[misc]  # NNI has no types
    """Three choices between two linear layers of two units."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        self.layers = nn.ModuleList(
            LayerChoice([nn.Linear(2, 2), nn.Linear(2, 2)], label=f"layer{i}") for i in range(3)
        )
        self.head = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for layer in self.layers:
            x = torch.tanh(layer(x))
        logits: Tensor = self.head(x)
        return logits


class Watch(Callback):
    """Note what the process holds on to, every so many steps."""

    def __init__(self, every: int, leak: int) -> None:
        self.every = every
        self.leak = leak
        self.kept: list[bytes] = []
        self.rows: list[dict[str, int]] = []

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.leak:
            self.kept.append(os.urandom(self.leak))
        if trainer.global_step % self.every == 0:
            self.rows.append({"step": trainer.global_step, **held()})


def held() -> dict[str, int]:
    """Return resident bytes that are this process's own, open files and child processes."""
    status = Path("/proc/self/status").read_text()
    lines = dict(line.split(":", 1) for line in status.splitlines())
    children = Path("/proc/self/task").glob("*/children")
    return {
        "own": 1024 * int(lines["RssAnon"].split()[0]),
        "resident": 1024 * int(lines["VmRSS"].split()[0]),
        "files": len(os.listdir("/proc/self/fd")),
        "threads": int(lines["Threads"]),
        "children": sum(len(file.read_text().split()) for file in children),
    }


def noise() -> ImageData:
    """Return 96 grey images of 2 x 2 pixels without meaning, in two classes."""
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.integers(0, 256, (96, 1, 2, 2), dtype=np.uint8))
    labels = torch.from_numpy(np.arange(96) % 2)
    places = np.arange(96)
    parts = (places[:64], places[64:80], places[80:])
    return assemble("noise", ("even", "odd"), Images(pixels, labels), parts)


def search(name: str, steps: int, leak: int) -> dict[str, Any]:
    """Run one strategy and return what it held on to."""
    torch.set_num_threads(1)
    watch = Watch(steps // 10, leak)
    settings = Training(
        steps=steps,
        batch_size=4,
        validation_batch_size=8,
        learning_rate=0.01,
        device="cpu",
        progress=False,
        augment=False,
    )
    strategy = create(name, **SETTINGS.get(name, {}))
    began, spent = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder, quiet():
        torch.manual_seed(0)
        run = evaluator(noise(), settings, seed=0, title=name)
        run.trainer.callbacks.append(watch)
        space: Any = Smallest()
        experiment = SearchExperiment(space, run, strategy, out=folder)
        experiment.run()
        experiment.stop()
    return {
        "strategy": name,
        "steps": strategy.result.budget.steps,
        "seconds": time.perf_counter() - began,
        "processor_seconds": time.process_time() - spent,
        "rows": watch.rows,
    }


def main() -> None:
    """Serve until the input ends."""
    print("ready", flush=True)
    for line in sys.stdin:
        name, steps, leak = line.split()
        if os.fork() == 0:
            code = 1
            try:
                print(json.dumps(search(name, int(steps), int(leak))), flush=True)
                code = 0
            finally:
                os._exit(code)
        _, status = os.wait()
        if status:
            print(json.dumps({"strategy": name, "failed": status}), flush=True)


if __name__ == "__main__":
    main()

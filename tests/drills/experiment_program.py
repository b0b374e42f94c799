"""Run an ordinary NNI experiment with Lightning's ModelCheckpoint, and be killed in a step."""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from nas_ext.data import digits, loader
from nas_ext.files import write_json
from nas_ext.nni import Lightning, Trainer
from nas_ext.oneshot import SearchExperiment, SupernetTraining, last_checkpoint, quiet
from nas_ext.spaces import create
from nas_ext.strategies import LearnedTree

STEPS = 40


class Watched(SupernetTraining):
    """Note the first step, and be killed in a chosen one."""

    def __init__(self, kill_at: int | None) -> None:
        super().__init__()
        self.kill_at = kill_at
        self.began_at: int | None = None

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        step = int(self.trainer.global_step)
        self.began_at = step if self.began_at is None else self.began_at
        if step == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().training_step(batch, batch_idx)


def main() -> None:
    """Run, or go on with, the experiment in a folder."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--kill-at", type=int)
    parser.add_argument("--resume", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    data = digits(seed=0)
    module, strategy = Watched(given.kill_at), LearnedTree(seed=0)
    saving = ModelCheckpoint(dirpath=given.out / "kept", every_n_train_steps=4, save_top_k=-1)
    trainer = Trainer(
        max_steps=STEPS,
        max_epochs=-1,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        callbacks=[saving],
    )
    last = last_checkpoint(given.out) if given.resume else None
    evaluator = Lightning(
        module,
        trainer,
        train_dataloaders=loader(data.train, data, batch_size=64, train=True, seed=0),
        val_dataloaders=loader(data.val, data, batch_size=64, train=False, drop_last=True),
        fit_kwargs={} if last is None else {"ckpt_path": str(last)},
    )
    space = create("mini-pooling", num_classes=data.num_classes, in_chs=data.in_chs)
    with quiet():
        experiment = SearchExperiment(space, evaluator, strategy, out=given.out)
        experiment.run()
        experiment.stop()
    left = strategy.result.to_json()
    del left["manifest"], left["budget"]["seconds"]
    weights = hashlib.sha256()
    for name, tensor in sorted(strategy.supernet.state_dict().items()):
        if isinstance(tensor, torch.Tensor):
            weights.update(name.encode() + tensor.contiguous().numpy().tobytes())
    found = {"result": left, "weights": weights.hexdigest(), "began_at": module.began_at}
    write_json(given.out / "left.json", found)


if __name__ == "__main__":
    main()

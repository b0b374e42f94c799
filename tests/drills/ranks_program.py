"""A search by two processes, one of which is killed, fails or diverges in its third batch.

Arguments: a folder, what happens (kill, error or nan), and to which of the two.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nas_ext.data import digits, loader
from nas_ext.nni import LayerChoice, Lightning, ModelSpace, Trainer
from nas_ext.oneshot import SearchExperiment, SupernetTraining
from nas_ext.strategies import MCTS


class Tiny(ModelSpace):  # type: ignore[misc]  # NNI has no types
    """Two choices between linear layers on 8x8 images."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Flatten(), nn.Linear(64, 8))
        self.layers = nn.ModuleList(
            LayerChoice([nn.Linear(8, 8), nn.Linear(8, 8)], label=f"layer{i}") for i in range(2)
        )
        self.head = nn.Linear(8, 10)

    def forward(self, x: Any) -> Any:
        """Return the logits."""
        x = self.stem(x)
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return self.head(x)


class Faulty(SupernetTraining):
    """Have the fault in the third batch."""

    batches = 0

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        """Do what training does, or not."""
        loss = super().training_step(batch, batch_idx)
        self.batches += 1
        if self.batches == 3 and self.trainer.global_rank == int(sys.argv[3]):
            Path(sys.argv[1], "faulty").write_text(str(os.getpid()))
            if sys.argv[2] == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if sys.argv[2] == "error":
                raise OSError("image 17 cannot be read")
            return loss * float("nan")
        return loss


def main() -> None:
    """Search."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    data = digits(seed=0)
    trainer = Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp_find_unused_parameters_true",
        max_epochs=3,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    evaluator = Lightning(
        Faulty(),
        trainer,
        train_dataloaders=loader(data.train, data, batch_size=64, train=True),
        val_dataloaders=loader(data.val, data, batch_size=64, train=False, drop_last=True),
    )
    Path(sys.argv[1], f"rank{trainer.global_rank}").write_text(str(os.getpid()))
    space: Any = Tiny()
    SearchExperiment(space, evaluator, MCTS(seed=0), out=sys.argv[1]).run()


if __name__ == "__main__":
    main()

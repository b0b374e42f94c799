"""Several processes that train one supernet: who this one is, and what they tell each other."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from pytorch_lightning.strategies import DDPStrategy
from torch import distributed, nn
from torch.utils.data import BatchSampler, DataLoader
from torch.utils.data.distributed import DistributedSampler

from nas_ext.architecture import Architecture
from nas_ext.estimation import FloatArray
from nas_ext.oneshot.data_order import _settings
from nas_ext.oneshot.randomness import generators

__all__ = ["ALONE", "RankBatches", "Ranks", "ranks_of", "shared"]

STRATEGY = "ddp_find_unused_parameters_true"
"""The trainer's strategy that several devices need: most parameters have no part in a step."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class Ranks:
    """Say which of `size` processes this is; all of them call the same methods in one order.

    Results are the same in all of them, to the bit. One process gets back what it gives.
    """

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Say whether this is the process that writes files."""
        return self.rank == 0

    def gathered(self, value: Value) -> list[Value]:
        """Return the values of all processes in the order of their ranks."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        distributed.all_gather_object(found, value)
        return found

    def agree(self, what: str, value: Any) -> None:
        """Raise RuntimeError, in every process, when they do not all hold an equal value."""
        found = self.gathered(value)
        if any(one != found[0] for one in found):
            raise RuntimeError(
                f"{what} must be the same in all {self.size} processes, got {found}: give each "
                "the same seeds, settings and data"
            )

    def mean_reward(self, architecture: Architecture, reward: float) -> float:
        """Return the mean of all processes' rewards, which must be of one architecture."""
        if self.size == 1:
            return reward
        found = self.gathered((architecture, reward))
        if any(one != architecture for one, _ in found):
            raise RuntimeError(
                "architecture of a step must be the same in all processes, got "
                f"{[one for one, _ in found]}"
            )
        return math.fsum(value for _, value in found) / self.size

    def spread(
        self,
        architectures: Sequence[Architecture],
        work: Callable[[Sequence[Architecture]], FloatArray],
    ) -> FloatArray:
        """Return the `[N, ...]` rows of the architectures, each the work of one process.

        Each takes neighbours in sorted order, which share most. The row of an architecture must
        not depend on which others are asked for.
        """
        if self.size == 1 or not architectures:
            return work(architectures)
        order = sorted(range(len(architectures)), key=lambda place: architectures[place])
        low, high = (len(order) * rank // self.size for rank in (self.rank, self.rank + 1))
        mine = [architectures[place] for place in order[low:high]]
        found = [rows for rows in self.gathered(work(mine) if mine else None) if rows is not None]
        together = np.concatenate(found)
        rows = np.empty_like(together)
        rows[order] = together
        return rows


ALONE = Ranks()
"""One process, which has nobody to talk to."""


def ranks_of(trainer: Any, model: nn.Module) -> Ranks:
    """Return which process of a trainer this is.

    Raises ValueError for a trainer on several devices that would go wrong: under a strategy other
    than DDP that finds unused parameters, in processes that end with the training and take its
    result with them (spawn, fork), or with batch norm that waits for the others, which evaluate
    other architectures meanwhile.
    """
    size = trainer.num_devices * trainer.num_nodes
    if size == 1:
        return ALONE
    strategy = trainer.strategy
    settings = getattr(strategy, "_ddp_kwargs", {})
    if (
        not isinstance(strategy, DDPStrategy)
        or strategy._start_method != "popen"
        or not settings.get("find_unused_parameters")
        or settings.get("static_graph")
    ):
        raise ValueError(
            f"strategy of the trainer must be {STRATEGY!r} on several devices, where most "
            f"parameters of a supernet have no part in a step, got {_named(strategy)} with "
            f"devices={trainer.num_devices}, num_nodes={trainer.num_nodes}"
        )
    synchronised = any(isinstance(part, nn.SyncBatchNorm) for part in model.modules())
    if synchronised or getattr(strategy, "_layer_sync", None) is not None:
        raise ValueError(
            "sync_batchnorm of the trainer must be False on several devices: they evaluate "
            "different architectures at the same time, got SyncBatchNorm"
        )
    return Ranks(rank=int(trainer.global_rank), size=size)


def _named(strategy: Any) -> str:
    settings = {"start_method": getattr(strategy, "_start_method", None)}
    settings |= getattr(strategy, "_ddp_kwargs", {})
    said = ", ".join(f"{name}={value!r}" for name, value in settings.items() if value is not None)
    return f"{type(strategy).__name__}({said})"


class RankBatches(DistributedSampler[list[int]]):
    """Give each process its own of the batches that a sampler lists for an epoch.

    The first process draws the list and tells the others. What is left over when the batches are
    dealt out, fewer than there are processes, is not trained on in that epoch. Lightning leaves a
    `DistributedSampler` as it is. Raises ValueError when a process would get no batch.
    """

    def __init__(self, batches: Any, ranks: Ranks) -> None:
        if len(batches) < ranks.size:
            raise ValueError(
                f"training loader must have at least one batch for each of {ranks.size} "
                f"devices, got {len(batches)}"
            )
        super().__init__(batches, ranks.size, ranks.rank, shuffle=False, drop_last=True)
        self.batches = batches
        self.ranks = ranks

    def __iter__(self) -> Iterator[Any]:
        told = self.ranks.gathered(list(self.batches) if self.ranks.first else None)[0]
        whole = told or []
        return iter(whole[self.ranks.rank : len(self) * self.ranks.size : self.ranks.size])


def shared(loader: Any, ranks: Ranks) -> Any:
    """Return a training loader that gives this process its share of the batches.

    For a `DataLoader` without a batch size whose sampler is a `BatchSampler`, as those of
    `nas_ext.data`: its generators, which augmentations draw from, start elsewhere in each
    process. To any other loader Lightning gives a `DistributedSampler` itself, unless told not
    to.
    """
    if ranks.size == 1 or not isinstance(loader, DataLoader):
        return loader
    if loader.batch_sampler is not None or not isinstance(loader.sampler, BatchSampler):
        return loader
    if not ranks.first:
        for generator in generators(loader):
            state = np.random.SeedSequence([generator.initial_seed(), ranks.rank])
            generator.manual_seed(int(state.generate_state(1, np.uint64)[0] >> np.uint64(1)))
    sampler: Any = RankBatches(loader.sampler, ranks)
    return DataLoader(loader.dataset, batch_size=None, sampler=sampler, **_settings(loader))


def summary(batch: Any) -> str:
    """Return a few words that differ for different batches: shapes and sums of the tensors."""
    if isinstance(batch, torch.Tensor):
        values = batch.detach().double().flatten().cpu()
        weights = torch.arange(1, len(values) + 1, dtype=torch.float64)
        return f"{list(batch.shape)} {float(values.sum())!r} {float(values @ weights)!r}"
    parts = batch.values() if isinstance(batch, dict) else batch
    return "; ".join(
        summary(p) for p in parts if isinstance(p, torch.Tensor | dict | list | tuple)
    )

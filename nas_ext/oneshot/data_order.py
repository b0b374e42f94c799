"""A training loader whose samples are drawn anew, and otherwise, each epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
)

from nas_ext.samplers.data_importance import DataImportance

__all__ = ["DataOrder", "reordered"]


class DataOrder(Sampler[int]):
    """Give the samples of an epoch in the order that a `DataImportance` draws.

    The list of an epoch is drawn when it begins. `take` then says which positions of the training
    subset the next batch was made of; `indices` are the numbers by which the data set knows them,
    None where these are the positions themselves. `generator` leads the draws.
    """

    def __init__(
        self,
        importance: DataImportance,
        generator: torch.Generator,
        *,
        indices: Sequence[int] | None = None,
    ) -> None:
        self.importance = importance
        self.generator = generator
        self._indices = indices
        self._epoch: list[int] = []
        self._taken = 0

    def __len__(self) -> int:
        return self.importance.size

    def __iter__(self) -> Iterator[int]:
        uniforms = torch.rand(len(self), generator=self.generator, dtype=torch.float64)
        self._epoch, self._taken = self.importance.positions(uniforms.numpy()), 0
        if self._indices is None:
            return iter(self._epoch)
        return iter([self._indices[position] for position in self._epoch])

    def take(self, count: int) -> list[int]:
        """Return the positions of the next `count` samples of the epoch.

        Raises ValueError when the epoch has no more so many.
        """
        positions = self._epoch[self._taken : self._taken + count]
        if len(positions) != count:
            raise ValueError(
                f"batch must have at most the {len(positions)} samples that are left of the "
                f"epoch for data sampling, got {count}"
            )
        self._taken += count
        return positions

    @property
    def taken(self) -> int:
        """Return how many samples of the epoch were taken."""
        return self._taken

    def go_on(self, taken: int) -> None:
        """Go on behind so many samples of the epoch that was begun again."""
        self._taken = taken


def reordered(loader: Any, *, seed: int) -> tuple[DataLoader[Any], DataOrder]:
    """Return a loader like the given one, which stays as it is, and the order that leads it.

    For a `DataLoader` with a data set and a sampler, and for one without a batch size whose
    sampler is a `BatchSampler`. `seed` serves samplers without a generator of their own. Raises
    ValueError for any other loader, and for samplers that do not give each sample once.
    """
    if not isinstance(loader, DataLoader) or type(loader).__iter__ is not DataLoader.__iter__:
        raise ValueError(
            f"training loader must be one DataLoader for data sampling, got {loader!r}"
        )
    if isinstance(loader.dataset, IterableDataset):
        raise ValueError(
            "training set must be indexed for data sampling, got the IterableDataset "
            f"{type(loader.dataset).__name__}"
        )
    vectorised = loader.batch_sampler is None
    batches: Any = loader.sampler if vectorised else loader.batch_sampler
    if type(batches) is not BatchSampler:
        raise ValueError(
            "training loader must draw its batches by a BatchSampler for data sampling, got "
            f"{type(batches).__name__}"
        )
    order = _order(batches.sampler, seed)
    size, drops = batches.batch_size, batches.drop_last
    how: dict[str, Any] = {"batch_size": size, "sampler": order, "drop_last": drops}
    if vectorised:
        how = {"batch_size": None, "sampler": BatchSampler(order, size, drops)}
    return DataLoader(loader.dataset, **how, **_settings(loader)), order


def _order(sampler: Any, seed: int) -> DataOrder:
    indices: list[int] | None = None
    if type(sampler) is SubsetRandomSampler:
        indices = [int(index) for index in sampler.indices]
    elif not (type(sampler) is SequentialSampler or _each_once(sampler)):
        raise ValueError(
            "training loader must give each sample once, by a RandomSampler, a "
            "SubsetRandomSampler or a SequentialSampler, for data sampling, got "
            f"{type(sampler).__name__}"
        )
    own = getattr(sampler, "generator", None)
    generator = torch.Generator().manual_seed(seed) if own is None else own
    return DataOrder(DataImportance(len(sampler)), generator, indices=indices)


def _each_once(sampler: Any) -> bool:
    """Say whether a sampler is a shuffle, no bootstrap."""
    return (
        type(sampler) is RandomSampler
        and not sampler.replacement
        and sampler.num_samples == len(sampler.data_source)
    )


def _settings(loader: DataLoader[Any]) -> dict[str, Any]:
    """Return what a loader is made of beside data set and samplers."""
    names = (
        "num_workers",
        "collate_fn",
        "pin_memory",
        "timeout",
        "worker_init_fn",
        "multiprocessing_context",
        "generator",
        "prefetch_factor",
        "persistent_workers",
    )
    return {name: getattr(loader, name) for name in names}

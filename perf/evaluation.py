"""Outputs of all architectures of a supernet, with shared prefixes, against one forward for each.

Prints a line a goal: name, ratio of processor times, goal, pass or fail. Architectures share
nothing where the model has a forward of its own on the object: that is the slow side, on a random
sample, in torch's own layout. Run it as `python -m perf.evaluation`, on one thread.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

from nas_ext.architecture import Architecture
from nas_ext.oneshot import Supernet, SupernetTraining, accuracy, prefix, quiet
from nas_ext.oneshot.layout import MemoryFormat, arrange
from nas_ext.spaces import NASBenchMacro, PoolingResNet
from nas_ext.strategies import Uniform
from perf._common import Rows, interleaved, median_ratio

ROUNDS = 5
SAMPLE = 60


def supernet(space: Any, *, batch: int, size: int, layout: MemoryFormat) -> Supernet:
    """Return the untrained supernet of a space, with one batch of random images."""
    with quiet():
        model: Any = Uniform().mutate_model(space)
    arrange(model, layout)
    module: Any = SupernetTraining()
    module.set_model(model)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 3, size, size, generator=generator)
    data = TensorDataset(images, torch.zeros(batch, dtype=torch.long))
    made = Supernet(
        space.search_space,
        module,
        loader=lambda: DataLoader(data, batch_size=batch),
        reward=accuracy,
        renew=lambda seed: {},
        rng=np.random.default_rng(0),
    )
    made.check()
    return made


def separately(made: Supernet, architectures: Sequence[Architecture]) -> Any:
    """Return outputs of one forward for each architecture."""
    model: Any = made.module.model
    vars(model)["forward"] = model.forward
    try:
        return made.outputs(architectures)
    finally:
        del vars(model)["forward"]


def depth_first(made: Supernet, architectures: Sequence[Architecture]) -> Any:
    """Return outputs without stacking siblings."""
    before, prefix.WIDTH = prefix.WIDTH, 0
    try:
        return made.outputs(architectures)
    finally:
        prefix.WIDTH = before


def check_bits(made: Supernet, sample: Sequence[Architecture]) -> None:
    """Raise RuntimeError unless shared and separate outputs are equal to the bit."""
    every = made.space.enumerate()
    shared = made.outputs(every)[[every.index(architecture) for architecture in sample]]
    if not np.array_equal(shared, separately(made, sample)):
        raise RuntimeError("outputs must not depend on what is shared")


def macro(rows: Rows) -> None:
    """Measure the 6,561 architectures of the small NAS-Bench-Macro on 32 images of 16 x 16."""
    kinds: tuple[MemoryFormat, ...] = ("contiguous", "channels_last")
    plain, last = (_macro(layout) for layout in kinds)
    every = plain.space.enumerate()
    places = np.random.default_rng(0).choice(len(every), size=SAMPLE, replace=False)
    sample = [every[place] for place in places]
    for made in (plain, last):
        check_bits(made, sample)
    works: list[Callable[[], object]] = [
        lambda: separately(plain, sample),
        lambda: last.outputs(every),
        lambda: depth_first(plain, every),
    ]
    share = len(every) / SAMPLE
    slow, fast = interleaved(*works[:2], rounds=ROUNDS)
    rows.add("6,561 forwards / shared prefixes, stacked", share * median_ratio(slow, fast), 12)
    slow, deep = interleaved(works[0], works[2], rounds=ROUNDS)
    rows.add("6,561 forwards / depth-first, same layout", share * median_ratio(slow, deep), 5)


def _macro(layout: MemoryFormat) -> Supernet:
    torch.manual_seed(0)
    return supernet(NASBenchMacro.small(), batch=32, size=16, layout=layout)


def pooling(rows: Rows) -> None:
    """Measure the 36 architectures of Pooling-ResNet20 on 64 images of 32 x 32."""
    torch.manual_seed(0)
    made = supernet(PoolingResNet.resnet20(), batch=64, size=32, layout="contiguous")
    every = made.space.enumerate()
    check_bits(made, every)
    works: list[Callable[[], object]] = [
        lambda: separately(made, every),
        lambda: made.outputs(every),
    ]
    slow, fast = interleaved(*works, rounds=ROUNDS)
    rows.add("36 forwards / shared prefixes, same layout", median_ratio(slow, fast), 2.1)


def main() -> int:
    """Measure, print, and return 0 when every goal is met."""
    torch.set_num_threads(1)
    rows = Rows("evaluation")
    macro(rows)
    pooling(rows)
    return rows.finish()


if __name__ == "__main__":
    sys.exit(main())

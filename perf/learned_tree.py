"""Where the time goes when `LearnedTree` learns its tree of all of NAS-Bench-Macro.

6,561 architectures of the small supernet on 64 images of 16 x 16 are run, compared by each
distance and clustered, up to a sampler that has walked once. Prints the processor seconds of each
part, and a line `name value goal pass|fail` for a whole. "distances" are within "tree". Run it as
`python -m perf.learned_tree`, on one thread.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from nas_ext.architecture import Architecture
from nas_ext.bilinear import Bilinear
from nas_ext.oneshot import Supernet
from nas_ext.search import Setting
from nas_ext.similarity import BILINEAR, encoding_rows
from nas_ext.spaces import NASBenchMacro
from nas_ext.strategies import LearnedTree
from nas_ext.tree import BinaryTree, cluster_rows
from perf._common import Rows, cpu_seconds
from perf.evaluation import supernet

IMAGES = 64
TREE = 5.0
"""Seconds that a tree may take from outputs on: "in seconds" is the goal."""

WHOLE = 60.0


class Parts:
    """Take the processor seconds of parts, one after the other."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.seconds: dict[str, float] = {}

    def of(self, part: str, work: Callable[[], Any]) -> Any:
        """Do a part and return what it gives."""
        given: list[Any] = []
        self.seconds[part] = cpu_seconds(lambda: given.append(work()))
        return given[0]

    def print(self) -> None:
        """Print a line."""
        parts = ", ".join(f"{part} {seconds:.2f}" for part, seconds in self.seconds.items())
        print(f"  {self.name}: {parts} s", flush=True)


def distances(rows: Bilinear) -> None:
    """Work out all pairs, as clustering does."""
    rows.fill(np.empty((len(rows), len(rows)), dtype=np.float32))


def first_walk(tree: BinaryTree, made: Supernet) -> tuple[Architecture, ...]:
    """Make the samplers of the phases that have a tree, and draw from the last."""
    method = LearnedTree()
    setting = Setting(made.space, made, np.random.default_rng(0))
    filled = method.warm_up("tree warm-up", 1, lambda setting: tree).build(setting)
    return method.walks("search", 1).build(replace(setting, previous=filled)).ask()


def tree_of(
    name: str, every: Sequence[Architecture], made: Supernet, rows: Callable[[], Bilinear]
) -> float:
    """Print the parts for one distance; return the seconds from outputs to a sampler."""
    parts = Parts(name)
    alike = parts.of("rows", rows)
    grown = parts.of("tree", lambda: cluster_rows(every, alike, np.random.default_rng(0)))
    parts.of("sampler", lambda: first_walk(grown, made))
    taken = sum(parts.seconds.values())
    parts.of("distances", lambda: distances(alike))
    parts.print()
    return taken


def main() -> int:
    """Measure, print, and return 0 when every goal is met."""
    torch.set_num_threads(1)
    rows = Rows("learned_tree")
    torch.manual_seed(0)
    made = supernet(NASBenchMacro.small(), batch=IMAGES, size=16, layout="channels_last")
    parts = Parts("all distances")
    every = parts.of("architectures", made.space.enumerate)
    outputs = parts.of("outputs", lambda: made.outputs(every))
    parts.print()
    taken = [
        tree_of(name, every, made, lambda known=known: known(outputs))  # type: ignore[misc]
        for name, known in BILINEAR.items()
    ]
    encodings = np.stack([made.space.encoding(architecture) for architecture in every])
    taken.append(tree_of("encoding", every, made, lambda: encoding_rows(encodings)))
    rows.add("CPU seconds from outputs to a sampler, slowest", max(taken), TREE, at_most=True)
    whole = sum(parts.seconds.values()) + max(taken)
    rows.add("CPU seconds for the tree with all outputs", whole, WHOLE, at_most=True)
    return rows.finish()


if __name__ == "__main__":
    sys.exit(main())

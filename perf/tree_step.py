"""A walk down and an update up a tree of 100,000 leaves, against one training step.

Prints one line: name, median ratio, goal, pass or fail. Both sides run in this process, in turn.
Run it as `python -m perf.tree_step`, on one thread.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from nas_ext.architecture import Architecture
from nas_ext.spaces import PoolingResNet
from nas_ext.tree import backup, descend, rank_tree
from perf._common import Rows, interleaved, median_ratio

LEAVES = 100_000
WALKS = 500
ROUNDS = 7
GOAL = 0.002


def tree_work() -> Callable[[], None]:
    """Return what walks and updates `WALKS` times in a balanced tree that was walked before."""
    rng = np.random.default_rng(0)
    leaves: list[Architecture] = [(i,) for i in range(LEAVES)]
    tree = rank_tree(leaves, rng.random(LEAVES).tolist())
    for leaf in leaves:
        backup(tree.leaf(leaf), 0.5, decay=0.95)

    def walk() -> None:
        for _ in range(WALKS):
            leaf = descend(tree.root, rng, temperature=0.02, exploration=0.5)
            backup(leaf, 0.5, decay=0.95)

    return walk


def step_work() -> Callable[[], None]:
    """Return one SGD step of the pooling ResNet20 on 64 images of 32 x 32 pixels."""
    space = PoolingResNet.resnet20(num_classes=10, in_chs=3).search_space
    model = PoolingResNet.resnet20(num_classes=10, in_chs=3)
    network = model.network(space.from_stages((4, 3, 3)))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    images, labels = torch.randn(64, 3, 32, 32), torch.randint(10, (64,))

    def step() -> None:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(images), labels)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()

    return step


def main() -> int:
    """Measure, print, and return 0 when the goal is met."""
    torch.set_num_threads(1)
    walk, step = tree_work(), step_work()
    step()
    walks, steps = interleaved(walk, step, rounds=ROUNDS)
    rows = Rows("tree_step")
    ratio = median_ratio(walks, steps) / WALKS
    rows.add(f"walk and update at {LEAVES:,} leaves / training step", ratio, GOAL, at_most=True)
    return rows.finish()


if __name__ == "__main__":
    sys.exit(main())

"""Ten thousand leaves at once, against as many walks one after another.

The tree is balanced and every leaf was visited; the walks are those that name the candidates at
the end of a search. Run it as `python -m perf.leaf_sampling`, on one thread.
"""

from __future__ import annotations

import sys

import numpy as np

from nas_ext.architecture import Architecture
from nas_ext.tree import BinaryTree, backup, descend, draw_leaves, rank_tree, unbiased
from perf._common import Rows, interleaved, median_ratio

DRAWS = 10_000
ROUNDS = 5
VALUE = unbiased(decay=0.95, initial=1.0)


def visited(count: int) -> BinaryTree:
    """Return a balanced tree whose leaves all got a reward, better ones on the left."""
    rng = np.random.default_rng(0)
    leaves: list[Architecture] = [(i,) for i in range(count)]
    truth = np.sort(rng.normal(0.6, 0.05, size=count))[::-1]
    tree = rank_tree(leaves, truth.tolist())
    for leaf, accuracy in zip(leaves, truth, strict=True):
        backup(tree.leaf(leaf), float(np.clip(accuracy + rng.normal(0, 0.05), 0, 1)), decay=0.95)
    return tree


def measure(rows: Rows, count: int, temperature: float, goal: float) -> None:
    """Measure one tree at one temperature."""
    root, rng = visited(count).root, np.random.default_rng(1)

    def one_by_one() -> None:
        for _ in range(DRAWS):
            descend(
                root,
                rng,
                temperature=temperature,
                exploration=0.0,
                unvisited="never",
                value=VALUE,
            )

    def at_once() -> None:
        draw_leaves(
            root,
            rng,
            DRAWS,
            temperature=temperature,
            exploration=0.0,
            unvisited="never",
            value=VALUE,
        )

    slow, fast = interleaved(one_by_one, at_once, rounds=ROUNDS)
    name = f"{DRAWS:,} walks / leaves at once of {count:,}, temperature {temperature}"
    rows.add(name, median_ratio(slow, fast), goal)


def main() -> int:
    """Measure, print, and return 0 when every goal is met."""
    rows = Rows("leaf_sampling")
    measure(rows, 6_561, 0.0025, 15)
    measure(rows, 6_561, 0.02, 15)
    measure(rows, 100_000, 0.0025, 15)
    return rows.finish()


if __name__ == "__main__":
    sys.exit(main())

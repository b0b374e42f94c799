"""Run a strategy against a table with ground truth: seconds, no images, no network."""

from __future__ import annotations

import argparse

from nas_ext.benchmarks import pooling_table, run
from nas_ext.strategies import MCTS, LearnedTree, Uniform


def main() -> None:
    """Print what three strategies find with the same number of evaluations."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fast", action="store_true", help="two seeds instead of ten")
    seeds = range(2 if parser.parse_args().fast else 10)

    table = pooling_table()
    for strategy in (Uniform(), MCTS(), LearnedTree(distance="encoding")):
        runs = [run(strategy.phases(2000), table, seed=seed) for seed in seeds]
        regret = 100 * sum(result.regret for result in runs) / len(runs)
        found = ", ".join(f"{result.name} (rank {result.rank})" for result in runs)
        print(f"{type(strategy).__name__}: mean regret {regret:.2f} points: {found}")


if __name__ == "__main__":
    main()

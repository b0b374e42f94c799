"""Train every architecture of a small space alone, by workers that share an Optuna storage.

Here the workers are two processes and the storage is a SQLite file. On several machines it is a
PostgreSQL or MySQL address, and each machine calls `work(address)`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from nas_ext.ground_truth import GroundTruth
from nas_ext.ground_truth_queue import collect, fill, work
from nas_ext.retrain import Recipe
from nas_ext.workers import finished


def main() -> None:
    """Queue the trainings, let two workers do them, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fast", action="store_true", help="4 trainings of a second")
    fast = parser.parse_args().fast

    space = {"name": "pooling-resnet", "widths": [2, 2, 2], "poolings": 1}
    truth = GroundTruth(
        space=space if fast else {"name": "mini-pooling"},
        data="digits",
        seeds=2 if fast else 6,
        recipe=Recipe(epochs=1, batch_size=256) if fast else Recipe(epochs=15),
    )
    folder = Path(tempfile.mkdtemp())
    address = f"sqlite:///{folder}/queue.db"
    fill(truth, out=folder, storage=address)
    for _, done in finished(work, [(address,), (address,)], workers=2):
        print(f"a worker did {done} trainings")
    print(collect(truth, out=folder, storage=address).read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()

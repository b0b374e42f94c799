"""A worker of the queue of a ground truth: arguments are the storage and a folder to report to."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from nas_ext import ground_truth_queue as queue


def main() -> None:
    """Work until nothing is queued, with signs of life every second."""
    queue.HEARTBEAT = 1
    said: list[str] = []
    done = queue.work(sys.argv[1], say=said.append)
    text = "\n".join([str(done), *said])
    Path(sys.argv[2], f"worker-{os.getpid()}").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

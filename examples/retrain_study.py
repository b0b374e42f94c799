"""Does tuning pay? Tune, confirm and test a small network, and compare with the published recipe.

The same command goes on where an earlier one ended, killed or not. The numbers in
docs/retraining.md are those of `--data fashion-mnist --out runs/fashion`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from nas_ext.compare import verdict
from nas_ext.data import ImageData, digits, fashion_mnist
from nas_ext.report import write_retrain_report
from nas_ext.retrain import Confirmation, FinalResult, Recipe, Stages, final, run_stages
from nas_ext.retrain_inputs import from_sample
from nas_ext.spaces import create


def main() -> None:
    """Retrain the default architecture of the small pooling space, with both recipes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", choices=("digits", "fashion-mnist"), default="digits")
    parser.add_argument("--out", type=Path, help="folder; a new temporary one unless given")
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--fast", action="store_true", help="two trials of one epoch, two seeds")
    chosen = parser.parse_args()
    if chosen.fast:
        chosen.trials, chosen.epochs, chosen.seeds = 2, 1, 2
    run = chosen.out or Path(tempfile.mkdtemp(prefix="nas-ext-study-"))
    out = run / "retrain"

    data = load(chosen.data)
    space = create("mini-pooling", num_classes=data.num_classes, in_chs=data.in_chs).search_space
    sample = space.decode(space.parse("[4,2,2]"))
    candidate = from_sample("mini-pooling", sample, data)
    stages = Stages(
        recipe=Recipe(epochs=chosen.epochs, batch_size=64),
        trials=chosen.trials,
        seeds=chosen.seeds,
        confirm_seeds=chosen.seeds,
    )
    place = out / candidate.folder
    if (place / "final.json").exists():
        tuned, confirmation = FinalResult.load(place), Confirmation.load(out)
    else:
        (found,) = run_stages([candidate], data, out=out, stages=stages, say=print)
        assert found.confirmation is not None  # confirm_seeds is not 0
        tuned, confirmation = found.final, found.confirmation
        first = confirmation.first(candidate.name)
        if first is not None and first.trial != tuned.trial:
            print("Testing the published recipe as well", flush=True)
            final(
                found.study,
                candidate.build,
                data,
                out=out / "published",
                seeds=chosen.seeds,
                trial=first.trial,
            )
    report(confirmation, tuned, out)
    print(f"report: {write_retrain_report(run)}")


def load(name: str) -> ImageData:
    """Return digits, or Fashion-MNIST at 14x14 pixels with 10,000 training images."""
    if name == "digits":
        return digits()
    return fashion_mnist(image_size=14, train=10_000, val=4_000)


def report(confirmation: Confirmation, tuned: FinalResult, out: Path) -> None:
    """Print what the seeds say."""
    best, first = confirmation.winner, confirmation.first(confirmation.winner.network)
    if first is None or best.trial == first.trial:
        print("On validation images no tuned recipe is better than the published one.")
        return
    words = f"tuned (trial {best.trial})", "published (trial 0)"
    said = verdict(words[0], best.accuracies, words[1], first.accuracies, paired=True)
    print(f"Validation: {said}")
    published = FinalResult.load(out / "published")
    same = (tuned.accuracies, published.accuracies)
    print(f"Test: {verdict(words[0], same[0], words[1], same[1], paired=True)}")


if __name__ == "__main__":
    main()

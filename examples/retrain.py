"""Tune how one architecture is trained with Optuna, then train it anew and test it once."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from nas_ext.data import digits
from nas_ext.retrain import Recipe, final, study
from nas_ext.spaces import PoolingResNet


def main() -> None:
    """Retrain the placement [4,2,2] of the small pooling space on digits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fast", action="store_true", help="two trials of one epoch")
    fast = parser.parse_args().fast

    data = digits()
    space = PoolingResNet.mini(num_classes=data.num_classes, in_chs=data.in_chs)
    architecture = space.search_space.from_stages((4, 2, 2))
    out = Path(tempfile.mkdtemp(prefix="nas-ext-retrain-"))
    tuned = study(
        lambda recipe: space.network(architecture, drop_path_rate=recipe.drop_path),
        data,
        out=out,
        recipe=Recipe(epochs=1 if fast else 30, batch_size=64),
        n_trials=2 if fast else 20,
        user_attrs={"architecture": list(architecture)},
    )
    print(f"best trial: {tuned.best_trial.number}, {tuned.best_value:.1%} on validation")
    tested = final(tuned, lambda recipe: space.network(architecture), data, out=out, seeds=2)
    print(f"test accuracy {tested.mean:.1%} over {len(tested.seeds)} seeds; study in {out}")


if __name__ == "__main__":
    main()

"""Tune how networks are trained with Optuna, confirm the best recipes, test each network once."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from nas_ext.data import digits
from nas_ext.retrain import Recipe, baseline, confirm, final, study
from nas_ext.retrain_inputs import from_sample
from nas_ext.spaces import create


def main() -> None:
    """Retrain an architecture of the small pooling space beside one of timm's, on digits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fast", action="store_true", help="two trials of one epoch")
    fast = parser.parse_args().fast

    data = digits()
    space = create("mini-pooling", num_classes=data.num_classes, in_chs=data.in_chs).search_space
    sample = space.decode(space.parse("[4,2,2]"))  # as NNI exports it
    networks = [from_sample("mini-pooling", sample, data), baseline("resnet10t", data)]
    out = Path(tempfile.mkdtemp(prefix="nas-ext-retrain-"))
    tuned = {
        network.name: (
            study(
                network.build,
                data,
                out=out / network.folder,
                recipe=Recipe(epochs=1 if fast else 20, batch_size=64),
                n_trials=2 if fast else 15,
                user_attrs={"architecture": network.architecture},
            ),
            network.build,
        )
        for network in networks
    }
    confirmed = confirm(tuned, data, out=out, top=1 if fast else 3, seeds=2 if fast else 5)
    for recipe in confirmed.recipes:
        print(f"{recipe.network}, trial {recipe.trial}: {recipe.mean:.1%} on validation")
    for network in networks:
        optimised, build = tuned[network.name]
        tested = final(
            optimised,
            build,
            data,
            out=out / network.folder,
            seeds=2 if fast else 5,
            timm=network.timm,
        )
        print(f"{network.name}: {tested.mean:.1%} on the test set, recipe of trial {tested.trial}")
    print(f"studies, weights and model cards are in {out}")


if __name__ == "__main__":
    main()

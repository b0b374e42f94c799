"""Search where a small residual network should halve its resolution, inside an NNI experiment."""

from __future__ import annotations

import argparse

from nni.nas.evaluator.pytorch import Classification
from nni.nas.experiment import NasExperiment

from nas_ext.data import digits, loader
from nas_ext.spaces import PoolingResNet
from nas_ext.strategies import LearnedTree


def main() -> None:
    """Search scikit-learn's digits and print the three best architectures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fast", action="store_true", help="a few steps only")
    epochs = 2 if parser.parse_args().fast else 80

    data = digits()
    evaluator = Classification(
        learning_rate=0.01,
        num_classes=10,
        max_epochs=epochs,
        train_dataloaders=loader(data.train, data, batch_size=64, train=True),
        val_dataloaders=loader(data.val, data, batch_size=128, train=False, drop_last=True),
    )
    strategy = LearnedTree(seed=0)
    experiment = NasExperiment(PoolingResNet.mini(num_classes=10), evaluator, strategy)
    experiment.run()
    for sample in experiment.export_top_models(top_k=3, formatter="dict"):
        print(sample)
    print(f"{strategy.result.best.accuracy:.1%} of the validation images right")
    experiment.stop()


if __name__ == "__main__":
    main()

"""Search a space of one's own, here which blocks a timm network can spare, and retrain it."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import timm
from nni.nas.nn.pytorch import LayerChoice, ModelSpace
from nni.nas.space import model_context
from torch import Tensor, nn

from nas_ext.architecture import Choice, SearchSpace
from nas_ext.data import digits
from nas_ext.oneshot import SearchExperiment
from nas_ext.retrain import Recipe, final, study
from nas_ext.runs import Training, evaluator
from nas_ext.strategies import MCTS


class AtMostThree:
    """Allow at most three blocks to be spared: the state is how many there are so far."""

    def start(self) -> int:
        return 0

    def step(self, state: int, position: int, option: int) -> int | None:
        return state + option if state + option <= 3 else None

    def accepts(self, state: int) -> bool:
        return True


class Sparing(ModelSpace):  # type: ignore[misc]  # NNI has no types
    """Keep or spare each block of a MobileNetV3 whose output has the shape of its input."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__()
        self.net: Any = timm.create_model("mobilenetv3_small_050", **arguments)
        choices = []
        for s, stage in enumerate(self.net.blocks):  # type: ignore[arg-type]  # of timm's
            for b in range(1, len(stage)):
                choices.append(Choice(f"stage{s}_block{b}", ("keep", "spare")))
                options = {"keep": stage[b], "spare": nn.Identity()}
                stage[b] = LayerChoice(options, label=choices[-1].label)
        self.search_space = SearchSpace("sparing", choices, rule=AtMostThree())

    def forward(self, x: Tensor) -> Any:
        return self.net(x)


def main() -> None:
    """Search scikit-learn's digits, then tune and test what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fast", action="store_true", help="one epoch of everything")
    steps, epochs, trials, seeds = (10, 1, 1, 1) if parser.parse_args().fast else (2000, 30, 20, 3)
    data, out = digits(), Path(tempfile.mkdtemp(prefix="nas-ext-own-space-"))
    shape = {"num_classes": data.num_classes, "in_chans": data.in_chs}

    strategy = MCTS(seed=0, candidates=10)
    training = evaluator(data, Training(steps=steps), seed=0, title="own space")
    space: Any = Sparing(**shape)
    SearchExperiment(space, training, strategy, out=out / "search").run()
    best = strategy.result.best

    def build(recipe: Recipe) -> nn.Module:
        """Return the found network, fresh: in NNI's context a choice is what was chosen."""
        with model_context(dict(best.sample)):
            return Sparing(**shape, drop_path_rate=recipe.drop_path)

    tuned = study(build, data, out=out, recipe=Recipe(epochs=epochs), n_trials=trials)
    tested = final(tuned, build, data, out=out, seeds=seeds)
    print(f"{best.name}: {best.accuracy:.1%} in the supernet, {tested.mean:.1%} alone; {out}")


if __name__ == "__main__":
    main()

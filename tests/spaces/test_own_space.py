"""Spaces that a user brings, of timm's layers: every strategy and the retraining, unchanged."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import cache
from math import comb
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.nn.pytorch import LayerChoice
from nni.nas.space import model_context
from torch import Tensor, nn

from nas_ext.architecture import Choice, SearchSpace
from nas_ext.data import ImageData, digits, loader
from nas_ext.nni import Lightning, ModelSpace, RawFormatModelSpace, Trainer
from nas_ext.oneshot import SupernetTraining
from nas_ext.retrain import Recipe, final, study
from nas_ext.strategies import (
    GAEA,
    MCTS,
    PADA,
    BalancedMixture,
    Boltzmann,
    DensityAware,
    Independent,
    IterativeMCTS,
    LearnedTree,
    PrototypeDensity,
    ResolutionDARTS,
    StrictFairness,
    Uniform,
)
from nas_ext.strategies.registry import STRATEGIES

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_space.py"


class TwoNetworks(ModelSpace):  # type: ignore[misc]  # NNI has no types
    """Take each of four stages from one timm network or from another: 16 architectures."""

    def __init__(self, drop_path: float = 0.0) -> None:
        super().__init__()
        networks: list[Any] = [
            timm.create_model(
                "test_efficientnet",
                num_classes=10,
                in_chans=1,
                act_layer=act_layer,
                drop_path_rate=drop_path,
            )
            for act_layer in (nn.SiLU, nn.Hardswish)
        ]
        self.net, other = networks
        for at in range(1, 5):
            options = {"silu": self.net.blocks[at], "hardswish": other.blocks[at]}
            self.net.blocks[at] = LayerChoice(options, label=f"stage{at}")

    def forward(self, x: Tensor) -> Any:
        return self.net(x)


class NoThreeInARow:
    """Let no option stand three times in a row: the state is the last two options."""

    def start(self) -> tuple[int, ...]:
        return ()

    def step(self, state: tuple[int, ...], position: int, option: int) -> tuple[int, ...] | None:
        return None if state == (option, option) else (*state, option)[-2:]

    def accepts(self, state: tuple[int, ...]) -> bool:
        return True


class Ruled(TwoNetworks):
    """The same with a rule: of 16 sequences, 6 have three alike in a row."""

    def __init__(self, drop_path: float = 0.0) -> None:
        super().__init__(drop_path)
        choices = [Choice(f"stage{at}", ("silu", "hardswish")) for at in range(1, 5)]
        self.search_space = SearchSpace("ruled", choices, rule=NoThreeInARow())


def allowed(sample: dict[str, Any]) -> bool:
    taken = [sample[f"stage{at}"] for at in range(1, 5)]
    return len(set(taken[:3])) > 1 and len(set(taken[1:])) > 1


@cache
def images() -> ImageData:
    return digits(seed=0)


def searched(space: Any, strategy: Any, steps: int = 6) -> Any:
    """Train on a few digits for some steps, and return the strategy."""
    data = images()
    train, val = (part.select(torch.arange(64)) for part in (data.train, data.val))
    trainer = Trainer(
        max_steps=steps,
        max_epochs=-1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    evaluator = Lightning(
        SupernetTraining(learning_rate=0.05),
        trainer,
        train_dataloaders=loader(train, data, batch_size=16, train=True, seed=0),
        val_dataloaders=loader(val, data, batch_size=32, train=False, drop_last=True),
    )
    strategy(RawFormatModelSpace(space, evaluator), SequentialExecutionEngine())
    return strategy


SAMPLED: dict[str, Callable[[], Any]] = {
    "uniform": lambda: Uniform(candidates=4),
    "mcts": lambda: MCTS(candidates=4),
    "learned-tree": lambda: LearnedTree(candidates=4),
    "iterative-mcts": lambda: IterativeMCTS(candidates=4, iterations=1, batches=1),
    "balanced-mixture": lambda: BalancedMixture(models=2, candidates=4),
    "density-aware": lambda: DensityAware(candidates=4),
    "prototype-density": lambda: PrototypeDensity(candidates=4, prototypes=3, samples=6),
    "boltzmann": lambda: Boltzmann(candidates=4),
    "independent": lambda: Independent(candidates=4),
    "strict-fairness": lambda: StrictFairness(candidates=4),
    "pada": lambda: PADA(candidates=4),
}
MIXED: dict[str, Callable[[], Any]] = {"gaea": GAEA, "resolution-darts": ResolutionDARTS}


def test_no_strategy_is_left_out() -> None:
    assert set(SAMPLED) | set(MIXED) == set(STRATEGIES)


@pytest.mark.parametrize("name", [*SAMPLED, *MIXED])
def test_every_strategy_searches_a_timm_network_with_layer_choices(name: str) -> None:
    torch.manual_seed(0)
    strategy = searched(TwoNetworks(), {**SAMPLED, **MIXED}[name]())
    result = strategy.result
    assert result.space["size"] == 16
    sample = dict(result.best.sample)
    assert sample.keys() == {f"stage{at}" for at in range(1, 5)}
    network = next(strategy.list_models(limit=1)).executable_model()
    assert network(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


@pytest.mark.parametrize("name", sorted(set(SAMPLED) - {"strict-fairness"}))
def test_strategies_that_draw_keep_to_a_rule(name: str) -> None:
    torch.manual_seed(0)
    strategy = searched(Ruled(), SAMPLED[name](), steps=12)
    space = strategy.search_space
    assert space.size == 16 - 6
    drawn = [space.decode(draw.architecture) for draw in strategy.result.draws]
    assert len(drawn) >= 12
    assert all(map(allowed, drawn))
    assert all(allowed(dict(line.sample)) for line in strategy.result.ranking)


def test_what_a_rule_forbids_is_refused_by_strategies_that_cannot_keep_to_it() -> None:
    for name in ("strict-fairness", *MIXED):
        model: Any = Ruled()
        message = STRATEGIES[name].misfit(model.search_space, model)
        assert message is not None, name
        with pytest.raises(ValueError, match="must"):
            searched(model, {**SAMPLED, **MIXED}[name]())


def test_what_was_found_is_tuned_and_trained_anew_without_a_registered_space(
    tmp_path: Path,
) -> None:
    sample = {"stage1": "silu", "stage2": "hardswish", "stage3": "silu", "stage4": "silu"}
    kinds: list[list[set[str]]] = []

    def build(recipe: Recipe) -> nn.Module:
        with model_context(sample):
            made: Any = Ruled(recipe.drop_path)
        assert not any(isinstance(module, LayerChoice) for module in made.modules())
        acts = [{type(m).__name__ for m in stage.modules()} for stage in made.net.blocks]
        kinds.append([{"SiLU", "Hardswish"} & found for found in acts[1:]])
        network: nn.Module = made
        return network

    data = images()
    recipe = Recipe(epochs=1, batch_size=128)
    tuned = study(
        build, data, out=tmp_path, recipe=recipe, n_trials=1, user_attrs={"architecture": sample}
    )
    tested = final(tuned, build, data, out=tmp_path, seeds=1)
    assert 0.0 <= tested.mean <= 1.0
    assert kinds
    assert all(found == [{"SiLU"}, {"Hardswish"}, {"SiLU"}, {"SiLU"}] for found in kinds)
    assert (tmp_path / "final-seed0.safetensors").is_file()


def test_the_examples_space_spares_at_most_three_of_six_blocks() -> None:
    spec = importlib.util.spec_from_file_location("own_space_example", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    space = example.Sparing(num_classes=10, in_chans=1).search_space
    # MobileNetV3's stages have 1, 2, 3, 2, 3 and 1 blocks: 6 beside the first of each
    assert len(space.choices) == 6
    assert space.size == sum(comb(6, spared) for spared in range(4)) == 42

"""The spaces of NNI's own hub, at toy size, under our strategies."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.hub.pytorch import ENAS, AutoFormer, MobileNetV3Space, NasBench201, ProxylessNAS
from nni.nas.space import model_context
from torch.utils.data import DataLoader, TensorDataset

from nas_ext.nni import Lightning, RawFormatModelSpace, Trainer
from nas_ext.oneshot import SupernetTraining, search_space
from nas_ext.strategies import MCTS, IterativeMCTS, PrototypeDensity, Uniform

WIDTHS = (8, 8, 8, 8, 8, 8, 8, 8, 16)

SPACES: dict[str, Callable[[], Any]] = {
    "NasBench201": lambda: NasBench201(stem_out_channels=4, num_modules_per_stack=1, num_labels=4),
    "ProxylessNAS": lambda: ProxylessNAS(num_labels=4, base_widths=WIDTHS),
    "MobileNetV3Space": lambda: MobileNetV3Space(
        num_labels=4,
        base_widths=(8, 8, 8, 8, 8, 16),
        width_multipliers=(0.5, 1.0, 2.0),
        expand_ratios=(1.0, 2.0),
        squeeze_excite=("none", "none", "optional"),
        depth_range=(1, 2),
        stride=(2, 1, 2, 2, 1, 1),
        activation=("hswish", "relu", "relu", "hswish", "hswish", "hswish"),
    ),
    "AutoFormer": lambda: AutoFormer(
        num_labels=4,
        img_size=32,
        patch_size=16,
        search_embed_dim=(16, 24),
        search_mlp_ratio=(1.0, 2.0),
        search_num_heads=(2, 4),
        search_depth=(1, 2),
    ),
}
STRATEGIES: dict[str, Callable[[], Any]] = {
    "Uniform": lambda: Uniform(candidates=3),
    "IterativeMCTS": lambda: IterativeMCTS(candidates=3, iterations=1, batches=1, rank_subset=4),
    "PrototypeDensity": lambda: PrototypeDensity(candidates=3, prototypes=2, samples=4),
}


def images(count: int) -> Any:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(count, 3, 32, 32, generator=generator)
    labels = torch.randint(4, (count,), generator=generator)
    return DataLoader(TensorDataset(inputs, labels), batch_size=8)


def searched(space: Any, strategy: Any) -> Any:
    """Train on random images for five steps, and return the strategy."""
    trainer = Trainer(
        max_steps=5,
        max_epochs=-1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    evaluator = Lightning(
        SupernetTraining(learning_rate=0.01),
        trainer,
        train_dataloaders=images(16),
        val_dataloaders=images(8),
    )
    strategy(RawFormatModelSpace(space, evaluator), SequentialExecutionEngine())
    return strategy


def shapes(module: Any) -> list[tuple[int, ...]]:
    return sorted(tuple(parameter.shape) for parameter in module.parameters())


@pytest.mark.parametrize(
    ("name", "size"),
    [
        # Six edges, five operations
        ("NasBench201", 5**6),
        # Five stages of depth 1 to 4, four layers each, and a last layer: six blocks to choose
        ("ProxylessNAS", 4**5 * 6 ** (5 * 4 + 1)),
        # The kernels of stem and first block; two stages of depth 1 or 2, with an expansion and a
        # kernel in two layers each, and gates in the second; the widths of five stages
        ("MobileNetV3Space", 2 * 3 * 2**2 * (2 * 3) ** 4 * 2**2 * 3**5),
        # Depth, width; per layer heads and ratio
        ("AutoFormer", 2 * 2 * (2 * 2) ** 2),
    ],
)
def test_the_space_is_the_product_of_the_choices(name: str, size: int) -> None:
    assert search_space(SPACES[name]()).size == size


@pytest.mark.parametrize(
    ("name", "strategy"),
    [*product(SPACES, ("Uniform", "PrototypeDensity")), ("NasBench201", "IterativeMCTS")],
)
def test_a_hub_space_is_searched(name: str, strategy: str) -> None:
    torch.manual_seed(0)
    done = searched(SPACES[name](), STRATEGIES[strategy]())
    assert done.result.budget.steps == 5
    best = done.result.best
    assert done.search_space.encode(best.sample) == best.architecture


@pytest.mark.parametrize("name", SPACES)
def test_an_architecture_leaves_the_supernet_with_its_weights(name: str) -> None:
    torch.manual_seed(0)
    done = searched(SPACES[name](), MCTS(candidates=3))
    best = done.result.best
    network = next(done.list_models(limit=1)).executable_model().eval()
    supernet = done.supernet.eval()
    x = torch.randn(4, 3, 32, 32)
    done.oneshot_module.supernet.activate(best.architecture)
    assert torch.equal(network(x), supernet(x))
    # The same architecture for training from scratch; NNI numbers some of its layers otherwise
    with model_context(dict(best.sample)):
        fresh = SPACES[name]()
    assert shapes(fresh) == shapes(network)
    fresh(x).square().sum().backward()


def test_spaces_whose_supernet_is_another_network_are_refused_by_name() -> None:
    space: Any = ENAS(width=4, num_cells=3, dataset="cifar")
    before = list(space.modules())
    with pytest.raises(TypeError, match=r"stages\.0\.blocks\.0 must be no NNI Cell"):
        searched(space, Uniform(candidates=3))
    assert list(space.modules()) == before

"""Evolution that shifts the supernet: what moves, what is counted, and what is put back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from nni.nas.nn.pytorch import LayerChoice
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nas_ext.architecture import Architecture
from nas_ext.nni import ModelSpace
from nas_ext.oneshot import Supernet, SupernetTraining
from nas_ext.search import Ranked
from nas_ext.selection import Evolution, rank
from nas_ext.shifting import Shift, evolution_with_shifting
from nas_ext.strategies import Uniform


class Tiny(ModelSpace):  # type: ignore[misc]  # NNI has no types
    """Rows of 6 numbers, 3 classes, two choices between two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            LayerChoice([nn.Linear(6, 6), nn.Linear(6, 6)], label=f"layer{i}") for i in range(2)
        )
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.tanh(layer(x))
        logits: Tensor = self.head(x)
        return logits


def rows(count: int, seed: int) -> Any:
    """Batches of 8 rows whose class is the largest of their first three numbers."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 6, generator=generator)
    return DataLoader(TensorDataset(inputs, inputs[:, :3].argmax(dim=1)), batch_size=8)


TRAIN = rows(24, seed=0)


def supernet() -> Supernet:
    """Make an untrained supernet over 4 architectures."""
    torch.manual_seed(0)
    strategy = Uniform()
    space: Any = Tiny()
    strategy.mutate_model(space)
    strategy.train_dataloader(lambda: None, lambda: rows(32, seed=1))
    return strategy.configure_oneshot_module(SupernetTraining()).supernet


def weights(made: Supernet) -> dict[str, Tensor]:
    return {name: t.clone() for name, t in made.module.model.state_dict().items()}


def moved(made: Supernet, before: dict[str, Tensor]) -> set[str]:
    after = made.module.model.state_dict()
    return {name for name, t in before.items() if not torch.equal(t, after[name])}


def shifted(
    made: Supernet, *, evaluations: int = 6, train: Any = TRAIN, **changes: Any
) -> tuple[Ranked, ...]:
    settings = Evolution(evaluations=evaluations, population=3, mutations=1, crossovers=1)
    return evolution_with_shifting(
        made, train, rng=np.random.default_rng(0), settings=settings, **changes
    )


STRONG = Shift(iterations=4, learning_rate=0.5)


def test_every_candidate_is_trained_before_it_is_scored() -> None:
    made = supernet()
    shifted(made, shift=Shift(iterations=5, batches=3), top=2)
    assert made.passes["shift"] == 6 * 5
    # three batches of four for each score, then all four for the best two
    assert made.passes["accuracies"] == 6 * 3 + 2 * 4


def test_the_weights_are_put_back_unless_they_are_wanted() -> None:
    made = supernet()
    before = weights(made)
    shifted(made, shift=STRONG)
    assert moved(made, before) == set()
    shifted(made, shift=STRONG, keep_weights=True)
    assert "head.weight" in moved(made, before)


def test_the_weights_are_put_back_after_an_error_too() -> None:
    made, seen = supernet(), 0
    before = weights(made)

    class Torn:
        def __iter__(self) -> Iterator[Any]:
            nonlocal seen
            for batch in TRAIN:
                seen += 1
                if seen == 3:
                    raise OSError("the disk is gone")
                yield batch

    with pytest.raises(OSError, match="the disk is gone"):
        shifted(made, shift=STRONG, train=Torn())
    assert moved(made, before) == set()
    assert all(p.grad is None for p in made.module.model.parameters())


def test_what_a_candidate_does_not_use_keeps_every_bit() -> None:
    made = supernet()
    before = weights(made)
    for parameter in made.module.model.parameters():  # as the training of others may leave them
        parameter.grad = torch.ones_like(parameter)

    (line,) = shifted(made, evaluations=1, shift=STRONG, keep_weights=True)
    used = {f"layers.{i}.{o}" for i, o in enumerate(line.architecture)}
    expected = {n for n in before if n.startswith("head") or n.rpartition(".")[0] in used}
    assert moved(made, before) == expected
    assert len(expected) == 6 < len(before)


def test_a_shift_is_the_gradient_step_it_says() -> None:
    made = supernet()
    before = weights(made)
    shift = Shift(iterations=1, learning_rate=0.3, weight_decay=0.01, momentum=0.9)
    (line,) = shifted(made, evaluations=1, shift=shift, keep_weights=True)

    # by hand: cross-entropy with labels smoothed by .1, then w - .3 (grad + .01 w)
    inputs, labels = next(iter(TRAIN))
    own = {name: t.clone().requires_grad_() for name, t in before.items()}
    x = inputs
    for i, option in enumerate(line.architecture):
        x = torch.tanh(x @ own[f"layers.{i}.{option}.weight"].T + own[f"layers.{i}.{option}.bias"])
    log_p = torch.log_softmax(x @ own["head.weight"].T + own["head.bias"], dim=1)
    smooth = 0.9 * nn.functional.one_hot(labels, 3) + 0.1 / 3
    loss = -(smooth * log_p).sum(dim=1).mean()
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    after = weights(made)
    for name, parameter in own.items():
        if parameter.grad is not None:
            with torch.no_grad():
                wanted = parameter - 0.3 * (parameter.grad + 0.01 * parameter)
            torch.testing.assert_close(after[name], wanted, rtol=1e-5, atol=1e-6)


def test_later_candidates_inherit_the_weights_and_the_end_ranks_without_shifting() -> None:
    made = supernet()
    ranking = shifted(made, shift=STRONG, keep_weights=True)
    passes = made.passes["shift"]
    order = sorted(ranking, key=lambda r: r.architecture)
    again = sorted(rank(made, [r.architecture for r in ranking]), key=lambda r: r.architecture)
    assert order == again
    assert made.passes["shift"] == passes


def test_training_makes_the_candidates_better() -> None:
    made = supernet()
    untrained = rank(made, [made.space.at(i) for i in range(4)])
    ranking = shifted(made, evaluations=40, shift=Shift(iterations=20, learning_rate=0.2))
    assert ranking[0].accuracy > untrained[0].accuracy + 0.2


def test_modes_and_gradients_are_left_as_they_were() -> None:
    made = supernet()
    made.module.eval()
    model: Any = made.module.model
    model.head.train()
    modes = [module.training for module in made.module.modules()]
    shifted(made, shift=STRONG)
    assert [module.training for module in made.module.modules()] == modes
    assert all(p.grad is None for p in made.module.model.parameters())


def test_the_same_seed_finds_the_same() -> None:
    assert shifted(supernet(), shift=STRONG) == shifted(supernet(), shift=STRONG)


def test_only_what_is_allowed_is_trained() -> None:
    made, seen = supernet(), set[Architecture]()
    activate = made.activate

    def record(architecture: Architecture) -> None:
        seen.add(architecture)
        activate(architecture)

    made.activate = record  # type: ignore[method-assign]  # to listen, not to change
    shifted(made, allowed=lambda a: a[0] == 1, shift=Shift(iterations=1))
    assert seen == {(1, 0), (1, 1)}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"iterations": 0}, "iterations must be at least 1, got 0"),
        ({"batches": 0}, "batches must be at least 1, got 0"),
        ({"learning_rate": 0.0}, "learning_rate must be positive, got 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate must be positive, got nan"),
        ({"momentum": 1.0}, r"momentum must lie in \[0, 1\), got 1.0"),
        ({"label_smoothing": -0.1}, r"label_smoothing must lie in \[0, 1\), got -0.1"),
        ({"weight_decay": -1.0}, "weight_decay must not be negative, got -1.0"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Shift(**settings)


def test_the_defaults_are_the_published_ones() -> None:
    # Section 4.4: 20 iterations, SGD 1e-4, .9, 4e-5, smoothing .1, 25 validation batches
    assert Shift() == Shift(
        iterations=20,
        batches=25,
        learning_rate=1e-4,
        momentum=0.9,
        weight_decay=4e-5,
        label_smoothing=0.1,
    )


def test_what_cannot_be_trained_is_refused() -> None:
    with pytest.raises(ValueError, match="train must yield a batch"):
        shifted(supernet(), train=[])
    with pytest.raises(
        ValueError, match=r"batches of train must be \(inputs, labels\), got Tensor"
    ):
        shifted(supernet(), train=[torch.zeros(4, 6)])
    with pytest.raises(ValueError, match="loss must be finite while shifting, got nan"):
        shifted(supernet(), train=[(torch.full((4, 6), torch.nan), torch.zeros(4).long())])
    with pytest.raises(ValueError, match="top must be at least 1, got 0"):
        shifted(supernet(), top=0)

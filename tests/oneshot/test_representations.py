"""Gradients and activations inside a supernet, against definitions on frozen networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from nni.nas.evaluator.pytorch import DataLoader
from nni.nas.nn.pytorch import LayerChoice
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from nas_ext.nni import ModelSpace
from nas_ext.oneshot import Supernet, SupernetTraining
from nas_ext.oneshot import representations as module
from nas_ext.oneshot.representations import activation_rows, gradient_rows
from nas_ext.spaces import PoolingResNet
from nas_ext.strategies import Uniform

Make = Callable[..., Any]


class Mixed(ModelSpace):  # type: ignore[misc]  # NNI has no types
    """Two choices, the second with an option that has no weights, after a common layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(6, 4)
        self.first = LayerChoice([nn.Linear(4, 4), nn.Linear(4, 4)], label="first")
        self.second = LayerChoice([nn.Identity(), nn.Linear(4, 4)], label="second")
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.second(torch.tanh(self.first(self.stem(x)))))
        logits: Tensor = self.head(hidden)
        return logits


@pytest.fixture
def supernet(search: Make) -> Supernet:
    torch.manual_seed(0)
    made = search(Uniform(), space=Mixed(), max_epochs=2)
    found = made.oneshot_module.supernet
    assert isinstance(found, Supernet)
    return found


def gradients(supernet: Supernet) -> list[dict[str, Any]]:
    """Per architecture, the gradient by parameter name, from an ordinary backward pass."""
    inputs, labels = supernet._fixed
    every = []
    for architecture in supernet.space:
        supernet.activate(architecture)
        supernet.module.zero_grad()
        nn.functional.cross_entropy(supernet.module(inputs), labels).backward()  # type: ignore[no-untyped-call]
        found = {name: p.grad for name, p in supernet.module.model.named_parameters()}
        every.append({n: None if g is None else g.flatten().numpy() for n, g in found.items()})
    supernet.module.zero_grad()
    return every


def one_minus_cosine(x: Any, y: Any) -> float:
    return float(1 - x @ y / np.sqrt((x @ x) * (y @ y)))


def test_gradient_distances_follow_the_rule_per_layer(supernet: Supernet) -> None:
    architectures = tuple(supernet.space)
    found = gradient_rows(supernet, architectures).mean_distance()
    by_name = gradients(supernet)

    def part(i: int, prefix: str) -> Any:
        values = [g for n, g in by_name[i].items() if n.startswith(prefix) and g is not None]
        return np.concatenate(values) if values else None

    def distance(i: int, j: int) -> float:
        """Section 5.1: per layer the cosine distance for the same operation, else 1; the mean."""
        layers = [
            one_minus_cosine(*(np.concatenate([part(k, "stem"), part(k, "head")]) for k in (i, j)))
        ]
        for layer, name in enumerate(("first", "second")):
            same = architectures[i][layer] == architectures[j][layer]
            if not same:
                layers.append(1.0)
            elif part(i, name) is None:
                layers.append(0.0)
            else:
                layers.append(one_minus_cosine(part(i, name), part(j, name)))
        return float(np.mean(layers))

    n = len(architectures)
    expected = [np.mean([distance(i, j) for j in range(n) if j != i]) for i in range(n)]
    assert np.ptp(expected) > 1e-4
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_gradients_that_do_not_fit_are_computed_again_at_each_pass(
    supernet: Supernet, monkeypatch: pytest.MonkeyPatch
) -> None:
    architectures = tuple(supernet.space)
    held = gradient_rows(supernet, architectures).mean_distance()
    monkeypatch.setattr(module, "HELD", 100)
    before = supernet.passes["outputs"]
    again = gradient_rows(supernet, architectures).mean_distance()
    np.testing.assert_allclose(again, held, rtol=1e-6)
    assert supernet.passes["outputs"] - before == 2 * len(architectures)


def test_gradients_leave_no_trace(supernet: Supernet) -> None:
    weights = {k: v.clone() for k, v in supernet.module.state_dict().items()}
    training = [m.training for m in supernet.module.modules()]
    supernet.module.zero_grad()
    gradient_rows(supernet, tuple(supernet.space))
    activation_rows(supernet, tuple(supernet.space), ["first"])
    assert all(p.grad is None for p in supernet.module.parameters())
    assert [m.training for m in supernet.module.modules()] == training
    assert not any(m._forward_hooks for m in supernet.module.model.modules())
    for name, value in supernet.module.state_dict().items():
        assert torch.equal(value, weights[name])


def linear_cka(x: Any, y: Any) -> float:
    """The printed formula: |Y'X|^2 / (|X'X| |Y'Y|) of features centred over samples."""
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    above = np.linalg.norm(y.T @ x) ** 2
    return float(above / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)))


def test_activation_distances_are_one_minus_linear_cka(supernet: Supernet) -> None:
    architectures, layers = tuple(supernet.space), ["first", "second"]
    found = activation_rows(supernet, architectures, layers).mean_distance()
    seen: list[list[Any]] = []
    model: Any = supernet.module.model
    inputs = supernet._fixed[0]
    for architecture in architectures:
        supernet.activate(architecture)
        with torch.no_grad():
            first = model.first(model.stem(inputs))
            seen.append([first.double().numpy(), model.second(torch.tanh(first)).double().numpy()])
    n = len(architectures)

    def distance(i: int, j: int) -> float:
        return float(np.mean([1 - linear_cka(seen[i][k], seen[j][k]) for k in range(2)]))

    expected = [np.mean([distance(i, j) for j in range(n) if j != i]) for i in range(n)]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)


def test_activations_of_different_sizes_are_compared(search: Make) -> None:
    # Where a pooling stands earlier, the same layer has fewer features.
    images = torch.randn(32, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    data = TensorDataset(images, torch.arange(32) % 3)
    torch.manual_seed(0)
    space = PoolingResNet(widths=(2, 2, 2, 2), poolings=2, num_classes=3, in_chs=1)
    made = search(
        Uniform(),
        space=space,
        module=SupernetTraining(),
        train=DataLoader(data, batch_size=16),
        val=DataLoader(data, batch_size=16),
        max_epochs=1,
    )
    supernet = made.oneshot_module.supernet
    architectures = tuple(supernet.space)
    rows = activation_rows(supernet, architectures, ["blocks.0", "blocks.2"], samples=10)
    distances = rows.mean_distance()
    assert len(rows.blocks) == 2
    assert ((distances > 0) & (distances < 1)).all()
    # All weights are shared: one block, plain cosine, and no distance of 1 by rule.
    gradients = gradient_rows(supernet, architectures)
    assert len(gradients.blocks) == 1
    weights = sum(p.numel() for p in supernet.module.model.parameters())
    assert gradients.blocks[0] == slice(0, weights)


def test_wrong_layers_are_named(supernet: Supernet) -> None:
    every = tuple(supernet.space)
    with pytest.raises(ValueError, match=r"layers must be names of modules.*got \['third'\]"):
        activation_rows(supernet, every, ["third"])
    with pytest.raises(ValueError, match="layers must be names of modules"):
        activation_rows(supernet, every, [])
    with pytest.raises(ValueError, match=r"layers must run once in every.*'first\.1' gave \[\]"):
        activation_rows(supernet, every, ["first.1"])
    with pytest.raises(ValueError, match="samples must be at least 2, got 1"):
        activation_rows(supernet, every, ["first"], samples=1)

"""Zero-cost proxies against their formulas, on networks small enough to write them out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from nni.nas.evaluator.pytorch import DataLoader
from nni.nas.nn.pytorch import LayerChoice
from scipy.special import softmax
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from nas_ext.estimation import ProxyEstimator
from nas_ext.nni import ModelSpace
from nas_ext.oneshot import Supernet, SupernetTraining
from nas_ext.oneshot.proxies import PROXIES
from nas_ext.spaces import PoolingResNet
from nas_ext.strategies import Uniform

Make = Callable[..., Any]


class Linear(ModelSpace):  # type: ignore[misc]  # NNI has no types
    """Two or three linear layers without biases: a choice that has weights or none."""

    def __init__(self, *, norm: bool = False) -> None:
        super().__init__()
        self.stem = nn.Linear(6, 5, bias=False)
        self.norm = nn.BatchNorm1d(5) if norm else nn.Identity()
        options = [nn.Identity(), nn.Linear(5, 5, bias=False), nn.Linear(5, 5, bias=False)]
        self.middle = LayerChoice(options, label="middle")
        self.head = nn.Linear(5, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.middle(self.norm(self.stem(x))))
        return logits


class Rectified(ModelSpace):  # type: ignore[misc]  # NNI has no types
    """A rectifier that is a module, one that is a function, and one that is no rectifier."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 20)
        self.relu = nn.ReLU(inplace=True)
        options = [nn.Linear(20, 20), nn.Linear(20, 20)]
        self.middle = LayerChoice(options, label="middle")
        self.head = nn.Linear(20, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = nn.functional.relu(self.middle(self.relu(self.first(x))))
        logits: Tensor = self.head(torch.tanh(hidden))
        return logits


def build(search: Make, space: Any, **settings: Any) -> Supernet:
    made = search(Uniform(), space=space, max_epochs=1, run=True, **settings)
    found = made.oneshot_module.supernet
    assert isinstance(found, Supernet)
    return found


def linear(search: Make, *, norm: bool = False) -> Supernet:
    torch.manual_seed(0)
    return build(search, Linear(norm=norm))


def weights(supernet: Supernet) -> tuple[Any, list[Any], Any]:
    """Stem, the options of the middle (None for the identity), and head, in float64."""
    named = dict(supernet.module.model.named_parameters())
    values = {name: value.detach().double().numpy() for name, value in named.items()}
    options = [values.get(f"middle.{i}.weight") for i in range(3)]
    return values["stem.weight"], options, values["head.weight"]


def test_the_flow_of_a_linear_network_is_one_path_sum_for_each_layer(search: Make) -> None:
    supernet = linear(search)
    stem, options, head = weights(supernet)
    assert [option is None for option in options] == [True, False, False]
    expected = []
    for (option,) in supernet.space:
        layers = [stem, *([] if options[option] is None else [options[option]]), head]
        flow = np.ones(6)
        for layer in layers:
            flow = np.abs(layer) @ flow
        # Tanaka et al. 2020: the flow is conserved, each layer's sum of theta * dR/dtheta is R
        expected.append(len(layers) * flow.sum())
    found = supernet.proxy("synflow", tuple(supernet.space))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert np.ptp(found) > 0.1


def test_normalisation_does_not_stand_in_the_way_of_the_flow(search: Make) -> None:
    plain, normed = linear(search), linear(search, norm=True)
    names = dict(plain.module.model.named_parameters())
    state = {**normed.module.model.state_dict(), **names}
    normed.module.model.load_state_dict(state)
    every = tuple(plain.space)
    np.testing.assert_array_equal(normed.proxy("synflow", every), plain.proxy("synflow", every))


def test_the_gradient_norm_is_summed_over_the_layers_in_use(search: Make) -> None:
    supernet = linear(search)
    stem, options, head = weights(supernet)
    inputs, labels = (part.double().numpy() for part in supernet._fixed)
    expected = []
    for (option,) in supernet.space:
        middle = np.eye(5) if options[option] is None else options[option]
        first = inputs @ stem.T
        second = first @ middle.T
        # by hand: d mean cross-entropy / d logits = (softmax - onehot) / S, then the chain rule
        above = (softmax(second @ head.T, axis=1) - np.eye(3)[labels.astype(int)]) / len(labels)
        gradients = [above.T @ second, (above @ head @ middle).T @ inputs]
        if options[option] is not None:
            gradients.append((above @ head).T @ first)
        expected.append(float(sum(np.linalg.norm(gradient) for gradient in gradients)))
    found = supernet.proxy("grad-norm", tuple(supernet.space))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_naswot_is_the_log_determinant_of_the_overlaps(search: Make) -> None:
    torch.manual_seed(0)
    supernet = build(search, Rectified())
    model: Any = supernet.module.model
    inputs, expected = supernet._fixed[0], []
    for architecture in supernet.space:
        supernet.activate(architecture)
        with torch.no_grad():
            first = torch.relu(model.first(inputs))
            second = torch.relu(model.middle(first))
        codes = (torch.cat([first, second], dim=1) > 0).numpy()
        # Mellor et al. 2021: K_ij = N_A - d_H(c_i, c_j), pair by pair
        kernel = [[40 - int((a != b).sum()) for b in codes] for a in codes]
        expected.append(np.log(abs(np.linalg.det(np.asarray(kernel, dtype=np.float64)))))
    found = supernet.proxy("naswot", tuple(supernet.space))
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert found[0] != found[1]


def test_images_that_are_not_told_apart_score_minus_infinity(search: Make) -> None:
    torch.manual_seed(0)
    same = TensorDataset(torch.ones(8, 6), torch.zeros(8, dtype=torch.long))
    supernet = build(search, Rectified(), val=DataLoader(same, batch_size=8))
    assert (supernet.proxy("naswot", tuple(supernet.space)) == -np.inf).all()


def test_a_network_without_rectifiers_has_no_naswot(search: Make) -> None:
    with pytest.raises(ValueError, match="architecture must have rectified units for naswot"):
        linear(search).proxy("naswot", [(1,)])


def test_scores_without_end_are_refused(search: Make) -> None:
    supernet = linear(search)
    with torch.no_grad():
        next(iter(supernet.module.parameters())).fill_(float("inf"))
    for name in ("synflow", "grad-norm"):
        with pytest.raises(ValueError, match=f"scores of {name} must be finite"):
            supernet.proxy(name, [(0,)])


def test_an_unknown_proxy_is_named(search: Make) -> None:
    with pytest.raises(ValueError, match=r"name must be one of \['synflow'.*got 'snip'"):
        linear(search).proxy("snip", [(0,)])  # type: ignore[arg-type]  # on purpose


def pooling(search: Make, *, batch: int = 16, **settings: Any) -> Supernet:
    images = torch.randn(32, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    data = TensorDataset(images, torch.arange(32) % 3)
    torch.manual_seed(0)
    space = PoolingResNet(widths=(4, 4, 8, 8), poolings=2, num_classes=3, in_chs=1)
    loader = DataLoader(data, batch_size=batch)
    return build(search, space, module=SupernetTraining(), train=loader, val=loader, **settings)


@pytest.mark.parametrize("name", list(PROXIES))
def test_a_proxy_leaves_no_trace(search: Make, name: Any) -> None:
    supernet = pooling(search)
    module = supernet.module
    module.zero_grad()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    modes = [part.training for part in module.modules()]
    needs = [p.requires_grad for p in module.parameters()]
    held = [set(vars(part)) for part in module.modules()]
    random = torch.get_rng_state()
    architectures = tuple(supernet.space)
    outputs = supernet.outputs(architectures)
    scores = supernet.proxy(name, architectures)
    assert scores.shape == (len(architectures),)
    assert len(np.unique(scores)) > 1
    np.testing.assert_array_equal(supernet.proxy(name, architectures), scores)
    for key, value in module.state_dict().items():
        assert torch.equal(value, before[key])
        assert value.dtype == before[key].dtype
    assert all(p.grad is None for p in module.parameters())
    assert [part.training for part in module.modules()] == modes
    assert [p.requires_grad for p in module.parameters()] == needs
    assert [set(vars(part)) for part in module.modules()] == held
    assert torch.equal(torch.get_rng_state(), random)
    np.testing.assert_array_equal(supernet.outputs(architectures), outputs)


@pytest.mark.parametrize(("name", "images"), [("synflow", 3), ("naswot", 16), ("grad-norm", 48)])
def test_what_a_proxy_costs_is_counted(search: Make, name: Any, images: int) -> None:
    # a backward pass costs two forward ones; synflow runs one image of ones, the others 16
    supernet = pooling(search)
    supernet.images.clear()
    before = supernet.passes["outputs"]
    architectures = tuple(supernet.space)
    supernet.proxy(name, architectures)
    assert supernet.passes["outputs"] - before == len(architectures)
    assert supernet.images == dict.fromkeys(architectures, images)


def test_the_flow_keeps_its_digits_under_mixed_precision(search: Make) -> None:
    plain, mixed = pooling(search), pooling(search, precision="bf16-mixed")
    mixed.module.model.load_state_dict(plain.module.model.state_dict())
    every = tuple(plain.space)
    np.testing.assert_array_equal(mixed.proxy("synflow", every), plain.proxy("synflow", every))
    assert np.isfinite(mixed.proxy("naswot", every)).all()
    # eight bits of mantissa
    np.testing.assert_allclose(
        mixed.proxy("grad-norm", every), plain.proxy("grad-norm", every), rtol=0.1
    )


def test_a_supernet_is_a_proxy_estimator(search: Make) -> None:
    assert isinstance(linear(search), ProxyEstimator)

"""The search space of any NNI model space."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import nni
import numpy as np
import pytest
import torch
from nni.mutable import ExpressionConstraint
from nni.nas.nn.pytorch import Cell, InputChoice, LayerChoice, Repeat
from torch import Tensor, nn

from nas_ext.architecture import Choice, SearchSpace
from nas_ext.nni import BaseSuperNetModule, ModelSpace, RandomOneShot
from nas_ext.oneshot import search_space
from nas_ext.spaces import PoolingResNet
from nas_ext.strategies import MCTS, LearnedTree, Uniform

Make = Callable[..., Any]


def linears(count: int = 2) -> list[nn.Module]:
    return [nn.Linear(6, 6) for _ in range(count)]


class Mixed(ModelSpace):  # type: ignore[misc]  # NNI has no types
    """Choices by number and by name, not in alphabetical order, one of them used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.last = LayerChoice({"wide": linears()[0], "none": nn.Identity()}, label="z")
        self.first = LayerChoice(linears(3), label="a")
        self.again = LayerChoice({"wide": linears()[0], "none": nn.Identity()}, label="z")
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.again(self.last(self.first(x))))


class Nested(ModelSpace):  # type: ignore[misc]  # NNI has no types
    """A choice inside an option of another."""

    def __init__(self) -> None:
        super().__init__()
        inner = LayerChoice([nn.Linear(6, 6), nn.Identity()], label="inner")
        self.outer = LayerChoice([nn.Linear(6, 6), inner], label="outer")
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.outer(x))


class Deep(ModelSpace):  # type: ignore[misc]  # NNI has no types
    """One to three layers."""

    def __init__(self) -> None:
        super().__init__()
        self.body = Repeat(lambda index: nn.Linear(6, 6), (1, 3), label="depth")
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.body(x))


class Inputs(ModelSpace):  # type: ignore[misc]  # NNI has no types
    """Which of some layers go on, their outputs added."""

    def __init__(self, n_chosen: int | None = 1, layers: int = 3) -> None:
        super().__init__()
        self.layers = nn.ModuleList(linears(layers))
        self.pick = InputChoice(n_candidates=layers, n_chosen=n_chosen, label="pick")
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.pick([layer(x) for layer in self.layers]))


class TwoInputs(Inputs):
    """Two of three layers."""

    def __init__(self) -> None:
        super().__init__(2)


class Cells(ModelSpace):  # type: ignore[misc]  # NNI has no types
    """NNI's cell of two nodes, each with two inputs."""

    def __init__(self, merge_op: Any = "all", factory: bool = False) -> None:
        super().__init__()
        candidates: Any = linears()
        if factory:
            candidates = [lambda *_: nn.Linear(6, 6), lambda *_: nn.Identity()]
        self.cell = Cell(
            candidates, 2, 2, num_predecessors=1, merge_op=merge_op, concat_dim=1, label="cell"
        )
        self.head = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.cell([x]))


class Bound(ModelSpace):  # type: ignore[misc]  # NNI has no types
    """Two choices that may not both take option 1."""

    def __init__(self) -> None:
        super().__init__()
        self.one = LayerChoice(linears(), label="one")
        self.two = LayerChoice(linears(), label="two")
        choices: list[Any] = [self.one.choice, self.two.choice]
        rule: Any = choices[0] + choices[1] < 2
        self.add_mutable(ExpressionConstraint(rule, label="bound"))

    def forward(self, x: Tensor) -> Any:
        return self.two(self.one(x))


class Numbered(ModelSpace):  # type: ignore[misc]  # NNI has no types
    """A number that is drawn from an interval."""

    def __init__(self) -> None:
        super().__init__()
        self.rate = nni.uniform("rate", 0.0, 1.0)
        self.add_mutable(self.rate)


class Fixed(ModelSpace):  # type: ignore[misc]  # NNI has no types
    """Nothing to choose."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)


def of(space: Any) -> SearchSpace:
    return search_space(space())


def test_choices_come_in_the_order_of_the_model_with_their_labels() -> None:
    space = of(Mixed)
    assert space.choices == (Choice("z", ("wide", "none")), Choice("a", (0, 1, 2)))
    assert (space.name, space.size) == ("Mixed", 6)
    assert space.decode((1, 2)) == {"z": "none", "a": 2}
    assert space.encode({"a": 2, "z": "none"}) == (1, 2)
    assert space.describe((1, 2)) == "none-2"


def test_the_order_is_nnis_own() -> None:
    model: Any = Mixed()
    assert [choice.label for choice in search_space(model).choices] == list(model.simplify())


def test_a_depth_and_nested_choices_are_a_free_product() -> None:
    assert of(Deep).choices == (Choice("depth", (1, 2, 3)),)
    nested = of(Nested)
    assert nested.choices == (Choice("outer", (0, 1)), Choice("inner", (0, 1)))
    assert nested.size == 4


def test_several_of_many_inputs_are_one_choice_among_the_sets() -> None:
    space = of(TwoInputs)
    assert space.choices == (Choice("pick", ((0, 1), (0, 2), (1, 2))),)
    # NNI writes several chosen values as a list, as JSON does
    assert space.decode((1,)) == {"pick": [0, 2]}
    assert space.encode({"pick": [0, 2]}) == (1,)
    assert of(Inputs).decode((2,)) == {"pick": [2]}


def test_the_supernet_adds_the_inputs_of_the_set() -> None:
    made: Any = TwoInputs()
    space = search_space(made)
    supernet: Any = RandomOneShot().mutate_model(made)
    x = torch.randn(4, 6)
    for architecture in space:
        sample = space.decode(architecture)
        for module in supernet.modules():
            if isinstance(module, BaseSuperNetModule):
                module.resample(dict(sample))
        parts = [made.layers[index](x) for index in sample["pick"]]
        torch.testing.assert_close(supernet(x), made.head(parts[0] + parts[1]))


@pytest.mark.parametrize("space", [Mixed, Nested, Deep, Inputs, TwoInputs, Cells])
def test_a_supernet_computes_what_its_frozen_architectures_do(space: Any) -> None:
    made: Any = space()
    known = search_space(made)
    supernet: Any = RandomOneShot().mutate_model(made)
    rng, x = np.random.default_rng(0), torch.randn(4, 6)
    results = []
    for architecture in (known.draw(rng) for _ in range(5)):
        sample = known.decode(architecture)
        for module in supernet.modules():
            if isinstance(module, BaseSuperNetModule):
                module.resample(dict(sample))
        results.append(supernet(x))
        assert torch.equal(supernet.freeze(sample)(x), results[-1])
    assert not all(torch.equal(result, results[0]) for result in results)


@pytest.mark.parametrize("space", [Mixed, Nested, Deep, Inputs, TwoInputs, Cells])
@pytest.mark.parametrize("strategy", [Uniform, MCTS, LearnedTree])
def test_such_spaces_are_searched(space: Any, strategy: Any, search: Make) -> None:
    torch.manual_seed(0)
    done = search(strategy(candidates=4), space=space())
    assert done.result.budget.steps == 10
    best = done.result.best
    assert done.search_space.encode(best.sample) == best.architecture
    network = next(done.list_models(limit=1)).executable_model()
    assert network(torch.zeros(2, 6)).shape == (2, 3)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (lambda: Inputs(None), "'pick' must choose a fixed number of 3 values, got n_chosen=None"),
        (lambda: Inputs(10, 20), "'pick' must have at most 2,000 options, got the 184,756 sets"),
        (lambda: Cells("loose_end"), "cell must be no NNI Cell with loose ends"),
        (lambda: Cells(factory=True), "cell must be no NNI Cell with loose ends or made by facto"),
        (Bound, "'bound' must be a plain choice, got ExpressionConstraint"),
        (Numbered, "'rate' must be a plain choice, got Numerical"),
        (Fixed, "model_space must have a choice, Fixed has none"),
    ],
)
def test_other_mutables_are_refused_before_anything_is_changed(
    space: Callable[[], Any], message: str, search: Make
) -> None:
    made = space()
    before = list(made.modules())
    with pytest.raises(TypeError, match=message):
        search(MCTS(), space=made)
    assert list(made.modules()) == before


def test_a_space_that_knows_its_search_space_is_asked() -> None:
    model = PoolingResNet.mini()
    assert search_space(model) is model.search_space

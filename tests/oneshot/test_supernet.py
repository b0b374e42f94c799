"""A supernet as an estimator: routing, evaluation, validation batches, fresh weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import torch
from nni.nas.nn.pytorch import LayerChoice
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nas_ext.architecture import Choice, SearchSpace
from nas_ext.data import digits, loader
from nas_ext.nni import BaseSuperNetModule, LightningModule, ModelSpace
from nas_ext.oneshot import Supernet, SupernetTraining, accuracy
from nas_ext.spaces import PoolingResNet
from nas_ext.strategies import MCTS

Make = Callable[..., Any]


def supernet_of(search: Make, **settings: Any) -> Supernet:
    """The supernet of a strategy that has not run."""
    made: Supernet = search(MCTS(), run=False, **settings).oneshot_module.supernet
    return made


def pooling_supernet(search: Make) -> tuple[Any, Supernet, Any]:
    """An untrained pooling strategy, its supernet and its validation loader."""
    torch.manual_seed(1)
    data = digits(seed=0)
    val = loader(data.val, data, batch_size=64, train=False, drop_last=True)
    space = PoolingResNet(widths=(2, 3, 4, 4), poolings=2, in_chs=1)
    strategy = search(MCTS(), run=False, space=space, val=val)
    return strategy, strategy.oneshot_module.supernet, val


class Stubborn(BaseSuperNetModule):  # type: ignore[misc]  # NNI has no types
    """A supernet module that takes option 1, whatever it is told."""

    def __init__(self, label: str) -> None:
        super().__init__()
        self.label = label

    def resample(self, memo: dict[str, Any]) -> dict[str, Any]:
        return {self.label: 1}


@pytest.mark.parametrize("label", ["layer", "of nobody"])
def test_activate_raises_when_a_module_does_not_take_the_sample(label: str) -> None:
    module = LightningModule()
    module.set_model(nn.Sequential(Stubborn(label)))
    supernet = Supernet(
        SearchSpace("one", [Choice("layer", (0, 1))]),
        module,
        loader=list,
        reward=accuracy,
        renew=lambda seed: {},
        rng=np.random.default_rng(0),
    )
    with pytest.raises(RuntimeError, match=r"Stubborn must take the sample \{'layer': 0\}"):
        supernet.activate((0,))
    if label == "layer":
        supernet.activate((1,))


def test_activate_refuses_an_architecture_that_does_not_exist(search: Make) -> None:
    with pytest.raises(ValueError, match="architecture must exist"):
        supernet_of(search).activate((0, 0, 2))


def test_every_architecture_equals_its_frozen_network_bit_for_bit(search: Make) -> None:
    strategy, supernet, val = pooling_supernet(search)
    architectures = supernet.space.enumerate()
    outputs, accuracies = supernet.outputs(architectures), supernet.accuracies(architectures)
    assert outputs.shape == (3, 64, 10)
    batches = list(val)
    assert len(batches) > 3
    for place, architecture in enumerate(architectures):
        sample = supernet.space.decode(architecture)
        frozen = strategy.model_space.freeze(sample).executable_model().eval()
        with torch.no_grad():
            logits = [frozen(images) for images, _ in batches]
        assert np.array_equal(outputs[place], logits[0].double().numpy())
        right = [
            float((one.argmax(dim=1) == labels).double().mean())
            for one, (_, labels) in zip(logits, batches, strict=True)
        ]
        assert accuracies[place] == pytest.approx(np.mean(right), abs=1e-15)
    assert not np.array_equal(outputs[0], outputs[1])


def test_one_reward_equals_the_frozen_network_on_that_batch(search: Make) -> None:
    strategy, supernet, val = pooling_supernet(search)
    architecture = supernet.space.at(1)
    frozen = strategy.model_space.freeze(supernet.space.decode(architecture)).executable_model()
    for images, labels in list(val)[:3]:
        with torch.no_grad():
            right = (frozen(images).argmax(dim=1) == labels).double().mean()
        assert supernet.reward(architecture) == float(right)


class Norm(ModelSpace):  # type: ignore[misc]  # NNI has no types
    """A choice in front of batch norm, tracked or not."""

    def __init__(self, *, track: bool) -> None:
        super().__init__()
        self.choice = LayerChoice([nn.Linear(6, 4), nn.Linear(6, 4)], label="layer")
        self.norm = nn.BatchNorm1d(4, track_running_stats=track)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.drop(self.norm(self.choice(x))))


def test_tracked_batch_norm_is_evaluated_with_the_statistics_of_the_batch(search: Make) -> None:
    outputs = []
    for track in (True, False):
        torch.manual_seed(0)
        space: Any = Norm(track=track)
        if track:
            space.norm.running_mean.fill_(100.0)  # what running statistics would do
        outputs.append(supernet_of(search, space=space).outputs([(0,), (1,)]))
    # torch's own rule: batch norm that tracks nothing uses the batch in evaluation mode
    assert np.array_equal(outputs[0], outputs[1])


def test_evaluation_puts_every_mode_back_even_after_an_error(search: Make) -> None:
    space: Any = Norm(track=True)
    supernet = supernet_of(search, space=space)
    space.head.eval()
    before = [part.training for part in space.modules()]
    supernet.outputs([(0,)])
    with pytest.raises(ValueError, match="architecture must exist"):
        supernet.accuracies([(0,), (7,)])
    assert [part.training for part in space.modules()] == before
    assert space.norm.track_running_stats


def test_outputs_use_one_fixed_batch_whatever_rewards_consumed(search: Make) -> None:
    supernet = supernet_of(search)
    architectures = supernet.space.enumerate()
    first = supernet.outputs(architectures)
    for architecture in architectures[:3]:
        supernet.reward(architecture)
    supernet.accuracies(architectures)
    assert np.array_equal(first, supernet.outputs(architectures))
    backwards = supernet.outputs(architectures[::-1])
    assert np.array_equal(first, backwards[::-1])


def test_outputs_keep_their_batch_where_the_loader_shuffles(search: Make, val: Make) -> None:
    shuffled = DataLoader(val().dataset, batch_size=8, shuffle=True)
    supernet = supernet_of(search, val=shuffled)
    architectures = supernet.space.enumerate()
    first = supernet.outputs(architectures)
    supernet.reward(architectures[0])
    assert np.array_equal(first, supernet.outputs(architectures))


def counting_reward(sizes: list[int]) -> Any:
    def reward(module: Any, batch: Any) -> float:
        sizes.append(len(batch[0]))
        return accuracy(module, batch)

    return reward


def test_a_partial_last_batch_is_left_out(search: Make, val: Make) -> None:
    sizes: list[int] = []
    strategy = search(MCTS(reward=counting_reward(sizes)), run=False, val=val(29))
    supernet = strategy.oneshot_module.supernet
    for _ in range(7):  # 3 whole batches of 8, then from the start
        supernet.reward((0, 0, 0))
    supernet.accuracies([(0, 0, 0), (1, 1, 1)])
    assert sizes == [8] * (7 + 6)


@pytest.mark.parametrize("whole", [True, False])
def test_a_validation_set_smaller_than_a_batch_is_refused(
    whole: bool, search: Make, val: Make
) -> None:
    data = digits(seed=0)
    small: Any = val(5)
    if whole:  # a loader whose sampler makes the batches
        small = loader(data.val.select(torch.arange(5)), data, batch_size=8, train=False)
    with pytest.raises(ValueError, match="at least one batch of 8, got 5 samples"):
        supernet_of(search, val=small).reward((0, 0, 0))


def test_an_empty_validation_set_is_refused(search: Make) -> None:
    empty = DataLoader(TensorDataset(torch.zeros(5, 6)), batch_size=8, drop_last=True)
    with pytest.raises(ValueError, match="at least one batch, got no batch"):
        supernet_of(search, val=empty).reward((0, 0, 0))


def test_several_validation_loaders_are_refused(search: Make, val: Make) -> None:
    with pytest.raises(ValueError, match="val_dataloaders must be one loader"):
        supernet_of(search, val=[val(), val()]).reward((0, 0, 0))
    alone = supernet_of(search, val=[val()]).reward((0, 0, 0))
    assert alone == supernet_of(search, val=val()).reward((0, 0, 0))


def test_outputs_need_logits_of_two_dimensions(search: Make) -> None:
    class Odd(SupernetTraining):
        def forward(self, images: Tensor) -> Any:
            return {"logits": self.model(images)}

    class Deep(SupernetTraining):
        def forward(self, images: Tensor) -> Any:
            return self.model(images)[:, None]

    with pytest.raises(ValueError, match=r"outputs must be \[S, C\], got dict"):
        supernet_of(search, module=Odd()).outputs([(0, 0, 0)])
    with pytest.raises(ValueError, match=r"outputs must be \[S, C\], got \(8, 1, 3\)"):
        supernet_of(search, module=Deep()).outputs([(0, 0, 0)])


def test_outputs_need_batches_with_their_inputs_first(search: Make, val: Make) -> None:
    named = [{"inputs": inputs, "labels": labels} for inputs, labels in val()]
    with pytest.raises(ValueError, match=r"batch must be \(inputs, ...\) for outputs, got dict"):
        supernet_of(search, val=Loader(named)).outputs([(0, 0, 0)])


class Loader:
    """Batches that are no torch loader."""

    def __init__(self, batches: list[Any]) -> None:
        self.batches = batches

    def __iter__(self) -> Any:
        return iter(self.batches)


def test_batches_may_be_dictionaries_where_a_reward_understands_them(
    search: Make, val: Make
) -> None:
    class Named(SupernetTraining):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            super().validation_step((batch["inputs"], batch["labels"]), batch_idx)

    named = [{"inputs": inputs, "labels": labels} for inputs, labels in val()]
    told = search(MCTS(reward="val_acc"), run=False, module=Named(), val=Loader(named))
    plain = supernet_of(search)
    assert told.oneshot_module.supernet.reward((0, 1, 0)) == plain.reward((0, 1, 0))


def counted(supernet: Supernet) -> tuple[dict[str, int], int]:
    return dict(supernet.passes), sum(supernet.images.values())


def test_passes_and_images_are_counted(search: Make) -> None:
    supernet = supernet_of(search)
    supernet.reward((0, 0, 0))
    assert counted(supernet) == ({"reward": 1}, 8)
    supernet.outputs([(0, 0, 0), (1, 0, 0)])
    assert counted(supernet) == ({"reward": 1, "outputs": 2}, 8 * 3)
    supernet.accuracies([(0, 0, 0), (1, 0, 0)])
    assert counted(supernet) == ({"reward": 1, "outputs": 2, "accuracies": 8}, 8 * 11)
    assert supernet.images[(1, 0, 0)] == 8 + 32


def test_rewards_move_no_global_random_generator(search: Make, val: Make) -> None:
    def consumed(action: Callable[[], object]) -> bool:
        before = torch.get_rng_state()
        action()
        return not torch.equal(before, torch.get_rng_state())

    data = digits(seed=0)
    _, supernet, _ = pooling_supernet(search)
    images: Iterable[Any] = loader(data.val, data, batch_size=64, train=False, drop_last=True)
    assert len(list(images)) > 3
    architectures = supernet.space.enumerate()
    assert not consumed(lambda: supernet.reward(architectures[0]))
    assert not consumed(lambda: supernet.accuracies(architectures))
    assert not consumed(lambda: supernet.reinitialise())
    # a plain torch loader draws a number when it is iterated; the check does not let it
    assert not consumed(supernet_of(search, val=val()).check)

"""The parts of the training loop, each against its formula."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from nas_ext.data import Augmentation, ImageData, loader
from nas_ext.retrain import Recipe, fit
from nas_ext.retrain.precision import Precision, precision
from nas_ext.retrain.schedules import schedule

CPU = torch.device("cpu")


def rates(recipe: Recipe, updates: int) -> list[float]:
    """Return the rate of each update of a training."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=recipe.lr)
    scheduler = schedule(optimizer, recipe, updates)
    found = []
    for update in range(recipe.epochs * updates):
        found.append(optimizer.param_groups[0]["lr"])
        scheduler.step_update(update + 1)
    return found


@pytest.mark.parametrize(
    ("recipe", "theirs"),
    [
        (
            Recipe(epochs=9, sched="multistep", decay_milestones=(3, 7), decay_rate=0.2),
            lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [3, 7], gamma=0.2),
        ),
        (
            Recipe(epochs=9, sched="step", decay_epochs=4, decay_rate=0.5),
            lambda o: torch.optim.lr_scheduler.StepLR(o, 4, gamma=0.5),
        ),
    ],
)
def test_rates_fall_in_the_epochs_in_which_torchs_schedules_let_them_fall(
    recipe: Recipe, theirs: Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler]
) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=recipe.lr)
    scheduler = theirs(optimizer)
    expected = []
    for _ in range(recipe.epochs):
        expected += 5 * [optimizer.param_groups[0]["lr"]]
        optimizer.step()
        scheduler.step()
    assert rates(recipe, 5) == pytest.approx(expected)


def test_warm_up_counts_as_epochs_and_parts_of_epochs_may_be_milestones() -> None:
    recipe = Recipe(epochs=4, warmup_epochs=1, sched="multistep", decay_milestones=(2.5,))
    found = rates(recipe, 4)
    assert found[:4] == pytest.approx([1e-5 + i * (0.1 - 1e-5) / 4 for i in range(4)])
    assert found[4:] == pytest.approx([0.1] * 6 + [0.01] * 6)
    assert rates(Recipe(epochs=2, warmup_epochs=1, sched="constant"), 2)[2:] == [0.1, 0.1]


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.4, 0.0), (0.0, 1.0)])
def test_mixed_batches_are_the_papers(data: ImageData, mixup: float, cutmix: float) -> None:
    """One update, against mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019)."""

    def build() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    recipe = Recipe(
        epochs=1,
        batch_size=150,
        lr=0.1,
        weight_decay=0.0,
        smoothing=0.1,
        mixup=mixup,
        cutmix=cutmix,
    )
    plain = Augmentation()
    result = fit(build, recipe, data.train, data.val, data, seed=3, augmentation=plain)

    torch.manual_seed(3)
    model = build()
    batches = loader(data.train, data, batch_size=150, train=True, seed=3, augmentation=plain)
    pixels, labels = next(iter(batches))
    np.random.seed(3)  # noqa: NPY002  (timm draws from it)
    np.random.rand()  # noqa: NPY002  (timm: whether to mix this batch at all)
    alpha = mixup or cutmix
    share = np.random.beta(alpha, alpha)  # noqa: NPY002
    others = pixels.flip(0)
    if mixup:
        mixed = share * pixels + (1 - share) * others
    else:
        side = int(8 * math.sqrt(1 - share))  # of the rectangle, in an image of 8x8
        row, column = np.random.randint(8), np.random.randint(8)  # noqa: NPY002
        top, bottom = np.clip([row - side // 2, row + (side + 1) // 2], 0, 8)
        left, right = np.clip([column - side // 2, column + (side + 1) // 2], 0, 8)
        mixed = pixels.clone()
        mixed[:, :, top:bottom, left:right] = others[:, :, top:bottom, left:right]
        share = 1 - (bottom - top) * (right - left) / 64
    assert 0 < share < 1
    smooth = functional.one_hot(labels, 10) * 0.9 + 0.1 / 10
    targets = share * smooth + (1 - share) * smooth.flip(0)
    loss = -(targets * functional.log_softmax(model(mixed), 1)).sum(1).mean()
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    assert result.train_loss == pytest.approx(float(loss.detach()), rel=1e-5)
    for (name, found), weight in zip(result.weights.items(), model.parameters(), strict=True):
        assert weight.grad is not None
        expected = weight.detach() - 0.1 * weight.grad
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6, msg=name)


def test_bfloat16_on_a_cpu_is_another_training_close_to_the_full_one(
    data: ImageData, build: Callable[[], nn.Module]
) -> None:
    recipe = Recipe(epochs=2, batch_size=50, lr=0.01)
    full = fit(build, recipe, data.train, data.val, data, seed=0)
    half = fit(build, recipe, data.train, data.val, data, seed=0, amp="bfloat16")
    assert 0 < abs(half.train_loss - full.train_loss) < 0.1
    assert {weight.dtype for weight in half.weights.values()} <= {torch.float32, torch.int64}


@pytest.mark.parametrize(
    ("amp", "message"),
    [
        (True, "amp must be False on cpu: it is for GPUs .*, got True"),
        ("float16", "amp must be False on cpu.*got 'float16'"),
        ("half", "amp must be False, True, 'bfloat16' or 'float16', got 'half'"),
    ],
)
def test_mixed_precision_where_it_does_not_pay_is_refused(amp: bool | str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        precision(amp, CPU)


def test_float16_scales_small_gradients_and_leaves_out_a_step_that_overflows() -> None:
    weight = nn.Parameter(torch.zeros(1, 1))
    model = nn.Linear(1, 1, bias=False)
    model.weight = weight
    optimizer = torch.optim.SGD([weight], lr=1.0)
    half = Precision(torch.float16, CPU)

    def update(size: float) -> None:
        optimizer.zero_grad()
        with half.forward():
            loss = model(torch.tensor([[size]])).float().sum() / 4
        half.update(loss, optimizer, model, None)

    update(2.0**-24)  # the gradient 2^-26 is below float16's least number, 2^-24, unless scaled
    assert weight.item() == -(2.0**-26)
    scale = half.state_dict()["scale"]
    update(2.0**15)  # times a quarter of the scale 2^16: beyond float16's largest number
    assert weight.item() == -(2.0**-26)
    again = Precision(torch.float16, CPU)
    again.load_state_dict(half.state_dict())
    assert again.state_dict()["scale"] == half.state_dict()["scale"] == scale / 2

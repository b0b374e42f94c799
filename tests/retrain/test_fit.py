"""One training: what it computes, and that it repeats and resumes."""

from __future__ import annotations

import hashlib
import math
import pickle
import random
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from timm.layers.drop import DropPath
from torch import nn

from nas_ext.data import Augmentation, ImageData, Images, loader
from nas_ext.retrain import Epoch, FitResult, Recipe, TrainingDiverged, fit

Build = Callable[[], nn.Module]

EVERYTHING = Recipe(
    epochs=4,
    batch_size=32,
    warmup_epochs=1,
    min_lr=1e-3,
    smoothing=0.1,
    clip_grad=1.0,
    reprob=0.3,
    model_ema_decay=0.9,
)


def same_weights(first: FitResult, second: FitResult) -> bool:
    pairs = zip(first.weights.items(), second.weights.items(), strict=True)
    return all(a == b and torch.equal(u, v) for (a, u), (b, v) in pairs)


def digest(result: FitResult) -> str:
    hasher = hashlib.sha256(repr([(e.train_loss, e.accuracy) for e in result.history]).encode())
    for name, value in result.weights.items():
        hasher.update(name.encode() + value.numpy().tobytes())
    return hasher.hexdigest()


def run(build: Build, data: ImageData, recipe: Recipe = EVERYTHING, seed: int = 3) -> FitResult:
    return fit(build, recipe, data.train, data.val, data, seed=seed)


class Stop(Exception):
    """Ends a training from outside."""


def interrupted(build: Build, data: ImageData, recipe: Recipe, path: Path, epochs: int) -> None:
    def stop(epoch: Epoch) -> None:
        if epoch.epoch + 1 == epochs:
            raise Stop

    with pytest.raises(Stop):
        fit(
            build, recipe, data.train, data.val, data,
            seed=3, checkpoint=path, on_epoch=stop,
        )  # fmt: skip


# ---------------------------------------------------------------- what is computed


@pytest.mark.parametrize("filtered", [False, True])
def test_a_training_is_the_textbook_loop(build: Build, data: ImageData, filtered: bool) -> None:
    recipe = Recipe(
        epochs=2, batch_size=50, warmup_epochs=1, weight_decay=0.01, smoothing=0.1,
        model_ema_decay=0.6, filter_bias_and_bn=filtered, clip_grad=1.0,
    )  # fmt: skip
    plain = Augmentation()
    result = fit(build, recipe, data.train, data.val, data, seed=3, augmentation=plain)

    # Plain torch, from the formulas: warm-up from 1e-5 and cosine by update, classical momentum,
    # decay on all parameters (or on matrices alone), gradients cut to the norm 1, smoothed
    # cross-entropy, and
    # mean <- d mean + (1 - d) weights with d = min(.6, 1 - (1 + n)^(-2/3)) after n + 1 updates.
    torch.manual_seed(3)
    model = build()
    decay = [p for p in model.parameters() if p.ndim > 1 or not filtered]
    spared = [p for p in model.parameters() if p.ndim <= 1 and filtered]
    optimizer = torch.optim.SGD(
        [{"params": decay, "weight_decay": 0.01}, {"params": spared, "weight_decay": 0.0}],
        lr=0.1, momentum=0.9,
    )  # fmt: skip
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    batches = loader(data.train, data, batch_size=50, train=True, seed=3, augmentation=plain)
    mean: dict[str, torch.Tensor] = {}
    update, clipped = 0, 0
    for _ in range(2):
        for pixels, labels in batches:
            warm = 1e-5 + update * (0.1 - 1e-5) / 3
            cosine = 0.05 * (1 + math.cos(math.pi * (update - 3) / 3))
            for group in optimizer.param_groups:
                group["lr"] = warm if update < 3 else cosine
            optimizer.zero_grad()
            criterion(model(pixels), labels).backward()
            gradients = [p.grad for p in model.parameters() if p.grad is not None]
            norm = math.sqrt(sum(float(g.double().square().sum()) for g in gradients))
            clipped += norm > 1
            for gradient in gradients:
                gradient *= min(1.0, 1 / norm)
            optimizer.step()
            d = min(0.6, 1 - (1 + update) ** (-2 / 3))
            for name, value in model.state_dict().items():
                value = value.detach().double()
                mean[name] = d * mean[name] + (1 - d) * value if update else value
            update += 1
    assert 0 < clipped < update
    for name, value in result.weights.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, mean[name].float(), rtol=1e-4, atol=1e-5)
    assert result.history[0].lr == pytest.approx(1e-5)
    assert result.history[1].lr == pytest.approx(0.1)


@pytest.mark.parametrize("reprob", [0.0, 1.0])
def test_erased_rectangles_take_the_mean_colour_in_training_alone(
    data: ImageData, reprob: float
) -> None:
    shares: dict[bool, list[float]] = {True: [], False: []}

    def build() -> nn.Module:
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

        def look(module: nn.Module, inputs: tuple[torch.Tensor]) -> None:
            shares[module.training] += (inputs[0] == 0).double().mean((1, 2, 3)).tolist()

        model.register_forward_pre_hook(look)
        return model

    recipe = Recipe(epochs=1, batch_size=50, reprob=reprob)
    fit(build, recipe, data.train, data.val, data, seed=0)
    # no grey value of the digits is the mean, which normalises to 0
    assert max(shares[False]) == 0.0
    # timm erases 2 to 33 % of an image in whole pixels; where no rectangle fits, none
    assert max(shares[True]) <= 0.4
    assert sum(share > 0 for share in shares[True]) >= reprob * 0.9 * len(shares[True])
    assert (max(shares[True]) > 0) == (reprob > 0)


def test_accuracy_and_loss_are_those_of_all_images_in_evaluation_mode(
    build: Build, data: ImageData
) -> None:
    result = run(build, data)
    model = build()
    model.load_state_dict(dict(result.weights))
    model.eval()
    pixels = (data.val.pixels / 255 - data.mean[0]) / data.std[0]
    with torch.no_grad():
        logits = model(pixels)
    accuracy = float((logits.argmax(1) == data.val.labels).double().mean())
    assert len(data.val) % 512 != 0  # there is a last, smaller batch
    assert result.accuracy == pytest.approx(accuracy, abs=1e-9)
    loss = float(nn.functional.cross_entropy(logits, data.val.labels))
    assert result.loss == pytest.approx(loss, rel=1e-4)


def test_a_longer_training_learns(build: Build, data: ImageData) -> None:
    result = run(build, data, Recipe(epochs=30, batch_size=50, lr=0.05))
    assert result.accuracy > 0.6  # 0.1 is chance
    assert result.train_loss < result.history[0].train_loss


def test_the_result_reports_the_last_epoch_and_names_the_best(
    build: Build, data: ImageData
) -> None:
    result = run(build, data)
    assert [epoch.epoch for epoch in result.history] == [0, 1, 2, 3]
    last = result.history[-1]
    assert (result.accuracy, result.loss, result.train_loss) == (
        last.accuracy, last.loss, last.train_loss,
    )  # fmt: skip
    assert result.best_accuracy == max(epoch.accuracy or 0.0 for epoch in result.history)
    # conv 4*9, batch norm 2*4, linear 64*10 + 10
    assert result.parameters == 36 + 8 + 650
    assert result.seed == 3


def test_without_evaluation_in_every_epoch_the_images_are_seen_once(data: ImageData) -> None:
    seen = []

    class Counting(nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            if not self.training:
                seen.append(len(input))
            return super().forward(input)

    def build() -> nn.Module:
        return nn.Sequential(nn.Flatten(), Counting(64, 10))

    recipe = Recipe(epochs=3, batch_size=50)
    result = fit(
        build, recipe, data.train, data.val, data, seed=0, evaluate_every_epoch=False
    )  # fmt: skip
    assert sum(seen) == len(data.val)
    assert [epoch.accuracy is None for epoch in result.history] == [True, True, False]
    assert result.best_accuracy == result.accuracy


# ---------------------------------------------------------------- repeating


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(
    build: Build, data: ImageData
) -> None:
    first, second, other = run(build, data), run(build, data), run(build, data, seed=4)
    assert first == second
    assert same_weights(first, second)
    assert not same_weights(first, other)


def test_a_network_may_draw_from_any_global_generator(data: ImageData) -> None:
    def build() -> nn.Module:
        head = nn.Linear(64, 10)
        with torch.no_grad():
            head.weight[0, 0] = random.random()
            head.weight[0, 1] = np.random.random()  # noqa: NPY002  (what the test is about)
        return nn.Sequential(nn.Flatten(), head)

    first = run(build, data)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    assert same_weights(run(build, data), first)


def test_the_same_seed_gives_the_same_bits_in_another_process(
    build: Build, data: ImageData
) -> None:
    script = """
import torch
torch.set_num_threads(1)
from conftest import small_digits, tiny_network
from test_fit import digest, run
print(digest(run(tiny_network, small_digits())))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == digest(run(build, data)), done.stderr


def numpy_state() -> list[int]:
    state = np.random.get_state(legacy=False)  # noqa: NPY002  (the global generator is the subject)
    return [*state["state"]["key"], state["state"]["pos"]]


def test_the_global_generators_are_left_alone_and_do_not_matter(
    build: Build, data: ImageData
) -> None:
    first = run(build, data)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    states = random.getstate(), numpy_state(), torch.get_rng_state()
    assert same_weights(run(build, data), first)
    assert random.getstate() == states[0]
    assert numpy_state() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])


def test_what_on_epoch_draws_does_not_change_the_training(build: Build, data: ImageData) -> None:
    def draw(epoch: Epoch) -> None:
        torch.rand(3)
        random.random()

    result = fit(build, EVERYTHING, data.train, data.val, data, seed=3, on_epoch=draw)
    assert same_weights(result, run(build, data))


# ---------------------------------------------------------------- resuming


@pytest.mark.parametrize("opt", ["momentum", "sgd", "adamw", "lamb", "muon"])
def test_an_interrupted_training_goes_on_bit_by_bit(
    build: Build, data: ImageData, tmp_path: Path, opt: str
) -> None:
    recipe = replace(EVERYTHING, opt=opt, lr=0.01)
    path = tmp_path / "ckpt" / "x.pt"
    interrupted(build, data, recipe, path, 1)
    interrupted(build, data, recipe, path, 3)
    told: list[Epoch] = []
    resumed = fit(
        build, recipe, data.train, data.val, data,
        seed=3, checkpoint=path, on_epoch=told.append,
    )  # fmt: skip
    whole = run(build, data, recipe)
    assert resumed == whole
    assert same_weights(resumed, whole)
    assert tuple(told) == whole.history


def colourful(data: ImageData) -> ImageData:
    """Digits in three shades, for what only colour images take."""

    def shaded(images: Images) -> Images:
        pixels = torch.cat([images.pixels, images.pixels // 2, 255 - images.pixels], 1)
        return Images(pixels, images.labels)

    return replace(
        data, train=shaded(data.train), val=shaded(data.val), mean=data.mean * 3, std=data.std * 3
    )


def colour_network() -> nn.Module:
    """A residual network with drop path, dropout and batch norm."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3, padding=1, bias=False)
            self.norm = nn.BatchNorm2d(4)
            self.drop = DropPath(0.3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = x + self.drop(self.norm(self.conv(x)))
            return y

    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2, padding=1), Block(), nn.Flatten(), nn.Dropout(0.1),
        nn.Linear(64, 10),
    )  # fmt: skip


@pytest.mark.parametrize("amp", [False, "bfloat16"])
def test_a_training_with_everything_on_goes_on_bit_by_bit(
    data: ImageData, tmp_path: Path, amp: bool | str
) -> None:
    recipe = replace(
        EVERYTHING, sched="multistep", decay_milestones=(2.5,), mixup=0.4, cutmix=1.0,
        auto_augment="rand-m7-mstd0.5-inc1",
    )  # fmt: skip
    images = colourful(data)
    arguments = (colour_network, recipe, images.train, images.val, images)
    path = tmp_path / "x.pt"

    def stop(epoch: Epoch) -> None:
        if epoch.epoch in (0, 2):
            raise Stop

    def train(path: Path | None, on_epoch: Callable[[Epoch], None] | None = None) -> FitResult:
        return fit(*arguments, seed=3, checkpoint=path, on_epoch=on_epoch, amp=amp)

    with pytest.raises(Stop):
        train(path, stop)
    with pytest.raises(Stop):
        train(path, lambda epoch: stop(replace(epoch, epoch=epoch.epoch or -1)))
    resumed, whole = train(path), train(None)
    assert resumed == whole
    assert same_weights(resumed, whole)
    other = fit(*arguments, seed=4, amp=amp)
    assert not same_weights(other, whole)
    with pytest.raises(ValueError, match=r"another training: mixed precision was"):
        fit(*arguments, seed=3, checkpoint=path, amp="bfloat16" if amp is False else False)


@pytest.mark.parametrize(
    "change", [{"mixup": 0.4}, {"cutmix": 1.0}, {"auto_augment": "rand-m7"}, {"reprob": 0.5}]
)
def test_each_variation_of_images_changes_the_training(
    data: ImageData, change: dict[str, Any]
) -> None:
    images = colourful(data)
    plain = Recipe(epochs=1, batch_size=50)
    results = [
        fit(colour_network, recipe, images.train, images.val, images, seed=0)
        for recipe in (plain, replace(plain, **change))
    ]
    assert not same_weights(*results)


def test_progress_is_shown_on_stderr_when_asked(
    build: Build, data: ImageData, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = Recipe(epochs=2, batch_size=50)
    quiet = fit(build, recipe, data.train, data.val, data, seed=0)
    assert capsys.readouterr() == ("", "")
    shown = fit(build, recipe, data.train, data.val, data, seed=0, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "epoch 2/2: loss" in err
    assert "6/6" in err  # three updates an epoch
    assert same_weights(quiet, shown)


def test_a_finished_checkpoint_is_not_trained_again(
    build: Build, data: ImageData, tmp_path: Path
) -> None:
    path = tmp_path / "x.pt"
    interrupted(build, data, EVERYTHING, path, 4)
    content = path.read_bytes()
    resumed = fit(build, EVERYTHING, data.train, data.val, data, seed=3, checkpoint=path)
    assert path.read_bytes() == content
    assert same_weights(resumed, run(build, data))


def test_a_checkpoint_of_another_training_is_refused(
    build: Build, data: ImageData, tmp_path: Path
) -> None:
    path = tmp_path / "x.pt"
    interrupted(build, data, EVERYTHING, path, 1)
    with pytest.raises(ValueError, match="belongs to another training: seed was 3, is now 4"):
        fit(build, EVERYTHING, data.train, data.val, data, seed=4, checkpoint=path)
    other = replace(EVERYTHING, lr=0.2)
    with pytest.raises(ValueError, match=r"another training: recipe was .*'lr': 0.1"):
        fit(build, other, data.train, data.val, data, seed=3, checkpoint=path)
    with pytest.raises(ValueError, match="training images was 150"):
        fit(build, EVERYTHING, data.train_and_val(), data.val, data, seed=3, checkpoint=path)

    def flat() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    with pytest.raises(ValueError, match=r"x\.pt does not fit the network"):
        fit(flat, EVERYTHING, data.train, data.val, data, seed=3, checkpoint=path)


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.99])
def test_a_broken_checkpoint_is_named(
    build: Build, data: ImageData, tmp_path: Path, kept: float
) -> None:
    path = tmp_path / "x.pt"
    interrupted(build, data, EVERYTHING, path, 1)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if kept < 1 else int(kept)])
    with pytest.raises(ValueError, match=r"x\.pt is not a readable checkpoint"):
        fit(build, EVERYTHING, data.train, data.val, data, seed=3, checkpoint=path)


def test_a_checkpoint_with_one_flipped_bit_anywhere_in_its_weights_is_named(
    build: Build, data: ImageData, tmp_path: Path
) -> None:
    path = tmp_path / "x.pt"
    interrupted(build, data, EVERYTHING, path, 1)
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        places = [p.header_offset for p in archive.infolist() if "/data/" in p.filename]
    for place in places[::5]:
        flipped = bytearray(content)
        lengths = struct.unpack("<HH", content[place + 26 : place + 30])  # of name and extra field
        flipped[place + 30 + sum(lengths)] ^= 1
        path.write_bytes(flipped)
        with pytest.raises(ValueError, match=r"x\.pt is not a readable checkpoint.*checksum"):
            fit(build, EVERYTHING, data.train, data.val, data, seed=3, checkpoint=path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: s.update(history=[]), r"x\.pt: epochs must be the first of"),
        (lambda s: s["history"][0].update(epoch=3), r"x\.pt: epochs must be the first of"),
        (lambda s: s["history"][0].update(lr="a"), r"x\.pt: lr of an epoch must be a number"),
        (
            lambda s: s.update(
                history=[{**s["history"][0], "epoch": i, "loss": None} for i in range(4)]
            ),
            r"x\.pt: accuracy and loss of the last epoch must be numbers",
        ),
        (lambda s: s["training"].pop("scheduler"), r"x\.pt must be whole, got KeyError"),
        (lambda s: s["training"].update(random=[{}]), r"x\.pt must be whole, got KeyError"),
        (
            lambda s: s["training"]["random"][0].update(shuffle=torch.zeros(3, dtype=torch.uint8)),
            r"x\.pt",
        ),
        (
            lambda s: s["training"]["random"][0]["global"]["numpy"][1].__setitem__(0, -1),
            r"x\.pt must be whole, got OverflowError",
        ),
        (lambda s: s.pop("identity"), r"x\.pt is not a readable checkpoint"),
    ],
)
def test_a_checkpoint_that_lacks_something_is_named(
    build: Build, data: ImageData, tmp_path: Path, damage: Any, message: str
) -> None:
    path = tmp_path / "x.pt"
    interrupted(build, data, EVERYTHING, path, 1)
    state = torch.load(path, weights_only=True)
    damage(state)
    torch.save(state, path)
    with pytest.raises(ValueError, match=message):
        fit(build, EVERYTHING, data.train, data.val, data, seed=3, checkpoint=path)


def test_a_checkpoint_holds_no_code(build: Build, data: ImageData, tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    interrupted(build, data, EVERYTHING, path, 1)
    state = torch.load(path, weights_only=True)
    assert [entry["epoch"] for entry in state["history"]] == [0]
    torch.save({"identity": Stop()}, path)
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        fit(build, EVERYTHING, data.train, data.val, data, seed=3, checkpoint=path)


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize("opt", ["momentum", "adamw"])
def test_a_diverged_training_says_where_and_how(build: Build, data: ImageData, opt: str) -> None:
    recipe = Recipe(epochs=3, batch_size=50, opt=opt, lr=1e30)
    said = (
        r"loss became (nan|inf) in epoch [01] of 3: lower the recipe's lr of 1e\+30, .*clip_grad"
    )
    with pytest.raises(TrainingDiverged, match=said) as caught:
        run(build, data, recipe)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert not math.isfinite(caught.value.loss)
    assert isinstance(caught.value, FloatingPointError)


def test_a_network_with_the_wrong_outputs_is_refused(data: ImageData) -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 12))

    message = r"build must make a network with outputs \[50, 10\], got \[50, 12\]"
    with pytest.raises(ValueError, match=message):
        run(build, data, Recipe(epochs=1, batch_size=50))


def test_too_few_images_and_a_bad_seed_are_refused(build: Build, data: ImageData) -> None:
    with pytest.raises(ValueError, match="number of training images 150, got 256"):
        run(build, data, Recipe(epochs=1))
    with pytest.raises(ValueError, match="seed must be at least 0"):
        run(build, data, EVERYTHING, seed=-1)

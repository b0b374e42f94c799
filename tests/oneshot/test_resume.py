"""Searches that go on from any step, held against one that never stopped, bit for bit."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nni.nas.evaluator.pytorch import DataLoader
from pytorch_lightning.callbacks import ModelCheckpoint
from torch.utils.data import Dataset, IterableDataset, RandomSampler

from nas_ext.oneshot import SampledStrategy, SearchCheckpoint, SupernetTraining, last_checkpoint
from nas_ext.oneshot.checkpoints import position
from nas_ext.strategies import MCTS, LearnedTree
from nas_ext.strategies.registry import STRATEGIES, create

Make = Callable[..., Any]

STEPS = 22  # of epochs of 5 batches: the last one is not whole

# What the space of 8 architectures and so few steps need; everything else as it comes.
SETTINGS: dict[str, dict[str, Any]] = {
    "prototype-density": {"prototypes": 3},
    "balanced-mixture": {"models": 2},
    "density-aware": {"mode": "perplexity"},  # a temperature may leave one with all the draws
    "learned-tree": {"reinitialise": True},  # the harder case: weights start again on the way
}


class Each(SearchCheckpoint):
    """Keep a copy of every checkpoint, by the step it was written after."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, every_steps=1)

    def _save(self, trainer: Any) -> None:
        super()._save(trainer)
        shutil.copy(self.path, self.path.with_name(f"{trainer.global_step}.ckpt"))


class Dropping(SupernetTraining):
    """Train with dropout, which draws from torch's global generator."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        inputs, labels = batch
        return super().training_step((torch.dropout(inputs, 0.2, True), labels), batch_idx)


def left(done: Any) -> dict[str, Any]:
    """All that a search leaves behind, but for what it cost and where it ran."""
    values = asdict(done.result)
    values["budget"].pop("seconds")
    values.pop("manifest", None)
    return values


def check_equal(resumed: Any, whole: Any) -> None:
    assert left(resumed) == left(whole)
    weights = whole.supernet.state_dict()
    for name, value in resumed.supernet.state_dict().items():
        assert torch.equal(value, weights[name]), name


def moments(strategy: Any) -> list[int]:
    """Inside each phase, at each boundary and beside it, and at both ends of an epoch."""
    lengths = [STEPS]
    if isinstance(strategy, SampledStrategy):
        lengths = [phase.steps for phase in strategy.phases(STEPS)]
    found, begun = {1, 5, 6, STEPS - 1, STEPS}, 0
    for length in lengths:
        found |= {begun + length // 2, begun + length, begun + length + 1}
        begun += length
    return sorted(step for step in found if 1 <= step <= STEPS)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_search_goes_on_exactly_from_inside_each_phase_and_from_each_boundary(
    name: str, search: Make, train: Make, tmp_path: Path
) -> None:
    def run(**settings: Any) -> Any:
        return search(
            create(name, seed=3, **SETTINGS.get(name, {})),
            module=Dropping(),
            train=train(shuffle=True),
            max_steps=STEPS,
            max_epochs=-1,
            **settings,
        )

    torch.manual_seed(0)
    whole = run()
    torch.manual_seed(0)
    watched = run(callbacks=[Each(tmp_path)])
    check_equal(watched, whole)  # writing checkpoints changes nothing
    for step in moments(create(name, **SETTINGS.get(name, {}))):
        torch.manual_seed(1000 + step)  # another process begins elsewhere
        resumed = run(ckpt_path=tmp_path / f"{step}.ckpt")
        check_equal(resumed, whole)


# Loaders, and where Lightning is in its loops.


class Noisy(Dataset[Any]):
    """Rows with noise from every global generator there is, as an augmentation draws it."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        inputs, label = self.rows[index]
        noise = random.random() + float(np.random.rand())  # noqa: NPY002 - what users' data do
        return inputs + 0.1 * torch.randn(6) + 0.1 * noise, label


class Stream(IterableDataset[Any]):
    """Rows in an order of their own, without a length."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __iter__(self) -> Any:
        for index in torch.randperm(len(self.rows)).tolist():
            inputs, label = self.rows[index]
            yield inputs + 0.1 * torch.randn(6), label


def loader_of(how: str, rows: Any) -> Any:
    generator = torch.Generator().manual_seed(3)
    if how == "stream":
        return DataLoader(Stream(rows), batch_size=8)
    if how == "workers":
        return DataLoader(Noisy(rows), batch_size=8, shuffle=True, num_workers=2)
    if how == "with replacement":
        drawn = RandomSampler(rows, replacement=True, generator=generator)
        return DataLoader(Noisy(rows), batch_size=8, sampler=drawn)
    if how == "own generator":
        return DataLoader(Noisy(rows), batch_size=8, shuffle=True, generator=generator)
    if how == "two loaders":
        return {"a": DataLoader(Noisy(rows), batch_size=8, shuffle=True), "b": loader_of("", rows)}
    return DataLoader(Noisy(rows), batch_size=8, shuffle=True)


class First(Dropping):
    """Train on the first of two loaders' batches."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return super().training_step(batch["a"], batch_idx)


def begin(seed: int) -> None:
    """Begin all global generators somewhere."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the global one is meant


def check_all(
    search: Make, folder: Path, steps: tuple[int, ...], make: Make, **settings: Any
) -> None:
    """Go on from some steps, and hold it against what was not stopped."""

    def run(**more: Any) -> Any:
        module, train = make()
        return search(LearnedTree(), module=module, train=train, **{**settings, **more})

    begin(0)
    whole = run()
    begin(0)
    check_equal(run(callbacks=[Each(folder)]), whole)
    for step in steps:
        begin(1000 + step)
        check_equal(run(ckpt_path=folder / f"{step}.ckpt"), whole)


@pytest.mark.parametrize(
    "how",
    ["global generator", "own generator", "with replacement", "stream", "workers", "two loaders"],
)
def test_the_data_go_on_exactly_inside_an_epoch(
    how: str, search: Make, train: Make, tmp_path: Path
) -> None:
    module = First if how == "two loaders" else Dropping

    def make() -> Any:
        return module(), loader_of(how, train().dataset)

    check_all(search, tmp_path, (2, 8, 10), make, max_steps=12, max_epochs=-1)


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({"max_epochs": 3}, (2, 5, 9, 10, 15)),
        ({"max_epochs": 3, "limit_train_batches": 3}, (2, 3, 5, 6)),
        ({"max_epochs": 3, "limit_val_batches": 2}, (2, 5, 8)),
        ({"max_steps": 12, "max_epochs": -1, "limit_val_batches": 2}, (2, 5, 10)),
        # windows of 2, 2 and 1 batches
        ({"max_epochs": 3, "accumulate_grad_batches": 2}, (1, 2, 3, 5)),
        ({"max_steps": 8, "max_epochs": -1, "accumulate_grad_batches": 2}, (1, 2, 3, 5)),
    ],
)
def test_epochs_steps_windows_and_validations_go_on_exactly(
    settings: dict[str, Any], steps: tuple[int, ...], search: Make, train: Make, tmp_path: Path
) -> None:
    check_all(search, tmp_path, steps, lambda: (Dropping(), train(shuffle=True)), **settings)


def test_a_step_that_is_validated_is_saved_after_the_next_one(
    search: Make, train: Make, tmp_path: Path
) -> None:
    settings = {"max_epochs": 2, "limit_val_batches": 2, "val_check_interval": 2}
    check_all(search, tmp_path, (1, 3, 5, 6), lambda: (Dropping(), train()), **settings)
    saved = sorted(int(file.stem) for file in tmp_path.glob("[0-9]*.ckpt"))
    assert saved == [1, 3, 5, 6, 8, 10]  # validated after the batches 2 and 4 of an epoch


@pytest.mark.parametrize("limits", [{"max_epochs": 3}, {"max_steps": 13, "max_epochs": -1}])
def test_what_lightnings_own_checkpoints_keep_goes_on_exactly(
    limits: dict[str, int], search: Make, train: Make, tmp_path: Path
) -> None:
    saving = ModelCheckpoint(
        dirpath=tmp_path, filename="{step}", save_top_k=-1, every_n_train_steps=1
    )

    def run(**settings: Any) -> Any:
        return search(MCTS(), module=Dropping(), train=train(shuffle=True), **limits, **settings)

    torch.manual_seed(0)
    whole = run(callbacks=[saving], enable_checkpointing=True)
    for step in (1, 4, 5, 6, 12):
        torch.manual_seed(1000 + step)
        check_equal(run(ckpt_path=tmp_path / f"step={step}.ckpt"), whole)


def test_workers_that_outlive_their_epoch_are_warned_about(
    search: Make, train: Make, tmp_path: Path
) -> None:
    def run(**settings: Any) -> Any:
        kept = train(num_workers=1, persistent_workers=True)
        return search(MCTS(), train=kept, max_steps=4, max_epochs=-1, **settings)

    run(callbacks=[Each(tmp_path)])
    with pytest.warns(UserWarning, match="training loader has persistent_workers"):
        run(ckpt_path=tmp_path / "2.ckpt")


def test_a_shorter_training_set_is_refused(search: Make, train: Make, tmp_path: Path) -> None:
    settings = {"max_steps": 8, "max_epochs": -1}
    search(MCTS(), train=train(), callbacks=[Each(tmp_path)], **settings)
    short = DataLoader(train().dataset, batch_size=20)
    with pytest.raises(ValueError, match=r"must have the 4 batches .* was trained on, got 2"):
        search(MCTS(), train=short, ckpt_path=tmp_path / "4.ckpt", **settings)


# When checkpoints are written, and what they are.


def test_a_checkpoint_is_written_at_the_ends_of_phases_at_least(
    search: Make, tmp_path: Path
) -> None:
    class Rarely(Each):
        def __init__(self, folder: Path) -> None:
            SearchCheckpoint.__init__(self, folder)

    search(LearnedTree(), max_epochs=6, callbacks=[Rarely(tmp_path)])
    assert sorted(int(file.stem) for file in tmp_path.glob("[0-9]*.ckpt")) == [12, 20, 30]


def test_a_checkpoint_is_written_when_its_time_has_come(search: Make, tmp_path: Path) -> None:
    saving = SearchCheckpoint(tmp_path, every_minutes=1e-9)
    search(MCTS(), max_epochs=2, callbacks=[saving])
    assert saving.saved == 10
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.ckpt"]
    assert set(torch.load(saving.path, weights_only=True)) >= {"state_dict", "nas_ext_search"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"every_minutes": 0.0}, "every_minutes must be positive, got 0.0"),
        ({"every_steps": 0}, "every_steps must be at least 1, got 0"),
    ],
)
def test_a_wrong_interval_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SearchCheckpoint("x", **settings)


class Harmful:
    """Run code when it is unpickled."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("harm"),))


def test_damaged_and_hostile_checkpoints_are_refused_and_run_nothing(
    search: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    search(MCTS(), callbacks=[Each(tmp_path)])
    whole = (tmp_path / "4.ckpt").read_bytes()
    for size in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.ckpt").write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"cut\.ckpt cannot be read, it is damaged or none"):
            position(tmp_path / "cut.ckpt")
    torch.save({"state_dict": Harmful()}, tmp_path / "bad.ckpt")
    with pytest.raises(ValueError, match=r"bad\.ckpt cannot be read"):
        position(tmp_path / "bad.ckpt")
    assert not (tmp_path / "harm").exists()
    with pytest.raises(ValueError, match="does not exist"):
        position(tmp_path / "none.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match="must come from a search of nas-ext"):
        position(tmp_path / "other.ckpt")


def test_a_checkpoint_says_how_far_the_search_had_come(search: Make, tmp_path: Path) -> None:
    search(LearnedTree(), max_epochs=6, callbacks=[Each(tmp_path)])
    said = [str(position(tmp_path / f"{step}.ckpt")) for step in (12, 13, 30)]
    assert said == [
        "step 12 of 30, in phase 'uniform'",
        "step 13 of 30, in phase 'tree warm-up'",
        "step 30 of 30, in phase 'search'",
    ]


def test_the_last_whole_checkpoint_of_a_folder_is_found(search: Make, tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path) is None
    deep = tmp_path / "nni" / "abc" / "checkpoints"
    search(MCTS(), callbacks=[Each(deep)])
    for number, name in enumerate(("3", "checkpoint", "7", "5")):
        os.utime(deep / f"{name}.ckpt", (number, number))
    for name in ("1", "2", "4", "6", "8", "9", "10"):
        (deep / f"{name}.ckpt").unlink(missing_ok=True)
    assert last_checkpoint(tmp_path) == deep / "5.ckpt"
    (tmp_path / "half.ckpt").write_bytes((deep / "7.ckpt").read_bytes()[:500])  # the newest
    assert last_checkpoint(tmp_path) == deep / "5.ckpt"
    with pytest.raises(ValueError, match="folder must exist"):
        last_checkpoint(tmp_path / "none")

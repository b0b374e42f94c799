"""Searches that go on from a Lightning checkpoint, held against one that never stopped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from nni.nas.execution import SequentialExecutionEngine
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader

from nas_ext.data import digits, loader
from nas_ext.nni import Lightning, RawFormatModelSpace
from nas_ext.oneshot import SupernetTraining
from nas_ext.spaces import PoolingResNet
from nas_ext.strategies import MCTS, LearnedTree, Uniform

Make = Callable[..., Any]

EPOCHS = 6  # of 5 steps; LearnedTree's phases are 12, 8 and 10 steps long


class Dropping(SupernetTraining):
    """Train with dropout, which draws from torch's global generator, and note the rates."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.2)
        self.rates: list[float] = []

    def forward(self, images: Tensor) -> Any:
        return self.model(self.drop(images))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        return super().training_step(batch, batch_idx)


def saving(folder: Path | None, *, validating: bool) -> dict[str, Any]:
    """Trainer settings that save every epoch, when it has ended or when it was validated."""
    limit = 2 if validating else 0
    if folder is None:
        return {"max_epochs": EPOCHS, "limit_val_batches": limit}
    callback = ModelCheckpoint(
        dirpath=folder,
        filename="{epoch}",
        save_top_k=-1,
        save_on_train_epoch_end=not validating,
    )
    return {
        "max_epochs": EPOCHS,
        "limit_val_batches": limit,
        "enable_checkpointing": True,
        "callbacks": [callback],
    }


def left(done: Any) -> dict[str, Any]:
    """All that a search leaves behind, but for the seconds."""
    values = asdict(done.result)
    values["budget"].pop("seconds")
    return values


def check_equal(resumed: Any, whole: Any) -> None:
    """Hold draws, rewards, ranking, budget, tree and weights against each other, bit for bit."""
    assert left(resumed) == left(whole)
    weights = whole.supernet.state_dict()
    for name, value in resumed.supernet.state_dict().items():
        assert torch.equal(value, weights[name]), name


def shuffled(how: str, train: Make) -> Any:
    if how == "in order":
        return train()
    generator = torch.Generator().manual_seed(3) if how == "own generator" else None
    return train(shuffle=True, generator=generator)


@pytest.mark.parametrize("how", ["in order", "own generator", "global generator"])
@pytest.mark.parametrize("validating", [False, True])
def test_a_search_goes_on_exactly_from_the_end_of_every_epoch(
    how: str, validating: bool, search: Make, train: Make, tmp_path: Path
) -> None:
    first = Dropping()
    whole = search(
        LearnedTree(),
        module=first,
        train=shuffled(how, train),
        **saving(tmp_path, validating=validating),
    )
    assert [steps for _, steps in whole.result.phases] == [12, 8, 10]
    for epoch in range(EPOCHS):
        module = Dropping()
        torch.manual_seed(1000 + epoch)  # another process begins elsewhere
        resumed = search(
            LearnedTree(),
            module=module,
            train=shuffled(how, train),
            ckpt_path=tmp_path / f"epoch={epoch}.ckpt",
            **saving(None, validating=validating),
        )
        check_equal(resumed, whole)
        assert module.rates == first.rates[5 * (epoch + 1) :]


@pytest.mark.parametrize("epoch", range(EPOCHS))
def test_a_restored_tree_is_not_built_again(epoch: int, search: Make, tmp_path: Path) -> None:
    search(LearnedTree(), **saving(tmp_path, validating=False))
    resumed = search(
        LearnedTree(), run=False, ckpt_path=tmp_path / f"epoch={epoch}.ckpt", max_epochs=EPOCHS
    )
    supernet = resumed.oneshot_module.supernet
    calls: list[int] = []
    outputs = supernet.outputs

    def counted(architectures: Any) -> Any:
        calls.append(len(architectures))
        return outputs(architectures)

    supernet.outputs = counted
    resumed.run()
    assert calls == ([8] if epoch < 2 else [])  # the tree is built at step 12, in epoch 2
    assert resumed.result.budget.output_passes == 8


@pytest.mark.parametrize("strategy", [Uniform, MCTS])
def test_other_strategies_go_on_exactly(strategy: Any, search: Make, tmp_path: Path) -> None:
    whole = search(strategy(), **saving(tmp_path, validating=False))
    for epoch in range(EPOCHS):
        ckpt_path = tmp_path / f"epoch={epoch}.ckpt"
        check_equal(search(strategy(), ckpt_path=ckpt_path, max_epochs=EPOCHS), whole)


def test_a_pooling_search_on_our_own_loaders_goes_on_exactly(search: Make, tmp_path: Path) -> None:
    def run(**settings: Any) -> Any:
        torch.manual_seed(0)
        data = digits(seed=0)
        return search(
            LearnedTree(),
            space=PoolingResNet(widths=(2, 2, 2, 2), poolings=1, in_chs=1),
            # shuffle and augmentation draw from one generator
            train=loader(
                data.train.select(torch.arange(80)), data, batch_size=16, train=True, seed=7
            ),
            val=loader(data.val.select(torch.arange(96)), data, batch_size=32, train=False),
            **settings,
        )

    whole = run(**saving(tmp_path, validating=False))
    for epoch in (0, 2, 4):
        ckpt_path = tmp_path / f"epoch={epoch}.ckpt"
        check_equal(run(ckpt_path=ckpt_path, max_epochs=EPOCHS), whole)


class Rows(pl.LightningDataModule):
    """Loaders with a generator of their own, made when Lightning asks."""

    def __init__(self, train: Make, val: Make) -> None:
        super().__init__()
        self.made = (train, val)

    def train_dataloader(self) -> Any:
        return self.made[0](shuffle=True, generator=torch.Generator().manual_seed(3))

    def val_dataloader(self) -> Any:
        return self.made[1]()


def test_a_data_modules_order_goes_on_exactly(
    trainer: Make, train: Make, val: Make, tiny: Make, tmp_path: Path
) -> None:
    def run(ckpt_path: str | None, **settings: Any) -> Any:
        torch.manual_seed(0)
        strategy = LearnedTree()
        evaluator = Lightning(
            Dropping(),
            trainer(**settings),
            datamodule=Rows(train, val),
            fit_kwargs={"ckpt_path": ckpt_path},
        )
        strategy(RawFormatModelSpace(tiny(), evaluator), SequentialExecutionEngine())
        return strategy

    whole = run(None, **saving(tmp_path, validating=False))
    for epoch in (0, 2, 4):
        resumed = run(str(tmp_path / f"epoch={epoch}.ckpt"), max_epochs=EPOCHS)
        check_equal(resumed, whole)


def test_a_search_goes_on_where_batches_accumulate(search: Make, tmp_path: Path) -> None:
    settings = {"accumulate_grad_batches": 2, **saving(tmp_path, validating=False)}
    whole = search(LearnedTree(), **settings)
    assert whole.result.budget.steps == 18
    for epoch in range(EPOCHS):
        resumed = search(
            LearnedTree(),
            ckpt_path=tmp_path / f"epoch={epoch}.ckpt",
            accumulate_grad_batches=2,
            max_epochs=EPOCHS,
        )
        check_equal(resumed, whole)


def test_checkpoints_load_as_weights_only(search: Make, tmp_path: Path) -> None:
    search(LearnedTree(), **saving(tmp_path, validating=False))
    for epoch in range(EPOCHS):
        checkpoint = torch.load(tmp_path / f"epoch={epoch}.ckpt", weights_only=True)
        state = checkpoint["nas_ext_search"]
        assert len(state["search"]["draws"]) == 5 * (epoch + 1)


def test_a_finished_search_that_goes_on_trains_nothing_and_ranks_alike(
    search: Make, tmp_path: Path
) -> None:
    whole = search(LearnedTree(), **saving(tmp_path, validating=False))
    module = Dropping()
    resumed = search(
        LearnedTree(),
        module=module,
        ckpt_path=tmp_path / f"epoch={EPOCHS - 1}.ckpt",
        max_epochs=EPOCHS,
    )
    assert module.rates == []
    assert resumed.result.ranking == whole.result.ranking
    assert resumed.result.best == whole.result.best


def test_the_validation_stream_goes_on_where_it_was(search: Make, tmp_path: Path) -> None:
    seen: list[Tensor] = []

    def reward(module: Any, batch: Any) -> float:
        seen.append(batch[0])
        return float((module(batch[0]).argmax(dim=1) == batch[1]).double().mean())

    whole = search(MCTS(reward=reward), **saving(tmp_path, validating=False))
    all_of_it, seen = seen, []
    ckpt_path = tmp_path / "epoch=0.ckpt"
    search(MCTS(reward=reward), ckpt_path=ckpt_path, max_epochs=EPOCHS)
    # 5 of 4 batches were consumed: the sixth reward is on the second batch again
    assert whole.oneshot_module.supernet.consumed == 30 % 4
    assert len(seen) == len(all_of_it) - 5
    for one, other in zip(seen, all_of_it[5:], strict=True):
        assert torch.equal(one, other)


def test_a_checkpoint_in_the_middle_of_a_window_keeps_its_architecture(
    search: Make, tmp_path: Path
) -> None:
    class Half(SupernetTraining):
        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx == 2 and self.current_epoch == 0:  # the first half of the second window
                self.trainer.save_checkpoint(tmp_path / "half.ckpt")

    settings: dict[str, Any] = {"accumulate_grad_batches": 2, "max_epochs": 2}
    whole = search(MCTS(), module=Half(), **settings)
    resumed = search(MCTS(), ckpt_path=tmp_path / "half.ckpt", **settings)
    # not exact, since the gradient of the first half is lost, but no window changes its path
    drawn = [[d.architecture for d in done.result.draws] for done in (whole, resumed)]
    assert drawn[0][:2] == drawn[1][:2]
    assert len(drawn[0]) == len(drawn[1]) == 6
    assert resumed.result.budget.train_passes == whole.result.budget.train_passes == 10


def test_a_checkpoint_of_another_run_is_refused(search: Make, tmp_path: Path) -> None:
    search(LearnedTree(), **saving(tmp_path, validating=False))
    ckpt_path = tmp_path / "epoch=1.ckpt"
    with pytest.raises(ValueError, match="must be those of the checkpoint, whose phases are"):
        search(LearnedTree(), ckpt_path=ckpt_path, max_epochs=EPOCHS + 2)
    with pytest.raises(ValueError, match="must be those of the checkpoint, whose phases are"):
        search(MCTS(), ckpt_path=ckpt_path, max_epochs=EPOCHS)


def test_a_checkpoint_without_a_search_is_refused(
    search: Make, tmp_path: Path, trainer: Make, train: Make
) -> None:
    module = SupernetTraining()
    module.set_model(nn.Linear(6, 3))
    plain = trainer(max_epochs=1)
    plain.fit(module, train())
    plain.save_checkpoint(tmp_path / "plain.ckpt")
    with pytest.raises(ValueError, match="must come from a search, it has no 'nas_ext_search'"):
        search(MCTS(), ckpt_path=tmp_path / "plain.ckpt")


def test_a_training_loader_of_another_kind_is_refused(
    search: Make, train: Make, tmp_path: Path
) -> None:
    search(MCTS(), train=shuffled("own generator", train), **saving(tmp_path, validating=False))
    with pytest.raises(ValueError, match="must have the 1 generators of the checkpoint, got 0"):
        search(MCTS(), ckpt_path=tmp_path / "epoch=0.ckpt", max_epochs=EPOCHS)


def test_the_users_own_state_is_kept(search: Make, tmp_path: Path) -> None:
    class Keeping(SupernetTraining):
        loaded: Any = None

        def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            checkpoint["mine"] = self.current_epoch

        def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            self.loaded = checkpoint["mine"]

    search(MCTS(), module=Keeping(), **saving(tmp_path, validating=False))
    module = Keeping()
    search(MCTS(), module=module, ckpt_path=tmp_path / "epoch=2.ckpt", max_epochs=EPOCHS)
    assert module.loaded == 2


def test_loaders_inside_a_structure_keep_their_generators(search: Make, tmp_path: Path) -> None:
    from nas_ext.oneshot.randomness import Randomness

    def pair() -> tuple[torch.Generator, torch.Generator]:
        return torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)

    def kept(one: torch.Generator, two: torch.Generator) -> Randomness:
        data = list(range(4))
        loaders = {
            "a": DataLoader(data, shuffle=True, generator=one),  # type: ignore[arg-type]  # any sequence
            "b": [DataLoader(data, generator=two)],  # type: ignore[arg-type]  # any sequence
        }
        made = Randomness()
        made.watch(loaders)
        return made

    before = pair()
    first = kept(*before)
    drawn = [torch.rand(3, generator=one) for one in before]
    state = first.state_dict()
    assert len(state["loader"]) == 2
    again = pair()
    second = kept(*again)
    second.load_state_dict(state)
    for one, other, old in zip(before, again, drawn, strict=True):
        expected = torch.rand(3, generator=one)
        assert torch.equal(torch.rand(3, generator=other), expected)
        assert not torch.equal(expected, old)

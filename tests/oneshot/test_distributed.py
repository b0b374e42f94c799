"""One supernet trained by two processes: same draws, same weights, one result."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from nni.nas.nn.pytorch import LayerChoice
from torch import Tensor, nn

from nas_ext.data import digits, loader
from nas_ext.nni import ModelSpace
from nas_ext.oneshot.distributed import ALONE, RankBatches, Ranks
from nas_ext.results import SearchResult
from nas_ext.strategies import MCTS, PADA

Make = Callable[..., Any]

# Two processes of 3 batches an epoch; the second one runs this file again, as Lightning has it.
SCRIPT = """
import sys
from pathlib import Path
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import nn
from nas_ext.data import Augmentation, digits, loader
from nas_ext.nni import LayerChoice, Lightning, ModelSpace, Trainer
from nas_ext.oneshot import SearchExperiment, SupernetTraining, accuracy
from nas_ext.oneshot.distributed import ALONE
from nas_ext.strategies import LearnedTree

torch.set_num_threads(1)


def unit():
    return nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())


class Tiny(ModelSpace):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, stride=2, padding=1)
        self.layers = nn.ModuleList(
            LayerChoice([unit() for _ in range(3)], label=f"layer{i}") for i in range(3)
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    def forward_chain(self):
        layers = [(layer, i + 1) for i, layer in enumerate(self.layers)]
        return [(self.stem, 0), *layers, (self.head, 3)]

    def forward(self, x):
        for layer, _ in self.forward_chain():
            x = layer(x)
        return x


class Recording(SupernetTraining):
    seen = []

    def training_step(self, batch, batch_idx):
        if not self.seen:
            self.first = {k: v.clone() for k, v in self.model.named_parameters()}
        self.seen.append(batch)
        return super().training_step(batch, batch_idx)


rewards = []


def reward(module, batch):
    value = accuracy(module, batch)
    rewards.append((batch[1].tolist(), value))
    return value


out, resumed = sys.argv[1:]
data = digits(seed=0)
trainer = Trainer(
    accelerator="cpu",
    devices=2,
    strategy="ddp_find_unused_parameters_true",
    max_epochs=3,
    callbacks=[ModelCheckpoint(f"{out}/kept", save_top_k=-1, filename="{epoch}")],
    logger=False,
    enable_progress_bar=False,
    enable_model_summary=False,
    limit_val_batches=0,
)
rank = trainer.global_rank
torch.manual_seed(rank)  # other first weights in each process
batches = loader(data.train, data, batch_size=112, train=True, augmentation=Augmentation())
evaluator = Lightning(
    Recording(),
    trainer,
    train_dataloaders=batches,
    val_dataloaders=loader(data.val, data, batch_size=64, train=False, drop_last=True),
    fit_kwargs={"ckpt_path": resumed} if resumed else {},
)
strategy = LearnedTree(
    seed=3, candidates=None, reward=reward, out=out, reinitialise=True
)
experiment = SearchExperiment(Tiny(), evaluator, strategy, out=out)
experiment.run()
told = list(rewards)
supernet = strategy.oneshot_module.supernet
every = strategy.search_space.enumerate()
few = every[7:6:-1] + every[20:22]
found = {}
for name in ("spread", "alone"):
    found[name] = [
        torch.from_numpy(supernet.accuracies(every)),
        torch.from_numpy(supernet.outputs(few)),
        torch.from_numpy(supernet.proxy("naswot", every[:1])),
        supernet.passes["accuracies"],
    ]
    supernet.ranks = ALONE
experiment.stop()
result = strategy.result
kept = {
    "weights": {name: p.detach() for name, p in strategy.supernet.named_parameters()},
    "first": {} if resumed else evaluator.module.first,
    "seen": evaluator.module.seen,
    "draws": [[list(draw.architecture), draw.reward] for draw in result.draws],
    "ranking": [[list(line.architecture), line.accuracy] for line in result.ranking],
    "result": repr(result),
    "rewards": told,
    **found,
}
torch.save(kept, f"{out}/rank{rank}.pt")
"""


def run_two(folder: Path, resumed: str = "") -> list[dict[str, Any]]:
    """Run the script in two processes, and return what each of them kept."""
    folder.mkdir()
    home = folder / "home"
    home.mkdir()
    (folder / "search.py").write_text(SCRIPT)
    strange = ("RANK", "WORLD", "LOCAL", "MASTER", "NODE", "GROUP", "SLURM", "TORCHELASTIC")
    known = {name: v for name, v in os.environ.items() if not name.startswith(strange)}
    cache = {"MPLCONFIGDIR": str(folder / "matplotlib"), "OMP_NUM_THREADS": "1"}
    out = folder / "out"
    done = subprocess.run(
        [sys.executable, str(folder / "search.py"), str(out), resumed],
        env={**known, **cache, "HOME": str(home)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [torch.load(out / f"rank{rank}.pt") for rank in range(2)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("two") / "run"


@pytest.fixture(scope="module")
def ranks(folder: Path) -> list[dict[str, Any]]:
    """What each of two processes kept of the same search."""
    return run_two(folder)


def test_both_draw_alike_and_end_with_the_same_weights(ranks: list[dict[str, Any]]) -> None:
    one, other = ranks
    assert len(one["draws"]) == 9
    assert len({tuple(architecture) for architecture, _ in one["draws"]}) > 3
    assert any(reward is not None for _, reward in one["draws"])
    assert one["draws"] == other["draws"]
    assert one["ranking"] == other["ranking"]
    assert one["result"] == other["result"]
    assert one["weights"].keys() == other["weights"].keys()
    for name, value in one["weights"].items():
        assert torch.equal(value, other["weights"][name]), name


def test_the_result_is_written_once_and_is_that_of_both(
    folder: Path, ranks: list[dict[str, Any]]
) -> None:
    result = SearchResult.load(folder / "out")
    assert repr(result) == ranks[1]["result"]
    # every process trained on a batch of its own in each of 9 steps
    assert (result.budget.steps, result.budget.train_passes) == (9, 18)
    assert result.budget.evaluated == 27
    # 36 rewards at most, and the outputs of 27 architectures once, shared between the two
    assert result.budget.reward_passes == 2 * sum(r is not None for _, r in ranks[0]["draws"])
    assert result.budget.output_passes == 27


def test_each_trains_on_its_own_half_of_the_batches_of_an_epoch(
    ranks: list[dict[str, Any]],
) -> None:
    data = digits(seed=0)
    listed: Any = loader(data.train, data, batch_size=112, train=True).sampler
    batches = loader(data.train, data, batch_size=112, train=False)
    whole: Any = batches.dataset
    for kept in ranks:
        assert len(kept["seen"]) == 9
    # the list of the first epoch, as one process would draw it
    order = list(listed)
    assert len(order) == 6
    for rank, kept in enumerate(ranks):
        for step in range(3):
            images, labels = kept["seen"][step]
            expected = whole[order[2 * step + rank]]
            assert torch.equal(images, expected[0])
            assert torch.equal(labels, expected[1])


def test_a_bare_loop_over_both_halves_gives_the_same_weights(
    folder: Path, ranks: list[dict[str, Any]]
) -> None:
    one, other = ranks
    for name, value in one["first"].items():
        assert torch.equal(value, other["first"][name]), name
    weights = {name: value.clone() for name, value in one["first"].items()}
    momenta: dict[str, Tensor] = {}
    # the first epoch; weights and schedule start again after the warm-up, 4 of 9 steps
    cosine = [0.5 * (1 + math.cos(math.pi * step / 4)) for step in range(3)]
    steps = zip(one["draws"], one["seen"], other["seen"], cosine, strict=False)
    for (architecture, _), mine, theirs, factor in steps:
        grads = [_gradients(weights, architecture, batch) for batch in (mine, theirs)]
        for name in grads[0]:  # what has no gradient is not moved by momentum or decay either
            grad = (grads[0][name] + grads[1][name]) / 2 + 1e-3 * weights[name]
            momenta[name] = grad if name not in momenta else 0.9 * momenta[name] + grad
            weights[name] = weights[name] - 0.1 * factor * momenta[name]
    found = torch.load(folder / "out" / "kept" / "epoch=0.ckpt")["state_dict"]
    for name, value in weights.items():
        expected = found[f"training_module._model.{name}"]
        torch.testing.assert_close(value.detach(), expected, rtol=1e-4, atol=1e-6, msg=name)


def _gradients(
    weights: dict[str, Tensor], architecture: list[int], batch: Any
) -> dict[str, Tensor]:
    """Return the gradients of the cross-entropy of one path, written out."""
    parts = [f"layers.{i}.{option}." for i, option in enumerate(architecture)]
    used = {
        name: value.clone().requires_grad_()
        for name, value in weights.items()
        if name.startswith(("stem.", "head.", *parts))
    }
    images, labels = batch
    x = nn.functional.conv2d(images, used["stem.weight"], used["stem.bias"], 2, 1)
    for part in parts:
        x = nn.functional.conv2d(x, used[f"{part}0.weight"], used[f"{part}0.bias"], 1, 1)
        gain, shift = used[f"{part}1.weight"], used[f"{part}1.bias"]
        x = nn.functional.batch_norm(x, None, None, gain, shift, training=True).relu()
    logits = x.flatten(1) @ used["head.1.weight"].T + used["head.1.bias"]
    loss = nn.functional.cross_entropy(logits, labels)
    return dict(zip(used, torch.autograd.grad(loss, list(used.values())), strict=True))


def test_a_reward_is_the_mean_over_different_batches(ranks: list[dict[str, Any]]) -> None:
    given = [reward for _, reward in ranks[0]["draws"] if reward is not None]
    pairs = list(zip(ranks[0]["rewards"], ranks[1]["rewards"], strict=False))[: len(given)]
    assert given == [(mine + theirs) / 2 for (_, mine), (_, theirs) in pairs]
    for (mine, _), (theirs, _) in pairs:
        assert mine != theirs
    # 673 validation images are 10 batches of 64: the second process begins at the sixth
    labels = [batch[1].tolist() for batch in val_batches()]
    assert [labels.index(batch) for (batch, _), _ in pairs] == list(range(len(pairs)))
    assert [labels.index(batch) for _, (batch, _) in pairs] == [
        (place + 5) % 10 for place in range(len(pairs))
    ]


def val_batches() -> list[Any]:
    data = digits(seed=0)
    return list(loader(data.val, data, batch_size=64, train=False, drop_last=True))


def test_what_is_spread_over_processes_is_what_one_computes(ranks: list[dict[str, Any]]) -> None:
    for kept in ranks:
        spread, alone = kept["spread"], kept["alone"]
        for some, whole in zip(spread[:3], alone[:3], strict=True):
            assert torch.equal(some, whole)
    passes = [kept["spread"][3] for kept in ranks]
    # the final ranking and one more: 27 architectures on 10 batches, in shares of 13 and 14
    assert passes == [2 * 13 * 10, 2 * 14 * 10]
    evaluated = {tuple(a): accuracy for a, accuracy in ranks[0]["ranking"]}
    order = [evaluated[place] for place in sorted(evaluated)]
    assert order == ranks[0]["alone"][0].tolist()


def test_a_search_goes_on_from_a_checkpoint_of_two_processes(
    folder: Path, ranks: list[dict[str, Any]]
) -> None:
    kept = folder / "out" / "kept" / "epoch=0.ckpt"
    resumed = run_two(folder.parent / "resumed", str(kept))
    for one, other in zip(ranks, resumed, strict=True):
        assert one["draws"] == other["draws"]
        assert one["ranking"] == other["ranking"]
        for name, value in one["weights"].items():
            assert torch.equal(value, other["weights"][name]), name
        for mine, theirs in zip(one["seen"][3:], other["seen"], strict=True):
            assert torch.equal(mine[0], theirs[0])


def test_a_checkpoint_of_two_processes_is_refused_by_one(
    folder: Path, ranks: list[dict[str, Any]], search: Make
) -> None:
    assert len(ranks) == 2
    checkpoint = torch.load(folder / "out" / "kept" / "epoch=0.ckpt")
    with pytest.raises(ValueError, match="must run on the 2 devices of the checkpoint, got 1"):
        search(MCTS(), run=False).oneshot_module.on_load_checkpoint(checkpoint)


# What is refused before anything is started.


@pytest.mark.parametrize(
    ("strategy", "said"),
    [
        ("auto", "DDPStrategy"),
        ("ddp", "DDPStrategy"),
        ("ddp_spawn_find_unused_parameters_true", "start_method='spawn'"),
        ("fsdp", "FSDPStrategy"),
    ],
)
def test_a_strategy_that_would_go_wrong_is_refused(strategy: str, said: str, search: Make) -> None:
    if strategy == "fsdp" and not torch.cuda.is_available():
        pytest.skip("Lightning builds that strategy only where there is a GPU")
    wanted = f"must be 'ddp_find_unused_parameters_true' .*{said}.*devices=2"
    with pytest.raises(ValueError, match=wanted):
        search(MCTS(), devices=2, strategy=strategy, run=False)


def test_batch_norm_over_processes_is_refused(search: Make) -> None:
    class Normed(ModelSpace):  # type: ignore[misc]  # NNI has no types
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.SyncBatchNorm(6)
            self.layer = LayerChoice([nn.Linear(6, 3), nn.Linear(6, 3)], label="layer")

    settings = {"devices": 2, "strategy": "ddp_find_unused_parameters_true", "run": False}
    with pytest.raises(ValueError, match="sync_batchnorm of the trainer must be False"):
        search(MCTS(), **settings, sync_batchnorm=True)
    with pytest.raises(ValueError, match="sync_batchnorm of the trainer must be False"):
        search(MCTS(), **settings, space=Normed())


def test_a_method_that_draws_samples_is_refused(search: Make) -> None:
    with pytest.raises(ValueError, match=r"one device.*errors of its own samples.*devices=2"):
        search(PADA(), devices=2, strategy="ddp_find_unused_parameters_true", run=False)


# Dealing out batches.


class Told(Ranks):
    """One of several processes, told what the first one drew."""

    told: Any = None

    def gathered(self, value: Any) -> list[Any]:
        return [self.told if value is None else value] * self.size


@pytest.mark.parametrize("size", [2, 3, 5])
def test_batches_are_dealt_out_and_the_last_few_left(size: int) -> None:
    whole = [[n] for n in range(8)]
    dealt: Iterator[Any]
    dealt = (list(RankBatches(whole, ranks)) for ranks in _all(size, whole))
    shares = list(dealt)
    assert [len(share) for share in shares] == [8 // size] * size
    flat = sorted(batch[0] for share in shares for batch in share)
    assert flat == list(range(8 // size * size))


def _all(size: int, whole: Any) -> Iterator[Ranks]:
    for rank in range(size):
        ranks = Told(rank=rank, size=size)
        object.__setattr__(ranks, "told", whole)
        yield ranks


def test_fewer_batches_than_processes_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one batch for each of 3 devices, got 2"):
        RankBatches([[0], [1]], Ranks(rank=0, size=3))


def test_one_process_talks_to_nobody() -> None:
    assert ALONE.gathered("value") == ["value"]
    assert ALONE.mean_reward((0, 1), 0.25) == 0.25
    ALONE.agree("anything", 1)
    rows = ALONE.spread([(1,), (0,)], lambda some: torch.tensor(some).double().numpy())
    assert rows.tolist() == [[1.0], [0.0]]

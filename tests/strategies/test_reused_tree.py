"""A learned tree that is searched again: in what phases, on what space, and after a stop."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nas_ext.benchmarks import pooling_table, run
from nas_ext.data import digits, loader
from nas_ext.files import write_json
from nas_ext.nni import Lightning, Trainer
from nas_ext.oneshot import SearchExperiment, SupernetTraining
from nas_ext.results import SearchResult
from nas_ext.samplers import Sampler, TreeSampler
from nas_ext.saved_tree import save_tree, tree_document
from nas_ext.search import Search, Setting
from nas_ext.spaces import PoolingResNet
from nas_ext.strategies import LearnedTree
from nas_ext.testing import FakeSupernet, SamplerContract, small_space
from nas_ext.tree import BinaryTree, Tree, backup, layer_tree, rank_tree

SPACE = small_space()


def learned() -> BinaryTree:
    """A tree by a random order, with some statistics."""
    tree = rank_tree(list(SPACE), np.random.default_rng(1).random(18).tolist())
    for architecture in list(SPACE)[:10]:
        backup(tree.leaf(architecture), 0.7, decay=0.9)
    return tree


SAVED = tree_document(learned(), SPACE)


def setting(rng: np.random.Generator) -> Setting:
    return Setting(SPACE, FakeSupernet(SPACE), rng)


def build(strategy: LearnedTree, rng: np.random.Generator) -> TreeSampler:
    sampler = strategy.phases(20)[0].build(setting(rng))
    assert isinstance(sampler, TreeSampler)
    return sampler


class TestWalksOfAReusedTree(SamplerContract):
    def make(self, rng: np.random.Generator) -> Sampler:
        strategy = LearnedTree(tree=SAVED, temperature=0.2, final_temperature=0.1)
        warm, search = strategy.phases(100)
        return search.build(replace(setting(rng), previous=warm.build(setting(rng))))


def test_a_given_tree_leaves_the_warm_up_and_the_search() -> None:
    phases = LearnedTree(tree=SAVED).phases(1000)
    assert [phase.name for phase in phases] == ["tree warm-up", "search"]
    # the published 25 to 35, without the 40: 1000 * 25 / 60 and 1000 * 35 / 60
    assert [phase.steps for phase in phases] == [417, 583]
    # nothing was trained before the first phase that could start again
    assert [phase.reinitialise for phase in phases] == [False, False]
    assert [phase.steps for phase in LearnedTree(tree=SAVED).phases(2)] == [1, 1]
    with pytest.raises(ValueError, match="steps must be at least 1 for each of 2 phases, got 1"):
        LearnedTree(tree=SAVED).phases(1)


def test_its_shape_is_taken_and_its_statistics_are_not() -> None:
    tree = build(LearnedTree(tree=SAVED), np.random.default_rng(0)).tree
    assert isinstance(tree, BinaryTree)
    assert (tree.architectures, tree.merges) == (learned().architectures, learned().merges)
    assert {(node.visits, node.value) for node in tree.nodes()} == {(0, 0.0)}


def test_no_outputs_are_asked_for_and_no_weights_start_again() -> None:
    supernet = FakeSupernet(SPACE)
    strategy = LearnedTree(tree=SAVED)
    search = Search(strategy.phases(30), Setting(SPACE, supernet, np.random.default_rng(0)))
    for _ in range(30):
        (architecture,) = search.ask()
        search.tell(architecture, supernet.reward(architecture))
    assert supernet.asked["outputs"] == supernet.asked["reinitialise"] == 0
    assert isinstance(search.sampler, TreeSampler)
    assert search.sampler.tree.root.visits == 30


def test_one_strategy_can_search_twice_from_the_same_start() -> None:
    strategy = LearnedTree(tree=SAVED)
    first = build(strategy, np.random.default_rng(0))
    first.tell(SPACE.at(0), 0.5)
    assert build(strategy, np.random.default_rng(0)).tree.root.visits == 0


@pytest.mark.parametrize("form", ["document", "file", "text", "folder", "search.json"])
def test_a_tree_is_given_as_file_folder_or_document(form: str, tmp_path: Path) -> None:
    save_tree(tmp_path / "tree.json", learned(), SPACE)
    search = {
        "format": "nas-ext/search-1",
        "strategy": "LearnedTree",
        "space": {"name": "small", "size": 18},
        "tree": learned().state_dict(),
    }
    write_json(tmp_path / "search.json", search)
    given: dict[str, Any] = {
        "document": SAVED,
        "file": tmp_path / "tree.json",
        "text": str(tmp_path / "tree.json"),
        "folder": tmp_path,
        "search.json": tmp_path / "search.json",
    }
    tree = build(LearnedTree(tree=given[form]), np.random.default_rng(0)).tree
    assert isinstance(tree, BinaryTree)
    assert tree.merges == learned().merges


def test_settings_name_a_file_and_sum_up_a_document(tmp_path: Path) -> None:
    save_tree(tmp_path / "tree.json", learned(), SPACE)
    named = json.loads(json.dumps(LearnedTree(tree=tmp_path / "tree.json").settings))
    assert named["tree"] == str(tmp_path / "tree.json")
    assert (
        LearnedTree(**{**named, "reward": LearnedTree().reward}).settings["tree"] == named["tree"]
    )
    digest = LearnedTree(tree=SAVED).settings["tree"]
    assert digest.startswith("sha256:")
    assert LearnedTree(tree=json.loads(json.dumps(SAVED))).settings["tree"] == digest
    other = {**SAVED, "space": {"name": "other", "size": 18}}
    assert LearnedTree(tree=other).settings["tree"] != digest
    assert LearnedTree().settings["tree"] is None


def part() -> Tree:
    return rank_tree(list(SPACE)[:17], [0.5] * 17)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({}, "format of tree must be"),
        ("nowhere.json", "nowhere.json does not exist"),
        (tree_document(layer_tree(SPACE), SPACE), "tree must be a learned one, got one of layers"),
    ],
)
def test_what_is_no_learned_tree_is_refused_when_the_strategy_is_made(
    tree: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        LearnedTree(tree=tree)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (
            {**SAVED, "space": {"name": "pooling-resnet20", "size": 36}},
            "tree must be of space 'small' with 18 architectures, got one of 'pooling-resnet20'",
        ),
        (tree_document(part(), SPACE), "tree must have a leaf for each of the 18 architectures"),
    ],
)
def test_a_tree_that_does_not_fit_the_space_is_refused_at_the_first_step(
    tree: dict[str, Any], message: str
) -> None:
    phases = LearnedTree(tree=tree).phases(10)
    with pytest.raises(ValueError, match=message):
        Search(phases, setting(np.random.default_rng(0))).ask()


@pytest.mark.parametrize("stop", [1, 5, 9, 15, 29])
def test_a_search_resumed_in_any_phase_goes_on_as_if_it_had_not_stopped(stop: int) -> None:
    truth = {a: (i + 1) / 20 for i, a in enumerate(SPACE)}

    def make(seed: int) -> Search:
        strategy = LearnedTree(tree=SAVED)
        supernet = FakeSupernet(SPACE, truth)
        return Search(strategy.phases(30), Setting(SPACE, supernet, np.random.default_rng(seed)))

    def advance(search: Search, steps: int) -> None:
        for _ in range(steps):
            for architecture in search.ask():
                search.tell(architecture, truth[architecture])

    whole, first, second = make(0), make(0), make(99)
    advance(whole, 30)
    advance(first, stop)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    advance(second, 30 - stop)
    assert second.state_dict() == whole.state_dict()


def test_the_tree_of_one_search_serves_another_on_the_table() -> None:
    table = pooling_table()
    first = run(LearnedTree(distance="encoding").phases(200), table, seed=0).search.sampler
    assert isinstance(first, TreeSampler)
    saved = tree_document(first.tree, table.space)
    again = run(LearnedTree(tree=saved).phases(300), table, seed=1)
    assert again.evaluations == 300
    assert isinstance(again.search.sampler, TreeSampler)
    assert isinstance(again.search.sampler.tree, BinaryTree)
    assert isinstance(first.tree, BinaryTree)
    assert again.search.sampler.tree.merges == first.tree.merges


def test_a_tree_is_reused_in_a_real_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def search(name: str, **settings: Any) -> SearchResult:
        data = digits(seed=0)
        train = loader(data.train, data, batch_size=16, train=True, seed=0)
        val = loader(data.val, data, batch_size=64, train=False, drop_last=True)
        torch.manual_seed(0)
        trainer = Trainer(
            max_steps=24,
            max_epochs=-1,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
        )
        evaluator = Lightning(
            SupernetTraining(), trainer, train_dataloaders=train, val_dataloaders=val
        )
        strategy = LearnedTree(out=tmp_path / name, **settings)
        space = PoolingResNet.mini()
        experiment = SearchExperiment(space, evaluator, strategy, out=tmp_path / name)
        experiment.run()
        experiment.stop()
        return SearchResult.load(tmp_path / name)

    first = search("first")
    second = search("second", tree=tmp_path / "first")
    assert first.tree is not None
    assert second.tree is not None
    assert second.tree["merges"] == first.tree["merges"]
    assert second.phases == (("tree warm-up", 10), ("search", 14))
    assert second.budget.output_passes == 0
    assert second.settings["tree"] == str(tmp_path / "first")
    assert all(draw.reward is not None for draw in second.draws)

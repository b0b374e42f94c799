"""Supernets from disk, second stages on them, and the commands that look into a run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from nas_ext.cli import app
from nas_ext.data import digits
from nas_ext.oneshot import SampledStrategy
from nas_ext.results import SearchResult
from nas_ext.run_trees import RunTree
from nas_ext.runs import Training, search_images
from nas_ext.saved_tree import load_tree
from nas_ext.second_stage import METHODS, select
from nas_ext.selection import exhaustive
from nas_ext.strategies import MCTS, LearnedTree, Uniform
from nas_ext.strategies.balanced_mixture import BalancedMixture
from nas_ext.supernets import load_run, load_supernet
from nas_ext.tree import leaf_probabilities

TRAINING = Training(
    steps=24, batch_size=16, validation_batch_size=100, device="cpu", progress=False
)
DATA = digits(seed=0)

Search = Callable[[SampledStrategy], Path]


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Search:
    """Run a short search on the digits, and return its folder."""

    def run(strategy: SampledStrategy) -> Path:
        out = tmp_path_factory.mktemp("runs") / type(strategy).__name__
        source = {"source": "digits", "seed": 0, "image_size": None}
        search_images(
            strategy, "mini-pooling", DATA, out=out, training=TRAINING, data_source=source
        )
        return out

    return run


@pytest.fixture(scope="module")
def uniform(search: Search) -> Path:
    return search(Uniform(seed=1))


@pytest.fixture(scope="module")
def learned(search: Search) -> Path:
    return search(LearnedTree(seed=1))


@pytest.fixture
def copy(uniform: Path, tmp_path: Path) -> Path:
    """Copy a run, to spoil it."""
    return Path(
        shutil.copytree(
            uniform, tmp_path / "copy", ignore=shutil.ignore_patterns("nni", "select-*")
        )
    )


def pairs(ranking: Any) -> list[tuple[Any, float]]:
    return [(line.architecture, line.accuracy) for line in ranking]


# Supernets from disk.


def test_a_supernet_from_disk_ranks_as_it_did_when_the_search_ended(uniform: Path) -> None:
    supernet = load_supernet(uniform)
    # 21 architectures: Uniform ranks them all
    assert pairs(exhaustive(supernet.space, supernet)) == pairs(SearchResult.load(uniform).ranking)


def test_loading_draws_nothing_and_leaves_the_file_as_it_is(uniform: Path) -> None:
    before, state = (uniform / "supernet.safetensors").read_bytes(), torch.get_rng_state()
    load_supernet(uniform)
    assert torch.equal(torch.get_rng_state(), state)
    assert (uniform / "supernet.safetensors").read_bytes() == before


def test_the_tree_strategies_leave_a_supernet_too(search: Search, learned: Path) -> None:
    for run in (learned, search(MCTS(seed=1))):
        supernet, result = load_supernet(run), SearchResult.load(run)
        known = dict(pairs(exhaustive(supernet.space, supernet)))
        assert pairs(result.ranking) == [
            (r.architecture, known[r.architecture]) for r in result.ranking
        ]


def test_a_reused_tree_need_not_be_there_to_load_the_supernet(
    search: Search, learned: Path, tmp_path: Path
) -> None:
    shutil.copy(learned / "search.json", tmp_path / "search.json")
    run = search(LearnedTree(seed=1, tree=tmp_path))
    (tmp_path / "search.json").unlink()
    supernet, result = load_supernet(run), SearchResult.load(run)
    known = dict(pairs(exhaustive(supernet.space, supernet)))
    assert result.best.accuracy == known[result.best.architecture]


def test_the_supernets_of_a_mixture_come_back_together(search: Search) -> None:
    run = search(BalancedMixture(models=2, seed=1))
    # a strategy that is given need not be registered
    loaded = load_run(run, strategy=BalancedMixture(models=2, seed=5))
    space = loaded.strategy.search_space
    ranking = exhaustive(loaded.supernet.space, loaded.supernet)
    assert len(ranking) == 2 * 21 == 2 * space.size
    for line in loaded.result.ranking:
        both = [
            r.accuracy
            for r in ranking
            if loaded.strategy.exported(r.architecture) == line.architecture
        ]
        assert len(both) == 2
        assert line.accuracy in both


def test_the_images_may_be_given_and_must_be_the_same(uniform: Path) -> None:
    assert load_supernet(uniform, data=DATA).space.size == 21
    with pytest.raises(ValueError, match="data must be the images that were searched"):
        load_supernet(uniform, data=digits(seed=1))


def test_the_digest_of_images_from_disk_is_checked(copy: Path) -> None:
    result = SearchResult.load(copy)
    replace(result, data={**result.data, "seed": 3}).save(copy / "search.json")
    with pytest.raises(ValueError, match="data must be the images that were searched"):
        load_supernet(copy)


def test_weights_that_are_missing_or_foreign_are_named(copy: Path) -> None:
    path = copy / "supernet.safetensors"
    weights = load_file(path)
    save_file(weights, path)
    with pytest.raises(ValueError, match=r"format of .* must be 'nas-ext/supernet-1', got None"):
        load_supernet(copy)
    first = next(iter(weights))
    form = {"format": "nas-ext/supernet-1"}
    save_file({n: t for n, t in weights.items() if n != first}, path, metadata=form)
    with pytest.raises(ValueError, match=f"weights of .* must fit its space: .*{first}"):
        load_supernet(copy)
    path.write_bytes(b"no weights")
    with pytest.raises(ValueError, match="must be a safetensors file"):
        load_supernet(copy)
    path.unlink()
    with pytest.raises(ValueError, match=r"supernet\.safetensors does not exist"):
        load_supernet(copy)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strategy": "Mine"}, "strategy 'Mine' must be a registered one"),
        ({"space": {"name": "own", "arguments": None}}, "space 'own' must be a registered one"),
        (
            {"settings": {"seed": 0, "nonsense": 1}},
            "setting of uniform must be one of .*, got 'nonsense'",
        ),
    ],
)
def test_a_result_that_cannot_be_rebuilt_is_named(
    copy: Path, changes: dict[str, Any], message: str
) -> None:
    replace(SearchResult.load(copy), **changes).save(copy / "search.json")
    with pytest.raises(ValueError, match=message):
        load_supernet(copy)


def test_a_result_without_its_validation_batches_is_refused(copy: Path) -> None:
    result = SearchResult.load(copy)
    data = {k: v for k, v in result.data.items() if k != "validation_batch_size"}
    replace(result, data=data).save(copy / "search.json")
    with pytest.raises(ValueError, match="result must say its validation_batch_size"):
        load_supernet(copy)


def test_a_reward_may_stand_in_for_the_one_of_the_search(uniform: Path) -> None:
    supernet = load_supernet(uniform, reward=lambda module, batch: 0.25)
    assert supernet.reward(supernet.space.at(0)) == 0.25
    assert 0 <= load_supernet(uniform, reward="val_acc").reward(supernet.space.at(0)) <= 1


# Second stages.


@pytest.mark.parametrize(
    ("method", "budget", "passes"),
    [
        # the digits have 674 validation images: 6 batches of 100
        ("exhaustive", None, {"accuracies": 21 * 6}),
        ("random", 4, {"accuracies": 4 * 6}),
        ("boltzmann", 12, {"reward": 12, "accuracies": 10 * 6}),
        ("evolution", 8, {"accuracies": 8 * 6}),
        ("shifting", 3, {"shift": 3 * 20, "accuracies": 3 * 6 + 3 * 6}),
    ],
)
def test_every_method_spends_its_budget_and_leaves_a_file(
    method: str, budget: int | None, passes: dict[str, int], uniform: Path
) -> None:
    before = (uniform / "supernet.safetensors").read_bytes()
    found = select(uniform, method, budget=budget, batch_size=32)
    written = json.loads((uniform / f"select-{method}.json").read_text())
    assert written == json.loads(json.dumps(found.to_json()))
    assert written["format"] == "nas-ext/select-1"
    assert written["passes"] == passes
    assert (written["method"], written["budget"], written["seed"]) == (method, budget, 0)
    assert written["run"]["strategy"] == "Uniform"
    accuracies = [line["accuracy"] for line in written["ranking"]]
    assert accuracies == sorted(accuracies, reverse=True)
    assert (uniform / "supernet.safetensors").read_bytes() == before
    if method != "shifting":
        known = dict(pairs(SearchResult.load(uniform).ranking))
        assert all(known[line.architecture] == line.accuracy for line in found.ranking)


@pytest.fixture(scope="module")
def mixture(search: Search) -> Path:
    return search(BalancedMixture(models=2, seed=1, candidates=None))


@pytest.mark.parametrize("method", ["exhaustive", "random", "boltzmann", "evolution"])
def test_a_mixture_is_selected_from_in_the_supernet_of_each_architecture(
    method: str, mixture: Path
) -> None:
    found = select(mixture, method, budget=None if method == "exhaustive" else 8)
    # the search evaluated all 21, each in its own supernet
    known = {line.architecture: line for line in SearchResult.load(mixture).ranking}
    assert len(known) == 21
    for line in found.ranking:
        assert line == known[line.architecture]
    assert sorted({line.extra["supernet"] for line in known.values()}) == [0, 1]
    if method == "exhaustive":
        assert len(found.ranking) == 21
        assert dict(found.passes) == {"accuracies": 21 * 6}


def test_shifting_moves_the_supernet_of_each_candidate(mixture: Path) -> None:
    before = (mixture / "supernet.safetensors").read_bytes()
    found = select(mixture, "shifting", budget=3, batch_size=32)
    members = SearchResult.load(mixture).mixture
    assert members is not None
    space = load_run(mixture).strategy.search_space
    for line in found.ranking:
        assert line.extra["supernet"] == members["members"][space.index(line.architecture)]
    assert (mixture / "supernet.safetensors").read_bytes() == before


def test_a_mixture_that_was_not_saved_is_refused_with_the_reason(
    mixture: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(mixture, tmp_path / "copy", ignore=shutil.ignore_patterns("nni"))
    replace(SearchResult.load(copy), mixture=None).save(copy / "search.json")
    with pytest.raises(ValueError, match="result of BalancedMixture must hold its mixture"):
        select(copy, "exhaustive")


def test_the_command_selects_from_a_mixture(mixture: Path) -> None:
    values = json.loads(
        call("select", str(mixture), "--method", "random", "--budget", "3", "--json")
    )
    assert {line["extra"]["supernet"] for line in values["ranking"]} <= {0, 1}


def test_lines_say_name_sample_and_cost_as_the_search_does(uniform: Path) -> None:
    ranked = {line.architecture: line for line in SearchResult.load(uniform).ranking}
    for line in select(uniform, "exhaustive").ranking:
        assert line == ranked[line.architecture]


def test_the_same_seed_selects_the_same_and_another_does_not(uniform: Path) -> None:
    def found(seed: int) -> Any:
        return select(uniform, "random", budget=5, seed=seed).ranking

    assert found(3) == found(3)
    assert found(3) != found(4)


def test_usual_budgets_are_those_of_the_source() -> None:
    # Sections 4.6: 50; 2.3: 2,000 in our reading; 4.4: 20 generations of 50
    assert dict(METHODS) == {
        "exhaustive": None,
        "random": 50,
        "boltzmann": 2000,
        "evolution": 1000,
        "shifting": 1000,
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "magic"}, r"method must be one of \['exhaustive', .*\], got 'magic'"),
        ({"method": "exhaustive", "budget": 3}, "budget must be None for exhaustive"),
        ({"method": "random", "budget": 0}, "budget must be at least 1, got 0"),
        ({"method": "random", "seed": -1}, "seed must not be negative, got -1"),
        ({"method": "shifting", "batch_size": 9999}, "batch_size must be at most the number"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str, copy: Path) -> None:
    with pytest.raises(ValueError, match=message):
        select(copy, **arguments)
    assert not list(copy.glob("select-*"))


# The commands.


def call(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, (result.output, result.exception)
    return result.stdout if code == 0 else " ".join(result.output.split())


def test_select_prints_the_ranking_for_people_and_machines(uniform: Path) -> None:
    arguments = ["select", str(uniform), "--method", "random", "--budget", "3"]
    values = json.loads(call(*arguments, "--json"))
    assert values == json.loads((uniform / "select-random.json").read_text())
    printed = call(*arguments)
    for line in values["ranking"]:
        assert line["name"] in printed
        assert f"{100 * line['accuracy']:.2f} %" in printed
    assert "select-random.json" in printed


def test_select_says_in_one_line_what_is_wrong(uniform: Path, tmp_path: Path) -> None:
    run = ["select", str(uniform), "--method"]
    assert "method must be one of" in call(*run, "magic", code=2)
    assert "device must be cpu or gpu" in call(*run, "random", "--device", "tpu", code=2)
    assert "budget must be None for exhaustive" in call(
        *run, "exhaustive", "--budget", "2", code=2
    )
    assert "search.json does not exist" in call(
        "select", str(tmp_path), "--method", "random", code=2
    )


def test_tree_prints_the_tree_in_three_forms(learned: Path, tmp_path: Path) -> None:
    text = call("tree", str(learned))
    assert len(text.splitlines()) == 41  # 21 leaves and 20 joints
    assert text.startswith("21 leaves, visits 14")  # of 24 steps, 60 % have a tree
    assert len(call("tree", str(learned), "--depth", "1").splitlines()) == 3
    dot = call("tree", str(learned), "--format", "dot")
    assert dot.count("->") == 40
    (tmp_path / "tree.json").write_text(call("tree", str(learned), "--format", "json"))
    seen = RunTree.load(learned)
    again = load_tree(tmp_path / "tree.json", seen.space)
    assert again.state_dict() == seen.tree.state_dict()
    assert LearnedTree(tree=tmp_path / "tree.json").phases(10)[0].name == "tree warm-up"


def test_values_of_a_printed_tree_are_the_averages_of_its_rewards(learned: Path) -> None:
    result, seen = SearchResult.load(learned), RunTree.load(learned)
    for architecture in {draw.architecture for draw in result.draws if draw.phase > 0}:
        rewards = [d.reward for d in result.draws if d.architecture == architecture and d.phase]
        # the moving average without its initial value: weights .95^(n - 1 - i), normalised
        weights = 0.95 ** np.arange(len(rewards))[::-1]
        mean = float(np.average(np.asarray(rewards, dtype=np.float64), weights=weights))
        assert seen.value(seen.tree.leaf(architecture)) == pytest.approx(mean)


def test_why_shows_each_fork_on_the_way_with_its_numbers(learned: Path) -> None:
    result, seen = SearchResult.load(learned), RunTree.load(learned)
    best = result.best
    values = json.loads(call("tree", str(learned), "--why", best.name, "--format", "json"))
    law = leaf_probabilities(seen.tree.root, temperature=0.0025, exploration=0.5)
    assert values["probability"] == pytest.approx(law[best.architecture])
    assert values["rank"] == 1
    assert values["accuracy"] == best.accuracy
    assert values["draws"] == sum(d.architecture == best.architecture for d in result.draws)
    printed = call("tree", str(learned), "--why", best.name)
    assert printed.count("->") == len(values["forks"])
    for fork in values["forks"]:
        assert f"at depth {fork['depth']}, {fork['visits']} visits" in printed
        taken = next(branch for branch in fork["branches"] if branch["taken"])
        assert f"probability {taken['probability']:.4f}" in printed
    assert f"Place 1 of {len(result.ranking)} candidates" in printed


def test_why_speaks_of_architectures_that_were_no_candidates_too(learned: Path) -> None:
    result, seen = SearchResult.load(learned), RunTree.load(learned)
    ranked = {line.architecture for line in result.ranking}
    other = next(a for a in seen.space if a not in ranked)
    reason = seen.why(seen.space.describe(other))
    assert (reason.rank, reason.accuracy) == (None, None)
    assert "It was no candidate" in reason.text()


def test_tree_says_in_one_line_what_is_wrong(learned: Path, uniform: Path) -> None:
    assert "run must have searched a tree, Uniform has none" in call("tree", str(uniform), code=2)
    name = call("tree", str(learned), "--why", "[9,9,9]", code=2)
    assert "name must be that of an architecture of 'mini-pooling', such as" in name
    both = call("tree", str(learned), "--why", "[2,3,3]", "--format", "dot", code=2)
    assert "--why must come with --format text or json" in both
    call("tree", str(learned), "--format", "png", code=2)

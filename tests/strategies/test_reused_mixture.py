"""A mixture of one search in another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas_ext.benchmarks import pooling_table, run
from nas_ext.data import digits
from nas_ext.results import SearchResult
from nas_ext.runs import Training, search_images
from nas_ext.samplers.mixture_space import MixtureSpace
from nas_ext.samplers.reused_mixture import ReusedMixtureSampler
from nas_ext.saved_mixture import load_mixture
from nas_ext.search import Search, Setting
from nas_ext.strategies import BalancedMixture, LearnedTree
from nas_ext.testing import FakeSupernet, small_space

BASE = small_space()
SPACE = MixtureSpace(BASE, 2)
LAW = np.random.default_rng(3).dirichlet((1.0, 1.0), size=18)
DOCUMENT: dict[str, Any] = {
    "format": "nas-ext/mixture-1",
    "space": {"name": "small", "size": 18},
    "state": {
        "models": 2,
        "probabilities": LAW.tolist(),
        "members": LAW.argmax(axis=1).tolist(),
        "values": [[0.5, 0.5]] * 18,
        "visits": [[1, 1]] * 18,
        "prices": [0.0, 0.0],
        "inverse_temperature": 200.0,
    },
}


def searched(strategy: BalancedMixture, space: Any = SPACE, seed: int = 0) -> Search:
    setting = Setting(space, FakeSupernet(space), np.random.default_rng(seed))
    return Search(strategy.phases(40), setting)


def test_its_probabilities_are_taken_and_its_rewards_are_not() -> None:
    search = searched(BalancedMixture(models=2, mixture=DOCUMENT))
    search.ask()
    sampler = search.sampler
    assert isinstance(sampler, ReusedMixtureSampler)
    assert (sampler.probabilities() == LAW).all()
    assert sampler.visits.sum() == 0
    assert (sampler.balance.values == 1.0).all()


def test_a_mixture_is_given_as_file_folder_or_document(tmp_path: Path) -> None:
    (tmp_path / "mixture.json").write_text(json.dumps(DOCUMENT))
    by_file = BalancedMixture(models=2, mixture=tmp_path / "mixture.json")
    assert by_file.settings["mixture"] == str(tmp_path / "mixture.json")
    digest = BalancedMixture(models=2, mixture=DOCUMENT).settings["mixture"]
    assert digest.startswith("sha256:")
    assert BalancedMixture(models=2).settings["mixture"] is None
    one, two = searched(by_file), searched(BalancedMixture(models=2, mixture=DOCUMENT))
    assert [one.ask() for _ in range(40)] == [two.ask() for _ in range(40)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"models": 4}, "models must be the 2 of the mixture, got 4"),
        ({"models": 1}, "models must be the 2 of the mixture, got 1"),
        ({"models": 2, "mixture": {}}, "format of mixture must be"),
        ({"models": 2, "mixture": "nowhere.json"}, r"nowhere\.json does not exist"),
    ],
)
def test_what_does_not_fit_is_refused_when_the_strategy_is_made(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        BalancedMixture(**{"mixture": DOCUMENT, **settings})


def test_a_mixture_of_another_space_is_refused_at_the_first_step() -> None:
    other = {**DOCUMENT, "space": {"name": "small", "size": 36}}
    search = searched(BalancedMixture(models=2, mixture=other))
    with pytest.raises(ValueError, match="mixture must be of space 'small' with 18"):
        search.ask()


@pytest.mark.parametrize("stop", [1, 20, 39])
def test_a_search_resumed_in_mid_phase_goes_on_as_if_it_had_not_stopped(stop: int) -> None:
    made = BalancedMixture(models=2, mixture=DOCUMENT)

    def steps(search: Search, count: int) -> list[Any]:
        drawn = []
        for _ in range(count):
            (architecture,) = search.ask()
            search.tell(architecture, SPACE.index(architecture) / 40)
            drawn.append(architecture)
        return drawn

    whole, first, second = searched(made), searched(made), searched(made, seed=9)
    expected = steps(whole, 40)
    before = steps(first, stop)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert before + steps(second, 40 - stop) == expected
    assert second.sampler.candidates(5) == whole.sampler.candidates(5)


def test_phases_run_on_the_pooling_table() -> None:
    table = pooling_table()
    law = np.full((36, 2), 0.5)
    state = {
        **DOCUMENT["state"],
        **{"probabilities": law.tolist(), "members": [0] * 36},
        **{"values": law.tolist(), "visits": [[1, 1]] * 36},
    }
    document = {**DOCUMENT, "state": state, "space": {"name": table.space.name, "size": 36}}
    found = run(BalancedMixture(models=2, mixture=document).phases(300), table, seed=0)
    assert len(found.search.draws) == 300


TRAINING = Training(
    steps=24, batch_size=16, validation_batch_size=100, device="cpu", progress=False
)


def test_the_mixture_of_a_real_search_is_in_its_result_and_serves_another(tmp_path: Path) -> None:
    def search(name: str, seed: int, **settings: Any) -> SearchResult:
        source = {"source": "digits", "seed": seed, "image_size": None}
        strategy = BalancedMixture(models=2, seed=seed, **settings)
        return search_images(
            strategy,
            "mini-pooling",
            digits(seed=seed),
            out=tmp_path / name,
            training=TRAINING,
            data_source=source,
        )

    first = search("first", 0)
    found = load_mixture(tmp_path / "first", first_space := _space(first))
    members = dict(zip(first_space, found.members.tolist(), strict=True))
    assert found.visits.sum() == 24
    # what was ranked was ranked in the member that the file names
    assert all(line.extra["supernet"] == members[line.architecture] for line in first.ranking)
    # other images, other weights, the same shares
    second = search("second", 1, mixture=tmp_path / "first")
    again = load_mixture(tmp_path / "second", first_space)
    assert (again.probabilities == found.probabilities).all()
    assert again.visits.sum() == 24
    assert second.settings["mixture"] == str(tmp_path / "first")
    with pytest.raises(ValueError, match="must come from a search with a tree, BalancedMixture"):
        LearnedTree(tree=tmp_path / "first")


def _space(result: SearchResult) -> Any:
    from nas_ext.oneshot import search_space
    from nas_ext.spaces import create

    return search_space(create(**result.space["arguments"]))

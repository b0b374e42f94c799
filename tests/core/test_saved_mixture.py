"""Mixtures in files, and the sampler that draws by one that was learned before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import chisquare

from nas_ext.estimation import FloatArray
from nas_ext.results import FORMAT as SEARCH_FORMAT
from nas_ext.samplers import Sampler
from nas_ext.samplers.mixture import MixtureSampler
from nas_ext.samplers.mixture_space import MemberSpace, MixtureSpace
from nas_ext.samplers.reused_mixture import ReusedMixtureSampler
from nas_ext.saved_mixture import load_mixture, read_mixture, save_mixture
from nas_ext.testing import SamplerContract, small_space

BASE = small_space()
SPACE = MixtureSpace(BASE, 3)
LAW = np.random.default_rng(2).dirichlet((0.5, 0.5, 0.5), size=18)


def trained() -> MixtureSampler:
    """A mixture after 400 steps whose supernets are good at different architectures."""
    sampler = MixtureSampler(
        SPACE, np.random.default_rng(0), inverse_temperature=lambda step: 1 + step / 10
    )
    for _ in range(400):
        (architecture,) = sampler.ask()
        inner, supernet = SPACE.split(architecture)
        sampler.tell(architecture, 0.9 if BASE.index(inner) % 3 == supernet else 0.4)
    return sampler


LEARNED = trained().learned()
DOCUMENT = {
    "format": "nas-ext/mixture-1",
    "space": {"name": "small", "size": 18},
    "state": LEARNED,
}


def reused(rng: np.random.Generator, law: FloatArray = LAW) -> ReusedMixtureSampler:
    return ReusedMixtureSampler(SPACE, rng, probabilities=law)


class TestReusedMixture(SamplerContract):
    space = SPACE

    def make(self, rng: np.random.Generator) -> Sampler:
        return reused(rng)


# Files.


def test_a_saved_mixture_comes_back_whole(tmp_path: Path) -> None:
    sampler = trained()
    save_mixture(tmp_path / "mixture.json", sampler.learned(), BASE)
    found = load_mixture(tmp_path / "mixture.json", BASE)
    assert found.models == 3
    assert (found.probabilities == sampler.probabilities()).all()
    assert (found.values == sampler.balance.values).all()
    assert (found.visits == sampler.visits).all()
    assert found.prices is not None
    assert (found.prices == sampler.balance.prices).all()
    assert found.inverse_temperature == sampler.balance.inverse_temperature


def test_the_potentials_of_the_columns_give_the_probabilities_again() -> None:
    # p(m|c) ~ exp(s (a_cm - price_m)), written out
    found = load_mixture(DOCUMENT, BASE)
    assert found.prices is not None
    assert found.inverse_temperature is not None
    weights = np.exp(found.inverse_temperature * (found.values - found.prices))
    expected = weights / weights.sum(axis=1, keepdims=True)
    assert found.probabilities == pytest.approx(expected, abs=1e-12)


def test_members_are_the_most_probable_of_those_that_trained_an_architecture() -> None:
    found = load_mixture(DOCUMENT, BASE)
    for c in range(18):
        open_to = np.flatnonzero(found.visits[c]) if found.visits[c].any() else np.arange(3)
        assert found.members[c] == max(open_to, key=lambda m: (found.probabilities[c, m], -m))
    # after 400 steps each architecture is where it does well
    assert (found.members == np.arange(18) % 3).mean() > 0.9


def test_the_mixture_of_a_search_is_read_from_its_folder(tmp_path: Path) -> None:
    result = {
        "format": SEARCH_FORMAT,
        "space": {"name": "small", "size": 18, "arguments": None},
        "strategy": "BalancedMixture",
        "mixture": LEARNED,
    }
    (tmp_path / "search.json").write_text(json.dumps(result))
    assert read_mixture(tmp_path) == read_mixture(tmp_path / "search.json") == DOCUMENT


def broken(**state: Any) -> dict[str, Any]:
    return {**DOCUMENT, "state": {**LEARNED, **state}}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "format of mixture must be 'nas-ext/mixture-1' or 'nas-ext/search-1', got None"),
        ({**DOCUMENT, "format": "nas-ext/tree-1"}, "format of mixture must be .*tree-1"),
        (
            {**DOCUMENT, "format": SEARCH_FORMAT, "strategy": "MCTS", "mixture": None},
            "mixture must come from a search with a mixture, MCTS has none",
        ),
        ({**DOCUMENT, "space": {}}, "space of mixture must have a name and a size"),
        ({**DOCUMENT, "state": None}, "mixture must hold the state of a mixture, got NoneType"),
        (
            {**DOCUMENT, "space": {"name": "small", "size": 36}},
            "mixture must be of space 'small' with 18 architectures, got one of 'small' with 36",
        ),
        (broken(models=0), "models of a mixture must be a positive integer, got 0"),
        (broken(models=2), r"probabilities of a mixture must be finite numbers \[18, 2\]"),
        (broken(values=None), r"values of a mixture must be finite numbers \[18, 3\]"),
        (broken(values=[["x"] * 3] * 18), "values of a mixture must be numbers"),
        (broken(prices=[0.0]), r"prices of a mixture must be finite numbers \[3\]"),
        (broken(members=[3] * 18), r"members of a mixture must lie in \[0, 3\)"),
        (broken(probabilities=[[0.5, 0.2, 0.2]] * 18), "probabilities of a mixture must sum to 1"),
    ],
)
def test_what_is_no_mixture_is_refused(document: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        load_mixture(document, BASE)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"mixture\.json does not exist"):
        read_mixture(tmp_path / "mixture.json")


# Drawing by it.


def test_architectures_are_uniform_and_supernets_follow_the_law_whatever_they_earn() -> None:
    sampler = reused(np.random.default_rng(0))
    counts = np.zeros((18, 3))
    for _ in range(5400):
        (architecture,) = sampler.ask()
        inner, supernet = SPACE.split(architecture)
        counts[BASE.index(inner), supernet] += 1
        sampler.tell(architecture, 1.0 if supernet == 0 else 0.0)
    kept = LAW > 5e-3  # cells of 1.5 expected draws and more
    expected = np.append((5400 * LAW / 18)[kept], 5400 * LAW[~kept].sum() / 18)
    assert chisquare(np.append(counts[kept], counts[~kept].sum()), expected).pvalue > 1e-4
    assert (sampler.probabilities() == LAW).all()


def test_what_it_learned_is_the_same_law_with_its_own_rewards() -> None:
    sampler = reused(np.random.default_rng(0))
    sampler.tell(SPACE.at(0), 0.3)
    learned = json.loads(json.dumps(sampler.learned()))
    found = load_mixture({**DOCUMENT, "state": learned}, BASE)
    assert (found.probabilities == LAW).all()
    assert found.visits.sum() == 1
    assert (found.prices, found.inverse_temperature) == (None, None)


@pytest.mark.parametrize(
    ("law", "message"),
    [(LAW[:-1], r"probabilities must be \[18, 3\]"), (LAW / 2, "probabilities must be shares")],
)
def test_a_law_that_is_none_is_refused(law: FloatArray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        reused(np.random.default_rng(0), law)


# Each architecture in its own supernet.


def test_a_space_of_members_is_the_base_with_the_supernet_in_its_samples() -> None:
    members = [c % 3 for c in range(18)]
    space = MemberSpace(BASE, members)
    assert tuple(space) == tuple(BASE)
    for c, architecture in enumerate(BASE):
        sample = {**BASE.decode(architecture), "supernet": c % 3}
        assert space.decode(architecture) == sample
        assert space.encode(sample) == space.encode(BASE.decode(architecture)) == architecture
        assert space.describe(architecture) == BASE.describe(architecture)
    with pytest.raises(ValueError, match="supernet of a-a-a must be 0, got 2"):
        space.encode({**BASE.decode(BASE.at(0)), "supernet": 2})
    with pytest.raises(ValueError, match="members must be 18 supernets, got 17"):
        MemberSpace(BASE, members[:-1])

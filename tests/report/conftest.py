"""A small search, a study, and a reader of pages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from nas_ext.report import Section, Table, Text
from nas_ext.results import Budget, RankedArchitecture, SearchResult
from nas_ext.samplers import TreeSampler, UniformSampler
from nas_ext.search import Phase, Search, Setting
from nas_ext.testing import FakeSupernet, small_space
from nas_ext.tree import rank_tree

VOID = {"meta", "img", "link", "br", "hr", "input"}

SPACE = small_space()


class Page(HTMLParser):
    """Read a page, and refuse tags that do not close in the order in which they opened."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.found: dict[str, list[str]] = {"href": [], "src": [], "id": [], "alt": []}
        self.words = ""
        self.cells: list[list[str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        for name, value in attrs:
            assert not name.startswith("on")
            if name in self.found:
                self.found[name].append(value or "")
        if tag == "tr":
            self.cells.append([])
        if tag in ("td", "th"):
            self.cells[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words += data
        if {"td", "th"} & set(self.open):
            self.cells[-1][-1] += data

    def row(self, first: str) -> list[str]:
        """Return the cells of the one row that begins so."""
        (found,) = [row for row in self.cells if row[0] == first]
        return found


def run_search(*, tree: bool) -> Search:
    """Search 18 architectures in 20 steps, and with a tree in 40 more, which have rewards."""
    accuracies = {a: 0.5 + i / 40 for i, a in enumerate(SPACE)}
    estimator = FakeSupernet(SPACE, accuracies)

    def grown(setting: Setting) -> TreeSampler:
        return TreeSampler(
            setting.space,
            setting.rng,
            tree=rank_tree(list(SPACE), list(accuracies.values())),
            temperature=lambda step: 0.02,
            final_temperature=0.0025,
            exploration=0.5,
            decay=0.95,
        )

    phases = [Phase("uniform", 20, lambda s: UniformSampler(s.space, s.rng))]
    if tree:
        phases.append(Phase("search", 40, grown))
    search = Search(phases, Setting(SPACE, estimator, np.random.default_rng(0)))
    for _ in range(search.steps):
        for architecture in search.ask():
            if search.sampler.needs_reward:
                search.tell(architecture, estimator.reward(architecture))
    return search


def search_small(*, tree: bool) -> SearchResult:
    """Return the result of the search, all architectures ranked."""
    search = run_search(tree=tree)
    sampler = search.sampler
    ranking = tuple(
        RankedArchitecture(
            architecture=r.architecture,
            name=SPACE.describe(r.architecture),
            sample=SPACE.decode(r.architecture),
            accuracy=r.accuracy,
            macs=12_345_678 if i == 0 else None,
            parameters=11_606 if i == 0 else None,
        )
        for i, r in enumerate(search.rank(None))
    )
    return SearchResult(
        strategy="LearnedTree",
        settings={"temperature": 0.02, "shares": [0.4, 0.6], "training": {"steps": 2000}},
        seed=3,
        space={"name": "small", "size": 18, "arguments": None},
        phases=tuple((phase.name, phase.steps) for phase in search.phases),
        draws=tuple(search.draws),
        ranking=ranking,
        budget=Budget(60, 60, 40, 18, 0, 1234.5, macs=9_876_543_210),
        tree=sampler.tree.state_dict() if isinstance(sampler, TreeSampler) else None,
        data={"name": "digits", "size": [8, 8]},
        manifest={"versions": {"python": "3.11.7", "nni": "3.0"}},
    )


def all_texts(sections: Sequence[Section]) -> str:
    """Return all paragraphs and captions."""
    found: list[str] = []
    for section in sections:
        if isinstance(section, Text):
            found += section.paragraphs
        else:
            found.append(section.note if isinstance(section, Table) else section.caption)
    return "\n".join(found)


def leave_journal(folder: Path, *, name: str | None = None, trials: int = 3) -> optuna.Study:
    """Leave a study of hand-made trials as `study.log`."""
    folder.mkdir(parents=True, exist_ok=True)
    storage = JournalStorage(JournalFileBackend(str(folder / "study.log")))
    study = optuna.create_study(study_name="retrain", storage=storage, direction="maximize")
    if name is not None:
        study.set_user_attr("architecture", {"name": name})
        study.set_user_attr("macs", 12_300_000)
    for number in range(trials):
        attributes = {"recipe": {"lr": 0.1 * (number + 1), "opt": "momentum"}}
        study.add_trial(
            optuna.create_trial(
                value=0.9 + number / 100, state=TrialState.COMPLETE, user_attrs=attributes
            )
        )
    return study


@pytest.fixture(scope="session")
def searched() -> SearchResult:
    """A search of 18 architectures, uniform and then with a tree."""
    return search_small(tree=True)


@pytest.fixture(scope="session")
def without_tree() -> SearchResult:
    """A uniform search of 18 architectures: no rewards, no tree."""
    return search_small(tree=False)


@pytest.fixture
def read() -> Callable[[str], Page]:
    """Read a page."""
    return Page


@pytest.fixture
def texts() -> Callable[[Sequence[Section]], str]:
    """Join what sections say."""
    return all_texts


@pytest.fixture
def journal() -> Callable[..., optuna.Study]:
    """Leave a study."""
    return leave_journal


@pytest.fixture
def final_values() -> dict[str, Any]:
    """What `final.json` says of two seeds with the recipe of trial 1."""
    return {
        "accuracies": [0.97, 0.98],
        "seeds": [0, 1],
        "mean": 0.975,
        "half_width": 0.06,
        "recipe": {"lr": 0.30000000000000004, "clip_grad": None, "opt": "momentum"},
        "trial": 1,
    }

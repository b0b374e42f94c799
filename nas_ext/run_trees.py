"""The tree of a finished run, and why it led to an architecture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nas_ext.architecture import ENUMERABLE, Architecture, SearchSpace
from nas_ext.field_types import clause
from nas_ext.files import naming
from nas_ext.results import SearchResult
from nas_ext.saved_tree import load_tree
from nas_ext.spaces import create
from nas_ext.tree import Tree, ValueOf, unbiased
from nas_ext.tree_path import FEW, Branch, Fork, explain

__all__ = ["Reason", "RunTree"]


SHARED = "Scores leave out what nodes told each other (communication), which the tree lacks."


@dataclass(frozen=True)
class Reason:
    """Say why a run led to an architecture: the forks of its path, and its place in the ranking.

    `probability` is that of the walk after the last one; `draws` counts how often the
    architecture was trained; `rank`, from 1, and `accuracy` are None where it was no candidate.
    `note` says what the scores leave out.
    """

    name: str
    architecture: Architecture
    forks: tuple[Fork, ...]
    temperature: float
    exploration: float
    probability: float
    draws: int
    rank: int | None
    candidates: int
    accuracy: float | None
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return {**asdict(self), "architecture": list(self.architecture)}

    def text(self) -> str:
        """Return a table for each fork, the way taken marked, and the outcome in words."""
        lines = [
            f"Why {self.name}: walks at temperature {self.temperature:g}, "
            f"exploration {self.exploration:g}",
        ]
        for fork in self.forks:
            lines += ["", f"at depth {fork.depth}, {fork.visits} visits"]
            lines += [_line(branch) for branch in fork.branches]
        ranked = "It was no candidate for the final ranking."
        if self.rank is not None and self.accuracy is not None:
            ranked = (
                f"Place {self.rank} of {self.candidates} candidates on the whole validation set, "
                f"with {100 * self.accuracy:.2f} %: that ranking decides, not the tree."
            )
        reached = f"The next walk ends here with probability {self.probability:.4g}."
        notes = [self.note] if self.note else []
        return "\n".join([*lines, "", f"Drawn {self.draws} times. {reached}", ranked, *notes])


@dataclass(frozen=True)
class RunTree:
    """A run's last tree, with what is needed to read it. `value` leaves out the initial value."""

    result: SearchResult
    space: SearchSpace
    tree: Tree
    value: ValueOf

    @classmethod
    def load(cls, folder: str | Path) -> RunTree:
        """Return the tree of a run.

        Raises ValueError for a run without a tree, of a space that is not registered, or of a
        strategy whose settings do not say how its tree was walked.
        """
        result = SearchResult.load(folder)
        if result.tree is None:
            raise ValueError(f"run must have searched a tree, {result.strategy} has none")
        if not result.space.get("arguments"):
            raise ValueError(f"space {result.space.get('name')!r} must be a registered one")
        _check_walks(result, folder)
        with naming(folder):
            space = create(**result.space["arguments"]).search_space
        settings = result.settings
        value = unbiased(decay=settings["decay"], initial=settings["initial_value"])
        return cls(result, space, load_tree(folder, space), value)

    def architecture(self, name: str) -> Architecture:
        """Return the architecture of a name: ranked, drawn, or anywhere in a small space."""
        for known in self._known():
            if self.space.describe(known) == name:
                return known
        raise ValueError(
            f"name must be that of an architecture of {self.space.name!r}, such as "
            f"{self.result.best.name!r}, got {name!r}"
        )

    def _known(self) -> Iterator[Architecture]:
        yield from (line.architecture for line in self.result.ranking)
        yield from dict.fromkeys(draw.architecture for draw in self.result.draws)
        if self.space.size <= ENUMERABLE:
            yield from self.space

    def why(self, name: str) -> Reason:
        """Say why the run led to the architecture of a name, by the rule of its last walks.

        Values are those that walks compare, with what is left of the initial value.
        """
        architecture = self.architecture(name)
        settings, result = self.result.settings, self.result
        initial = settings["initial_value"]
        forks = explain(
            self.tree,
            self.space,
            architecture,
            temperature=settings["final_temperature"],
            exploration=settings["exploration"],
            initial=1.0 if initial is None else initial,
            balance=settings.get("balance", "branches"),  # older runs knew no other
        )
        probability = 1.0
        for fork in forks:
            probability *= fork.taken.probability
        places = [line.architecture for line in result.ranking]
        rank = places.index(architecture) if architecture in places else None
        return Reason(
            name=name,
            architecture=architecture,
            forks=forks,
            temperature=settings["final_temperature"],
            exploration=settings["exploration"],
            probability=probability,
            draws=sum(draw.architecture == architecture for draw in result.draws),
            rank=None if rank is None else rank + 1,
            candidates=len(places),
            accuracy=None if rank is None else result.ranking[rank].accuracy,
            note=SHARED if settings.get("communication") is not None else "",
        )


def _check_walks(result: SearchResult, folder: str | Path) -> None:
    """Raise ValueError unless the settings say with which numbers the tree was walked."""
    names, settings = (
        ("decay", "exploration", "final_temperature", "initial_value"),
        result.settings,
    )
    if missing := sorted(set(names) - set(settings)):
        raise ValueError(f"settings of {result.strategy} must say {missing} to read its tree")
    for name in names:
        value = settings[name]
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number and not (name == "initial_value" and value is None):
            raise ValueError(f"{name} of {folder} must be a number, got {clause(value)}")
    if not 0 <= settings["decay"] < 1:
        raise ValueError(f"decay of {folder} must lie in [0, 1), got {settings['decay']}")


def _line(branch: Branch) -> str:
    many = len(branch.leaves) == FEW
    names = branch.name or " ".join([*branch.leaves[: FEW - 1], *(["..."] if many else [])])
    value = "not visited" if branch.value is None else f"value {branch.value:.4f}"
    score = "first" if branch.score is None else f"score {branch.score:.4f}"
    numbers = f"visits {branch.visits}, {value}, {score}, probability {branch.probability:.4f}"
    return f"{'->' if branch.taken else '  '} {names}: {numbers}"

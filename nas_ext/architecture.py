"""Architectures as tuples of option indices, and the search spaces they come from."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["ENUMERABLE", "Architecture", "Choice", "Option", "Rule", "Sample", "SearchSpace"]

Architecture: TypeAlias = tuple[int, ...]
"""One option index for each choice of a space, in the order of its choices."""

Option: TypeAlias = Hashable
"""The value that stands for an option in a model space's sample."""

Sample: TypeAlias = Mapping[str, Any]
"""An architecture as the model space's framework writes it: label -> option."""

ENUMERABLE = 20_000
"""The largest space that is enumerated unless a caller asks for more."""


@dataclass(frozen=True)
class Choice:
    """Name one decision of a space and the options it has, in their fixed order."""

    label: str
    options: tuple[Option, ...]

    def __post_init__(self) -> None:
        if not self.options:
            raise ValueError(f"options of choice {self.label!r} must not be empty, got ()")
        if len(set(self.options)) != len(self.options):
            raise ValueError(f"options of choice {self.label!r} must differ, got {self.options}")

    def position(self, option: Any) -> int:
        """Return the index of an option; a list, as JSON gives for a tuple, is the tuple.

        Raises ValueError when the choice has no such option.
        """
        wanted = tuple(option) if isinstance(option, list) else option
        for index, known in enumerate(self.options):
            if known == wanted and isinstance(known, bool) == isinstance(wanted, bool):
                return index
        raise ValueError(
            f"choice {self.label!r} must be one of {list(self.options)}, got {option!r}"
        )


class Rule(Protocol):
    """Say which products of options exist, as an automaton that reads one option at a time.

    States are hashable and few: the space counts its architectures over (position, state), which
    makes sizes, uniform draws and numbering exact without ever listing the space.
    """

    def start(self) -> Hashable:
        """Return the state before the first choice."""
        ...

    def step(self, state: Any, position: int, option: int) -> Hashable | None:
        """Return the state after an option, or None when nothing that begins so exists."""
        ...

    def accepts(self, state: Any) -> bool:
        """Say whether an architecture that ends in this state exists."""
        ...


class _Free:
    """The rule of a plain product: everything exists."""

    def start(self) -> Hashable:
        return 0

    def step(self, state: Any, position: int, option: int) -> Hashable | None:
        return 0

    def accepts(self, state: Any) -> bool:
        return True


class SearchSpace:
    """Know which architectures exist: their number, order, uniform law and names.

    The order is lexicographic in the option indices. Sizes are exact integers of any length.
    `choices` are the decisions, layer by layer; `rule` says which products of them exist.
    """

    def __init__(self, name: str, choices: Sequence[Choice], *, rule: Rule | None = None) -> None:
        labels = [choice.label for choice in choices]
        if not choices:
            raise ValueError(f"choices of space {name!r} must not be empty, got []")
        if len(set(labels)) != len(labels):
            raise ValueError(f"labels of space {name!r} must differ, got {labels}")
        self.name = name
        self.choices = tuple(choices)
        self._rule: Rule = rule if rule is not None else _Free()
        free = type(self._rule) is _Free
        self._radices = tuple(len(choice.options) for choice in choices) if free else None
        self._counts: dict[tuple[int, Hashable], int] = {}
        if self.size == 0:
            raise ValueError(f"rule of space {name!r} must admit an architecture, it admits none")

    # How many there are.

    def _count(self, position: int, state: Hashable) -> int:
        """Count the completions of a prefix that ended in `state`."""
        if position == len(self.choices):
            return int(self._rule.accepts(state))
        key = (position, state)
        if key not in self._counts:
            total = 0
            for option in range(len(self.choices[position].options)):
                after = self._rule.step(state, position, option)
                if after is not None:
                    total += self._count(position + 1, after)
            self._counts[key] = total
        return self._counts[key]

    @property
    def size(self) -> int:
        """Return the number of architectures, exactly."""
        return self._count(0, self._rule.start())

    @property
    def start(self) -> Hashable:
        """Return the rule's state before the first choice."""
        return self._rule.start()

    def branches(self, position: int, state: Hashable) -> Iterator[tuple[int, Hashable, int]]:
        """Yield (option, state after it, number of completions) for what can follow.

        This is all that an exact sum over the space needs: see `product_law`.
        """
        for option in range(len(self.choices[position].options)):
            after = self._rule.step(state, position, option)
            if after is not None and (count := self._count(position + 1, after)):
                yield option, after, count

    # Which ones exist, and in what order.

    def __contains__(self, architecture: object) -> bool:
        if not isinstance(architecture, tuple) or len(architecture) != len(self.choices):
            return False
        if self._radices is not None:
            pairs = zip(architecture, self._radices, strict=True)
            return all(type(option) is int and 0 <= option < radix for option, radix in pairs)
        state: Hashable = self._rule.start()
        for position, (choice, option) in enumerate(zip(self.choices, architecture, strict=True)):
            if type(option) is not int or not 0 <= option < len(choice.options):
                return False
            after = self._rule.step(state, position, option)
            if after is None:
                return False
            state = after
        return self._rule.accepts(state)

    def check(self, architecture: Architecture) -> Architecture:
        """Return the architecture when it exists; raise ValueError when it does not."""
        if architecture not in self:
            raise ValueError(f"architecture must exist in space {self.name!r}, got {architecture}")
        return architecture

    def options(self, prefix: Architecture) -> tuple[int, ...]:
        """Return the options of the next choice that lead to at least one architecture."""
        if len(prefix) >= len(self.choices):
            raise ValueError(
                f"prefix must be shorter than the {len(self.choices)} choices, got {prefix}"
            )
        state, _ = self._after(prefix)
        return tuple(option for option, _, _ in self.branches(len(prefix), state))

    def completions(self, prefix: Architecture) -> int:
        """Return how many architectures begin with a prefix; ValueError where none does."""
        return self._after(prefix)[1]

    def _after(self, prefix: Architecture) -> tuple[Hashable, int]:
        """Return the rule's state after a prefix, and how many architectures it begins."""
        state, count = self.start, self.size
        for position, option in enumerate(prefix):
            following = {o: (after, n) for o, after, n in self.branches(position, state)}
            if option not in following:
                raise ValueError(f"prefix must exist in space {self.name!r}, got {prefix}")
            state, count = following[option]
        return state, count

    def __iter__(self) -> Iterator[Architecture]:
        """Yield every architecture in order."""
        stack: list[tuple[Architecture, Hashable]] = [((), self._rule.start())]
        while stack:
            prefix, state = stack.pop()
            if len(prefix) == len(self.choices):
                yield prefix
                continue
            below = [((*prefix, o), after) for o, after, _ in self.branches(len(prefix), state)]
            stack.extend(reversed(below))

    def enumerate(self, limit: int = ENUMERABLE) -> tuple[Architecture, ...]:
        """Return every architecture in order.

        Raises ValueError when there are more than `limit`: listing them would not end.
        """
        self.check_enumerable(limit)
        return tuple(self)

    def check_enumerable(self, limit: int = ENUMERABLE) -> None:
        """Raise ValueError when the space has more than `limit` architectures."""
        if self.size > limit:
            raise ValueError(
                f"space {self.name!r} has {self.size:,} architectures, "
                f"it must have at most {limit:,} to be enumerated"
            )

    def check_states(self, limit: int) -> None:
        """Raise ValueError when the rule has more than `limit` states to sum over.

        Rules of structure have few; that of a `BudgetedSpace` has one for every cost on the way.
        """

    def index(self, architecture: Architecture) -> int:
        """Return the place of an architecture in the order, from 0."""
        self.check(architecture)
        state, place = self._rule.start(), 0
        if self._radices is not None:
            for chosen, radix in zip(architecture, self._radices, strict=True):
                place = place * radix + chosen
            return place
        for position, chosen in enumerate(architecture):
            for option, after, count in self.branches(position, state):
                if option == chosen:
                    state = after
                    break
                place += count
        return place

    def at(self, index: int) -> Architecture:
        """Return the architecture at a place of the order, from 0."""
        if not 0 <= index < self.size:
            raise ValueError(f"index must lie in [0, {self.size}), got {index}")
        state, chosen = self._rule.start(), list[int]()
        if self._radices is not None:
            for radix in reversed(self._radices):
                index, option = divmod(index, radix)
                chosen.append(option)
            return tuple(reversed(chosen))
        for position in range(len(self.choices)):
            for option, after, count in self.branches(position, state):
                if index < count:
                    chosen.append(option)
                    state = after
                    break
                index -= count
        return tuple(chosen)

    def draw(self, rng: np.random.Generator) -> Architecture:
        """Draw uniformly over architectures, which is not uniform over the options of a layer."""
        return self.at(below(rng, self.size))

    # What they are called elsewhere.

    def decode(self, architecture: Architecture) -> dict[str, Any]:
        """Return the architecture as a sample of the model space."""
        self.check(architecture)
        return {
            choice.label: choice.options[option]
            for choice, option in zip(self.choices, architecture, strict=True)
        }

    def encode(self, sample: Sample) -> Architecture:
        """Return the architecture that a sample of the model space stands for.

        Raises ValueError for a missing or unknown label, an unknown option, or a product of
        options that does not exist.
        """
        labels = {choice.label for choice in self.choices}
        if set(sample) != labels:
            raise ValueError(
                f"sample must have exactly the labels {sorted(labels)}, got {sorted(sample)}"
            )
        return self.check(tuple(choice.position(sample[choice.label]) for choice in self.choices))

    def describe(self, architecture: Architecture) -> str:
        """Return the short name that people use for the architecture."""
        return "-".join(str(value) for value in self.decode(architecture).values())

    def from_code(self, code: str) -> Architecture:
        """Return the architecture that a space's own short text names: here `describe`'s.

        Raises ValueError when it names none.
        """
        options = ("|".join(re.escape(str(o)) for o in choice.options) for choice in self.choices)
        found = re.fullmatch("-".join(f"({texts})" for texts in options), code)
        if found is None:
            first = self.describe(self.at(0))
            raise ValueError(
                f"code must be one of space {self.name!r}, like {first!r}, got {code!r}"
            )
        texts = zip(self.choices, found.groups(), strict=True)
        return self.check(tuple([*map(str, c.options)].index(text) for c, text in texts))

    def parse(self, written: str | Sequence[int] | Sample) -> Architecture:
        """Return the architecture as people write it: a text, option indices or a sample.

        A text is what `describe` gives, or a code; spaces add what else is usual for them. Raises
        ValueError for what names no architecture.
        """
        if isinstance(written, str):
            return self.from_code(written.strip())
        if isinstance(written, Mapping):
            return self.encode(written)
        return self.check(tuple(written))

    def canonical(self, architecture: Architecture) -> Architecture:
        """Return the one encoding that stands for all encodings of the same network.

        Spaces whose encodings repeat override this. Inside a supernet such encodings still have
        weights of their own; only ground truth and reports are shared.
        """
        return self.check(architecture)

    def encoding(self, architecture: Architecture) -> NDArray[np.float64]:
        """Return the architecture as one row of numbers, `[D]`, for distances without a network.

        Here the option indices; spaces with a better meaning per layer override this.
        """
        return np.asarray(self.check(architecture), dtype=np.float64)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, size={self.size})"


def below(rng: np.random.Generator, bound: int) -> int:
    """Draw an integer uniformly from [0, bound) for a bound of any length."""
    if bound <= 2**62:
        return int(rng.integers(bound))
    bits = bound.bit_length()
    while True:
        value = int.from_bytes(rng.bytes((bits + 7) // 8), "little") & ((1 << bits) - 1)
        if value < bound:
            return value

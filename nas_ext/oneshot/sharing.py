"""Which models of a supernet share prefixes, for which architectures, in which order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from nas_ext.architecture import Architecture, SearchSpace
from nas_ext.oneshot.prefix import PrefixWalk, chain_of, standing_in
from nas_ext.oneshot.stacking import Proofs
from nas_ext.samplers.mixture_space import MixtureSpace

__all__ = ["Visits", "sharing"]


class Visits:
    """Name the places of the architectures in the order that shares most, once for each batch."""

    def __init__(self) -> None:
        self.order: list[int] = []
        self.walks: list[PrefixWalk] = []

    def __iter__(self) -> Iterator[int]:
        """Yield every place; afterwards, forget the activations of the batch."""
        yield from self.order
        for walk in self.walks:
            walk.forget()


@contextmanager
def sharing(
    model: Any,
    space: SearchSpace,
    architectures: Sequence[Architecture],
    *,
    activate: Callable[[Architecture], None],
    active: Callable[[], Architecture],
    count: Callable[[int], None],
    proofs: dict[int, Proofs],
) -> Iterator[Visits]:
    """Let a model with a `forward_chain` run common prefixes once while this is open.

    Its forward answers for the architecture that is `active`. Supernets of a mixture share
    nothing, so each of them answers for itself. A model without a chain, or with one architecture
    to run, is left alone, and its architectures keep their order.
    """
    mixed, behind = isinstance(space, MixtureSpace), len(space.choices)
    inner = behind - 1 if mixed else behind
    places: dict[Architecture, list[int]] = {}
    for place, architecture in enumerate(architectures):
        places.setdefault(space.check(architecture)[inner:], []).append(place)
    visits = Visits()
    with ExitStack() as stack:
        for member, mine in sorted(places.items()):
            owner = model.members[member[0]] if mixed else model
            plan = sorted({architectures[place][:inner] for place in mine})
            chain = chain_of(owner) if len(plan) > 1 else None
            if chain is not None:
                mine.sort(key=lambda place: architectures[place])
                walk = PrefixWalk(
                    owner,
                    chain,
                    plan,
                    activate=lambda begin, end=member: activate((*begin, *end)),  # type: ignore[misc]
                    decode=lambda begin, end=member: space.decode((*begin, *end)),  # type: ignore[misc]
                    count=count,
                    proofs=proofs.setdefault(member[0] if mixed else 0, Proofs()),
                )
                visits.walks.append(walk)
                stack.enter_context(standing_in(owner, _answer(walk, active, inner)))
            visits.order += mine
        yield visits


def _answer(
    walk: PrefixWalk, active: Callable[[], Architecture], inner: int
) -> Callable[..., Any]:
    def forward(*args: Any, **kwargs: Any) -> Any:
        return walk(active()[:inner], *args, **kwargs)

    return forward

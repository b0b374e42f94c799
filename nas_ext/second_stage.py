"""Second-stage searches on the supernet of an earlier run, each leaving a file in its folder."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np

from nas_ext.architecture import Architecture, SearchSpace
from nas_ext.data import loader
from nas_ext.evaluation import SpreadSupernet, load_settled
from nas_ext.files import write_json
from nas_ext.manifest import manifest
from nas_ext.oneshot import Supernet
from nas_ext.results import RankedArchitecture
from nas_ext.samplers.mixture_space import SUPERNET, MemberSpace
from nas_ext.search import Ranked
from nas_ext.selection import (
    Evolution,
    boltzmann,
    distinct_networks,
    evolution,
    exhaustive,
    random_k,
)
from nas_ext.shifting import evolution_with_shifting
from nas_ext.spaces import create
from nas_ext.supernets import Loaded

__all__ = ["FORMAT", "METHODS", "Selection", "select"]

FORMAT = "nas-ext/select-1"

METHODS: Mapping[str, int | None] = MappingProxyType(
    {"exhaustive": None, "random": 50, "boltzmann": 2000, "evolution": 1000, "shifting": 1000}
)
"""The methods with their usual budgets: single-batch rewards for boltzmann, evaluated
architectures for the others, the whole space for exhaustive."""

SPREAD = ("exhaustive", "random")
"""The methods whose architectures are known before any is evaluated."""

Estimator: TypeAlias = Supernet | SpreadSupernet


@dataclass(frozen=True)
class Selection:
    """Hold what a second stage found in a run, and what it spent.

    `passes` counts forward passes of one architecture on one batch, by purpose; those of "shift"
    are training passes. `ranking` is best first.
    """

    method: str
    budget: int | None
    seed: int
    run: Mapping[str, Any]
    passes: Mapping[str, int]
    seconds: float
    ranking: tuple[RankedArchitecture, ...]
    manifest: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return the selection as JSON values."""
        ranking = [{**asdict(r), "architecture": list(r.architecture)} for r in self.ranking]
        head = {"format": FORMAT, **{k: v for k, v in vars(self).items() if k != "ranking"}}
        return {**head, "ranking": ranking}


def select(
    folder: str | Path,
    method: str,
    *,
    budget: int | None = None,
    seed: int = 0,
    source: str | None = None,
    batch_size: int = 150,
    device: str = "cpu",
    workers: int = 1,
) -> Selection:
    """Search the trained supernet of a run again, and write `select-METHOD.json` into its folder.

    `budget` is the method's own, see `METHODS`. The run's weights stay as they are, on disk and
    so for every method: shifting moves a copy, on training batches of `batch_size`. A network is
    named once, at its best, where several encodings hold it. In a mixture of supernets every
    architecture is evaluated in the one that took it over, argmax p(m|c) when the search ended.
    The methods that name their architectures beforehand can spread them over `workers` processes,
    see `nas_ext.evaluation.evaluate`.

    Raises ValueError for an unknown method, for a budget with "exhaustive" or below 1, for
    workers with a method that goes step by step, for a mixture's run whose result does not hold
    the mixture, and for what `load_supernet` refuses.
    """
    usual = _usual(method, budget)
    if workers < 1 or (workers > 1 and method not in SPREAD):
        raise ValueError(
            f"workers must be at least 1, and 1 but for {list(SPREAD)}, got {workers} for {method}"
        )
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}")
    run = load_settled(folder, source=source, device=device)
    estimator: Estimator = run.supernet
    if workers > 1:
        estimator = SpreadSupernet(
            folder, run.supernet, workers=workers, source=source, device=device
        )
    made_by = manifest(seeds=[seed], data=run.data.digest, made_with={"batch_size": batch_size})
    began = time.monotonic()
    ranking = _run(method, run, estimator, usual, batch_size=batch_size, seed=seed)
    result = run.result
    selection = Selection(
        method=method,
        budget=usual,
        seed=seed,
        run={"strategy": result.strategy, "seed": result.seed, "space": dict(result.space)},
        passes=dict(run.supernet.passes),
        seconds=time.monotonic() - began,
        ranking=_lines(run, ranking),
        manifest=made_by,
    )
    write_json(Path(folder) / f"select-{method}.json", selection.to_json())
    return selection


def _usual(method: str, budget: int | None) -> int | None:
    """Return the budget to spend, the usual one for None."""
    if method not in METHODS:
        raise ValueError(f"method must be one of {list(METHODS)}, got {method!r}")
    if budget is None:
        return METHODS[method]
    if METHODS[method] is None:
        raise ValueError(f"budget must be None for {method}, the whole space, got {budget}")
    if budget < 1:
        raise ValueError(f"budget must be at least 1, got {budget}")
    return budget


def _run(
    method: str,
    run: Loaded,
    estimator: Estimator,
    budget: int | None,
    *,
    batch_size: int,
    seed: int,
) -> tuple[Ranked, ...]:
    """Return the ranking of a method, in the space that the supernet is searched in."""
    supernet, space, rng = run.supernet, run.supernet.space, np.random.default_rng(seed)
    if budget is None:
        return exhaustive(space, estimator)
    if method == "random":
        return random_k(space, estimator, count=budget, rng=rng)
    if method == "boltzmann":
        return boltzmann(space, supernet, steps=budget, rng=rng)
    settings = Evolution(evaluations=budget)
    if method == "evolution":
        return evolution(space, supernet, rng=rng, settings=settings)
    train = loader(run.data.train, run.data, batch_size=batch_size, train=True, seed=seed)
    return evolution_with_shifting(supernet, train, rng=rng, settings=settings)


def _lines(run: Loaded, ranking: tuple[Ranked, ...]) -> tuple[RankedArchitecture, ...]:
    """Return what the user reads: each network once, at its best."""
    space, size = run.strategy.search_space, run.supernet.image_size
    model = create(**run.result.space["arguments"])
    count = getattr(model, "parameter_count", None)
    return tuple(
        RankedArchitecture(
            architecture=r.architecture,
            name=space.describe(r.architecture),
            sample=space.decode(r.architecture),
            accuracy=r.accuracy,
            macs=None if size is None else model.macs(r.architecture, image_size=size),
            parameters=None if count is None else int(count(r.architecture)),
            extra=_extra(run.supernet.space, r.architecture),
        )
        for r in distinct_networks(space, ranking)
    )


def _extra(space: SearchSpace, architecture: Architecture) -> dict[str, Any]:
    return {SUPERNET: space.member(architecture)} if isinstance(space, MemberSpace) else {}

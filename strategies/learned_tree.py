"""Monte-Carlo tree search over a tree learned from the architectures' outputs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

import numpy as np

from nas_ext.architecture import ENUMERABLE, Architecture
from nas_ext.estimation import ProxyEstimator, ProxyName
from nas_ext.samplers import UniformSampler
from nas_ext.saved_tree import TreeSource, load_tree, read_tree
from nas_ext.schedule import split
from nas_ext.search import Phase, Setting
from nas_ext.similarity import DISTANCES, encoding
from nas_ext.strategies.tree_strategy import TreeStrategy, check_shares
from nas_ext.tree import BinaryTree, Linkage, Tree, cluster_tree, rank_tree

__all__ = ["LearnedTree"]

ZERO_COST: tuple[ProxyName, ...] = get_args(ProxyName)
KNOWN = (*DISTANCES, *ZERO_COST, "encoding")


@dataclass(kw_only=True, eq=False)
class LearnedTree(TreeStrategy):
    """Cluster the outputs of all architectures into a binary tree, and search that.

    Phases, 40 / 25 / 35 of the steps: uniform training; then all architectures run on one
    validation batch, the pairwise `distance` of their outputs is clustered by `linkage`, and
    uniform draws fill the tree; then walks. With `reinitialise` the weights start again when the
    tree is built: algorithm 3.1 has two sets of weights, both initialised at random. Whoever
    would rather keep them (`reinitialise=False`) trains one set through all phases.

    `distance` is "kl" (the best in the paper version), "l2" or "cross-entropy" on class
    probabilities, "cosine" on logits, or "encoding" on the architectures themselves, which needs
    no network and serves tables. Divergences are symmetrised. Spaces up to
    `max_architectures`: all pairs are compared.

    Zero-cost trees (ours, after an open direction of the thesis) are built before any training,
    so that the first phase falls away and the others keep their proportion: with two `shares`,
    for any distance, and always with the proxies "synflow", "naswot" and "grad-norm". A proxy is
    no distance but a score from one batch, see `nas_ext.oneshot.proxies`: the tree of halves has
    the better half of a node's architectures on its left, and `linkage` changes nothing. Weights
    that nothing has trained go on, whatever `reinitialise` says.

    `tree` is a tree that was learned before, on other images perhaps: a file of `save_tree`, a
    search's folder or `search.json`, or what these hold. It is searched instead of a new one, so
    the first phase falls away and the others keep their proportion; `distance`, `linkage` and
    `reinitialise` then change nothing. Only its shape is taken: visits and values are of other
    weights, and start anew. It must have a leaf for every architecture of the space, which is
    known by name and size. The reuse is ours.

    Source: chapter 3, section 3.6, algorithm 3.1, with the paper version's initial value of 1
    (D3-1) and all architectures compared, not a sample (D3-3). Departures: up to 50 candidates
    are ranked on the whole validation set on every space, where the thesis takes the greedy leaf
    of the pooling spaces; `candidates=1` gives that back. The linkage, not named there, is
    average.
    """

    distance: Literal[
        "kl", "l2", "cross-entropy", "cosine", "encoding", "synflow", "naswot", "grad-norm"
    ] = "kl"
    linkage: Linkage = "average"
    reinitialise: bool = True
    max_architectures: int = ENUMERABLE
    shares: tuple[float, float, float] | tuple[float, float] = (0.40, 0.25, 0.35)
    tree: TreeSource | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.distance not in KNOWN:
            raise ValueError(f"distance must be one of {list(KNOWN)}, got {self.distance!r}")
        if self.linkage not in ("average", "complete", "ward"):
            raise ValueError(f"linkage must be average, complete or ward, got {self.linkage!r}")
        if self.linkage == "ward" and self.distance not in ("l2", "encoding"):
            raise ValueError(
                f"linkage 'ward' needs distance l2 or encoding, got {self.distance!r}"
            )
        if self.max_architectures < 1:
            raise ValueError(f"max_architectures must be at least 1, got {self.max_architectures}")
        check_shares(self.shares, 2 if len(self.shares) == 2 else 3)
        self._saved = None if self.tree is None else read_tree(self.tree)
        if self._saved is not None and self._saved["state"]["kind"] != "binary":
            raise ValueError("tree must be a learned one, got one of layers, which MCTS searches")

    @property
    def settings(self) -> dict[str, Any]:
        """Return the settings as JSON values; a tree that is no file by a digest of it."""
        values = super().settings
        if isinstance(self.tree, Mapping):
            text = json.dumps(self._saved, sort_keys=True)
            values["tree"] = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
        elif self.tree is not None:
            values["tree"] = str(self.tree)
        return values

    def phases(self, steps: int) -> tuple[Phase, ...]:
        if self._saved is not None or self.zero_cost:
            warm, search = split(steps, self.shares[-2:])
            grow = self.learn if self._saved is None else self._reuse
            return (self.warm_up("tree warm-up", warm, grow), self.walks("search", search))
        first, warm, search = split(steps, self.shares)
        return (
            Phase("uniform", first, self._uniform),
            self.warm_up("tree warm-up", warm, self.learn, reinitialise=self.reinitialise),
            self.walks("search", search),
        )

    @property
    def density_limit(self) -> int:
        """Return the largest space that is compared, which the first phase checks."""
        return self.max_architectures

    @property
    def zero_cost(self) -> bool:
        """Say whether the tree is built before anything is trained."""
        return self.distance in ZERO_COST or len(self.shares) == 2

    def _uniform(self, setting: Setting) -> UniformSampler:
        setting.space.check_enumerable(self.max_architectures)
        return UniformSampler(setting.space, setting.rng)

    def learn(self, setting: Setting) -> Tree:
        """Return the tree of what the architectures put out as the weights stand now."""
        architectures = setting.space.enumerate(self.max_architectures)
        if self.distance in ZERO_COST:
            return rank_tree(architectures, self._proxy_ranks(setting, architectures))
        if self.distance == "encoding":
            rows = np.stack([setting.space.encoding(a) for a in architectures])
            distances = encoding(rows)
        else:
            distances = DISTANCES[self.distance](setting.estimator.outputs(architectures))
        return cluster_tree(architectures, distances, method=self.linkage)

    def _proxy_ranks(
        self, setting: Setting, architectures: Sequence[Architecture]
    ) -> Sequence[float]:
        """Return the places of the scores among each other, from 0 for the worst."""
        if not isinstance(setting.estimator, ProxyEstimator):
            raise ValueError(
                f"distance {self.distance!r} needs a network, "
                f"{type(setting.estimator).__name__} has none: take 'encoding' for a table"
            )
        scores = setting.estimator.proxy(cast("ProxyName", self.distance), architectures)
        if scores.shape != (len(architectures),) or np.isnan(scores).any():
            raise ValueError(f"scores of {self.distance} must be {len(architectures)} numbers")
        values, ranks = np.unique(scores, return_inverse=True)
        if len(values) == 1 < len(architectures):
            raise ValueError(
                f"scores of {self.distance} must tell architectures apart, all are {values[0]}"
            )
        return [float(rank) for rank in ranks]

    def _reuse(self, setting: Setting) -> Tree:
        """Return the given tree without its statistics; ValueError when it does not fit."""
        if self._saved is None:
            raise RuntimeError("a tree is reused only where one was given")
        found = load_tree(self._saved, setting.space)
        if not isinstance(found, BinaryTree) or len(found.architectures) != setting.space.size:
            raise ValueError(
                f"tree must have a leaf for each of the {setting.space.size:,} architectures of "
                f"space {setting.space.name!r}"
            )
        return BinaryTree(found.architectures, found.merges)

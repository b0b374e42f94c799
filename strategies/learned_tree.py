"""Monte-Carlo tree search over a tree learned from the architectures' outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from nas_ext.architecture import ENUMERABLE
from nas_ext.samplers import UniformSampler
from nas_ext.schedule import split
from nas_ext.search import Phase, Setting
from nas_ext.similarity import DISTANCES, encoding
from nas_ext.strategies.tree_strategy import TreeStrategy, check_shares
from nas_ext.tree import Linkage, Tree, cluster_tree

__all__ = ["LearnedTree"]


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

    Source: chapter 3, section 3.6, algorithm 3.1, with the paper version's initial value of 1
    (D3-1) and all architectures compared, not a sample (D3-3). Departures: up to 50 candidates
    are ranked on the whole validation set on every space, where the thesis takes the greedy leaf
    of the pooling spaces; `candidates=1` gives that back. The linkage, not named there, is
    average.
    """

    distance: Literal["kl", "l2", "cross-entropy", "cosine", "encoding"] = "kl"
    linkage: Linkage = "average"
    reinitialise: bool = True
    max_architectures: int = ENUMERABLE
    shares: tuple[float, float, float] = (0.40, 0.25, 0.35)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.distance not in (*DISTANCES, "encoding"):
            known = [*DISTANCES, "encoding"]
            raise ValueError(f"distance must be one of {known}, got {self.distance!r}")
        if self.linkage not in ("average", "complete", "ward"):
            raise ValueError(f"linkage must be average, complete or ward, got {self.linkage!r}")
        if self.linkage == "ward" and self.distance not in ("l2", "encoding"):
            raise ValueError(
                f"linkage 'ward' needs distance l2 or encoding, got {self.distance!r}"
            )
        if self.max_architectures < 1:
            raise ValueError(f"max_architectures must be at least 1, got {self.max_architectures}")
        check_shares(self.shares, 3)

    def phases(self, steps: int) -> tuple[Phase, ...]:
        first, warm, search = split(steps, self.shares)
        return (
            Phase("uniform", first, self._uniform),
            self.warm_up("tree warm-up", warm, self.learn, reinitialise=self.reinitialise),
            self.walks("search", search),
        )

    def _uniform(self, setting: Setting) -> UniformSampler:
        setting.space.check_enumerable(self.max_architectures)
        return UniformSampler(setting.space, setting.rng)

    def learn(self, setting: Setting) -> Tree:
        """Return the tree of what the architectures put out as the weights stand now."""
        architectures = setting.space.enumerate(self.max_architectures)
        if self.distance == "encoding":
            rows = np.stack([setting.space.encoding(a) for a in architectures])
            distances = encoding(rows)
        else:
            distances = DISTANCES[self.distance](setting.estimator.outputs(architectures))
        return cluster_tree(architectures, distances, method=self.linkage)

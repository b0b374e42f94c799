"""Monte-Carlo tree search over a tree learned from the architectures' outputs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from nas_ext.architecture import ENUMERABLE
from nas_ext.samplers import UniformSampler
from nas_ext.saved_tree import TreeSource, load_tree, read_tree
from nas_ext.schedule import split
from nas_ext.search import Phase, Setting
from nas_ext.similarity import DISTANCES, encoding
from nas_ext.strategies.tree_strategy import TreeStrategy, check_shares
from nas_ext.tree import BinaryTree, Linkage, Tree, cluster_tree

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

    distance: Literal["kl", "l2", "cross-entropy", "cosine", "encoding"] = "kl"
    linkage: Linkage = "average"
    reinitialise: bool = True
    max_architectures: int = ENUMERABLE
    shares: tuple[float, float, float] = (0.40, 0.25, 0.35)
    tree: TreeSource | None = field(default=None, repr=False)

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
        if self._saved is not None:
            warm, search = split(steps, self.shares[1:])
            return (
                self.warm_up("tree warm-up", warm, self._reuse),
                self.walks("search", search),
            )
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

"""The strategies by the names that the command line takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, TypeAlias

from torch import nn

from nas_ext.architecture import SearchSpace
from nas_ext.oneshot import DifferentiableStrategy, SampledStrategy
from nas_ext.strategies.balanced_mixture import BalancedMixture
from nas_ext.strategies.boltzmann import Boltzmann
from nas_ext.strategies.density_aware import DensityAware
from nas_ext.strategies.fits import misfit
from nas_ext.strategies.gaea import GAEA
from nas_ext.strategies.independent import Independent
from nas_ext.strategies.iterative_mcts import IterativeMCTS
from nas_ext.strategies.learned_tree import LearnedTree
from nas_ext.strategies.mcts import MCTS
from nas_ext.strategies.pada import PADA
from nas_ext.strategies.prototype_density import PrototypeDensity
from nas_ext.strategies.resolution_darts import ResolutionDARTS
from nas_ext.strategies.strict_fairness import StrictFairness
from nas_ext.strategies.uniform import Uniform

__all__ = ["STRATEGIES", "AnyStrategy", "StrategyEntry", "create", "describe"]


AnyStrategy: TypeAlias = SampledStrategy | DifferentiableStrategy


@dataclass(frozen=True)
class StrategyEntry:
    """A strategy class with what a table of strategies says of it.

    `on_tables` are settings with which it runs against a table, which has no network outputs.
    `not_on_tables` says why it cannot, where it cannot.
    """

    strategy: type[AnyStrategy]
    summary: str
    source: str
    cost: str
    spaces: str
    on_tables: Mapping[str, Any] = field(default_factory=dict)
    not_on_tables: str | None = None

    def misfit(self, space: SearchSpace, model: nn.Module | None = None) -> str | None:
        """Return why the strategy, with its usual settings, cannot search a space, or None.

        With the `model` space, not yet a supernet, its kinds of choices are looked at too.
        """
        return misfit(self.strategy(), space, model)


_NO_SAMPLER = (
    "is moved by gradients of a network's loss and draws nothing: a table has neither network nor "
    "gradients, and anything that learned from its rewards would be another method"
)
_MIXTURE_COST = "every option of every layer, on a training and on a validation batch"

STRATEGIES: Mapping[str, StrategyEntry] = MappingProxyType(
    {
        "uniform": StrategyEntry(
            Uniform,
            "uniform single-path training, exhaustive or top-k ranking (SPOS)",
            "chapter 2, section 2.1",
            "1 training pass",
            "any; ranking the whole space needs an enumerable one",
        ),
        "mcts": StrategyEntry(
            MCTS,
            "Monte-Carlo tree search over the layers of the network",
            "chapter 3, section 3.3",
            "1 training pass and 1 validation batch",
            "any",
        ),
        "learned-tree": StrategyEntry(
            LearnedTree,
            "Monte-Carlo tree search over a tree learned from outputs, encodings or proxies",
            "chapter 3, section 3.6",
            "1 training pass; 1 validation batch in 60 % of the steps",
            f"up to {LearnedTree.max_architectures:,} architectures",
            {"distance": "encoding"},
        ),
        "iterative-mcts": StrategyEntry(
            IterativeMCTS,
            "Monte-Carlo tree search over a tree of ranks, built again and again",
            "chapter 4, section 4.1",
            "1 training pass; 1 validation batch in 60 % of the steps; "
            "4 rankings of 3 batches for every architecture",
            "up to 20,000 architectures, any with rank_subset",
            {"rank_subset": 100},
        ),
        "balanced-mixture": StrategyEntry(
            BalancedMixture,
            "M supernets that share the architectures out, balanced by proportional fitting",
            "chapter 2, section 2.2",
            "1 training pass and 1 validation batch; memory of M supernets",
            f"up to {BalancedMixture.max_architectures:,} architectures",
        ),
        "density-aware": StrategyEntry(
            DensityAware,
            "samples most what is least like the rest, by mean distance or kernel density",
            "chapter 5, section 5.2",
            "1 training pass; once, all architectures on 1 validation batch",
            f"up to {DensityAware.max_architectures:,} architectures",
            {"distance": "encoding"},
        ),
        "prototype-density": StrategyEntry(
            PrototypeDensity,
            "accepts uniform draws the more likely the farther they are from k-means prototypes",
            "chapter 5, section 5.3",
            "1 training pass and about 2 passes of 1 validation batch",
            "any with at least as many architectures as prototypes (100 unless set)",
            {"representation": "encoding", "prototypes": 10, "rate": 0.0005},
        ),
        "boltzmann": StrategyEntry(
            Boltzmann,
            "softmax over the averaged rewards of whole architectures",
            "chapter 2, section 2.3",
            "1 training pass and 1 validation batch",
            "any; visits everything first, so best on small ones",
        ),
        "independent": StrategyEntry(
            Independent,
            "importance sampling of each choice by itself, conditioned on existence",
            "chapter 3, section 3.1",
            "1 training pass and 1 validation batch",
            "any",
        ),
        "strict-fairness": StrategyEntry(
            StrictFairness,
            "every option trained equally often (FairNAS)",
            "chapter 4, section 4.2",
            "m training passes, m the most options of a choice",
            "free products and pooling spaces",
        ),
        "pada": StrategyEntry(
            PADA,
            "samples options by their gradients and training samples by their errors (PA&DA)",
            "chapter 4, section 4.3",
            "1 training pass",
            "layer choices and pooling spaces; ranking the whole space needs an enumerable one",
            not_on_tables="draws options by the norms of gradients and samples by the errors of "
            "a network: a table has neither, and without them it would be random search",
        ),
        "resolution-darts": StrategyEntry(
            ResolutionDARTS,
            "first-order DARTS on resolutions or any layer choices",
            "chapter 2, equations 2.4 and 2.5",
            _MIXTURE_COST,
            "plain products of layer choices",
            not_on_tables=_NO_SAMPLER,
        ),
        "gaea": StrategyEntry(
            GAEA,
            "exponentiated gradients on the simplex of each layer's options",
            "chapter 2, multi-scale resolution blocks",
            _MIXTURE_COST,
            "plain products of layer choices",
            not_on_tables=_NO_SAMPLER,
        ),
    }
)


def create(name: str, **settings: Any) -> AnyStrategy:
    """Return a strategy by name.

    Raises ValueError for a name or a setting that does not exist, naming those that do.
    """
    if not isinstance(name, str) or name not in STRATEGIES:
        raise ValueError(f"strategy must be one of {sorted(STRATEGIES)}, got {name!r}")
    strategy = STRATEGIES[name].strategy
    known = {f.name for f in fields(strategy)}
    for setting in settings:
        if setting not in known:
            raise ValueError(f"setting of {name} must be one of {sorted(known)}, got {setting!r}")
    return strategy(**settings)


def describe() -> list[dict[str, Any]]:
    """Return what a table of strategies says, one line each, as JSON values."""
    lines = []
    for name, entry in STRATEGIES.items():
        made = entry.strategy()
        lines.append(
            {
                "name": name,
                "class": entry.strategy.__name__,
                "summary": entry.summary,
                "source": entry.source,
                "phases": _phases(made),
                "cost": entry.cost,
                "spaces": entry.spaces,
                "settings": made.settings,
            }
        )
    return lines


def _phases(strategy: AnyStrategy) -> list[str]:
    """Return the names of a strategy's phases; a mixture of all options has a single one."""
    if isinstance(strategy, SampledStrategy):
        return [phase.name for phase in strategy.phases(1000)]
    return ["mixture"]

"""Strategies: drop-in one-shot strategies for NNI, one file a method."""

from nas_ext.strategies.balanced_mixture import BalancedMixture
from nas_ext.strategies.boltzmann import Boltzmann
from nas_ext.strategies.density_aware import DensityAware
from nas_ext.strategies.gaea import GAEA
from nas_ext.strategies.independent import Independent
from nas_ext.strategies.iterative_mcts import IterativeMCTS
from nas_ext.strategies.learned_tree import LearnedTree
from nas_ext.strategies.mcts import MCTS
from nas_ext.strategies.pada import PADA
from nas_ext.strategies.prototype_density import PrototypeDensity
from nas_ext.strategies.registry import STRATEGIES, StrategyEntry
from nas_ext.strategies.resolution_darts import ResolutionDARTS
from nas_ext.strategies.strict_fairness import StrictFairness
from nas_ext.strategies.uniform import Uniform

__all__ = [
    "GAEA",
    "MCTS",
    "PADA",
    "STRATEGIES",
    "BalancedMixture",
    "Boltzmann",
    "DensityAware",
    "Independent",
    "IterativeMCTS",
    "LearnedTree",
    "PrototypeDensity",
    "ResolutionDARTS",
    "StrategyEntry",
    "StrictFairness",
    "Uniform",
]

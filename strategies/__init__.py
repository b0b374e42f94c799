"""Strategies: drop-in one-shot strategies for NNI, one file a method."""

from nas_ext.strategies.learned_tree import LearnedTree
from nas_ext.strategies.mcts import MCTS
from nas_ext.strategies.registry import STRATEGIES, StrategyEntry
from nas_ext.strategies.uniform import Uniform

__all__ = ["MCTS", "STRATEGIES", "LearnedTree", "StrategyEntry", "Uniform"]

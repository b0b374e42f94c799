"""Samplers: who is trained next, and what is learned from it."""

from nas_ext.samplers.base import Sampler
from nas_ext.samplers.boltzmann import BoltzmannSampler
from nas_ext.samplers.communication import Broadcast, SharedValues
from nas_ext.samplers.data_importance import DataImportance
from nas_ext.samplers.independent import IndependentSampler
from nas_ext.samplers.mixture import MixtureSampler, TabularMixtureSampler
from nas_ext.samplers.mixture_space import MixtureSpace
from nas_ext.samplers.path_importance import PathImportanceSampler
from nas_ext.samplers.prototype import PrototypeSampler
from nas_ext.samplers.strict_fair import StrictFairSampler
from nas_ext.samplers.tree import TreeSampler
from nas_ext.samplers.uniform import UniformSampler
from nas_ext.samplers.weighted import WeightedSampler
from nas_ext.samplers.weighted_tree import WeightedTreeSampler

__all__ = [
    "BoltzmannSampler",
    "Broadcast",
    "DataImportance",
    "IndependentSampler",
    "MixtureSampler",
    "MixtureSpace",
    "PathImportanceSampler",
    "PrototypeSampler",
    "Sampler",
    "SharedValues",
    "StrictFairSampler",
    "TabularMixtureSampler",
    "TreeSampler",
    "UniformSampler",
    "WeightedSampler",
    "WeightedTreeSampler",
]

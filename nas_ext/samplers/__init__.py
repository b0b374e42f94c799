"""Samplers: who is trained next, and what is learned from it."""

from nas_ext.samplers.base import Sampler
from nas_ext.samplers.tree import TreeSampler
from nas_ext.samplers.uniform import UniformSampler

__all__ = ["Sampler", "TreeSampler", "UniformSampler"]

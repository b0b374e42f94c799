"""Second-stage searches: choose among architectures whose weights no longer change."""

from nas_ext.selection.evolution import Evolution, evolution, evolve
from nas_ext.selection.exploration import boltzmann, explore
from nas_ext.selection.ranking import distinct_networks, exhaustive, random_k, rank

__all__ = [
    "Evolution",
    "boltzmann",
    "distinct_networks",
    "evolution",
    "evolve",
    "exhaustive",
    "explore",
    "random_k",
    "rank",
]

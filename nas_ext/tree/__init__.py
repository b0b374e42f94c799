"""Trees over the architectures of a space: what they are, how they are built and walked."""

from nas_ext.tree.clusters import Clustering, Linkage, cluster_rows, cluster_tree
from nas_ext.tree.leaves import draw_leaves, leaf_probabilities
from nas_ext.tree.nodes import (
    BinaryTree,
    LayerTree,
    Node,
    Tree,
    layer_tree,
    prefix_of,
    tree_from_state,
)
from nas_ext.tree.ranks import caterpillar_tree, rank_tree
from nas_ext.tree.walk import (
    Balance,
    Unvisited,
    ValueOf,
    backup,
    descend,
    fair_shares,
    most_valued_leaf,
    selection_probabilities,
    unbiased,
)

__all__ = [
    "Balance",
    "BinaryTree",
    "Clustering",
    "LayerTree",
    "Linkage",
    "Node",
    "Tree",
    "Unvisited",
    "ValueOf",
    "backup",
    "caterpillar_tree",
    "cluster_rows",
    "cluster_tree",
    "descend",
    "draw_leaves",
    "fair_shares",
    "layer_tree",
    "leaf_probabilities",
    "most_valued_leaf",
    "prefix_of",
    "rank_tree",
    "selection_probabilities",
    "tree_from_state",
    "unbiased",
]

"""Monte-Carlo tree search over the default tree."""

from __future__ import annotations

from dataclasses import dataclass

from nas_ext.schedule import split
from nas_ext.search import Phase
from nas_ext.strategies.tree_strategy import TreeStrategy, check_shares
from nas_ext.tree import layer_tree

__all__ = ["MCTS"]


@dataclass(kw_only=True, eq=False)
class MCTS(TreeStrategy):
    """Search the tree with one level a layer and one child an operation.

    Two phases: uniform draws over architectures whose rewards fill the tree, then walks. The
    split 65 to 35 is ours: it gives the walks the share that `LearnedTree` has. Source: section
    3.3. Draws of the first phase are uniform over leaves; a uniform choice at each branch would
    spend a quarter of them on the worst pooling architecture.
    """

    shares: tuple[float, float] = (0.65, 0.35)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_shares(self.shares, 2)

    def phases(self, steps: int) -> tuple[Phase, ...]:
        warm, search = split(steps, self.shares)
        return (
            self.warm_up("warm-up", warm, lambda s: layer_tree(s.space)),
            self.walks("search", search),
        )

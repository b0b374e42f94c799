"""Monte-Carlo tree search over the default tree."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from nas_ext.architecture import SearchSpace
from nas_ext.oneshot import accuracy
from nas_ext.reward_shaping import Quantity, RelativeReward
from nas_ext.samplers import TreeSampler
from nas_ext.samplers.communication import Broadcast, Communication, SharedValues
from nas_ext.schedule import Schedule, split
from nas_ext.search import Phase, Setting
from nas_ext.strategies.tree_strategy import GrowTree, TreeStrategy, check_shares
from nas_ext.tree import layer_tree

__all__ = ["MCTS"]


@dataclass(kw_only=True, eq=False)
class MCTS(TreeStrategy):
    """Search the tree with one level a layer and one child an operation.

    Two phases: uniform draws over architectures whose rewards fill the tree, then walks. The
    split 65 to 35 is ours: it gives the walks the share that `LearnedTree` has. Source: section
    3.3. Draws of the first phase are uniform over leaves; a uniform choice at each branch would
    spend a quarter of them on the worst pooling architecture.

    `communication` lets the nodes of one level with one operation learn from each other (section
    3.4, after Su et al. 2021): "shared" adds `communication_weight` times the operation's own
    moving average to their scores, "broadcast" moves the values of all of them, as the thesis
    words it. `communication_decay` is the decay of that average, or of the values that are moved.
    The constants are recalled from the literature, not printed.

    `relative` puts each reward against the running mean of all, see `RelativeReward`, and leaves
    the final ranking on the rewards themselves. "accuracy" is what the thesis finds best for
    communication on NAS-Bench-Macro, though its averages favour absolute rewards, which are the
    default; "loss" takes the reward for exp(-loss), so that `reward` must be
    `nas_ext.oneshot.reward_variants.likelihood` or alike. Table I-2's rewards on training data
    are `OnTrainingBatch` there.
    """

    communication: Literal["shared", "broadcast"] | None = None
    communication_weight: float = 1.0
    communication_decay: float = 0.99
    relative: Quantity | None = None
    shares: tuple[float, float] = (0.65, 0.35)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.communication not in (None, "shared", "broadcast"):
            raise ValueError(
                f"communication must be shared, broadcast or None, got {self.communication!r}"
            )
        if not 0 <= self.communication_weight < math.inf:
            raise ValueError(
                f"communication_weight must not be negative, got {self.communication_weight}"
            )
        if not 0 <= self.communication_decay < 1:
            raise ValueError(
                f"communication_decay must lie in [0, 1), got {self.communication_decay}"
            )
        if self.relative not in (None, "accuracy", "loss"):
            raise ValueError(f"relative must be accuracy, loss or None, got {self.relative!r}")
        if self.relative == "loss" and self.reward is accuracy:
            raise ValueError("reward must be exp(-loss) for relative='loss', got accuracy")
        check_shares(self.shares, 2)

    def phases(self, steps: int) -> tuple[Phase, ...]:
        warm, search = split(steps, self.shares)
        return (
            self.warm_up("warm-up", warm, lambda s: layer_tree(s.space)),
            self.walks("search", search),
        )

    def _sampler(
        self, setting: Setting, grow: GrowTree, temperature: Schedule | None
    ) -> TreeSampler:
        sampler = super()._sampler(setting, grow, temperature)
        before = setting.previous
        if isinstance(before, TreeSampler):
            sampler.communication, sampler.relative = before.communication, before.relative
        else:
            sampler.communication = self._communication(setting.space)
            if self.relative is not None:
                sampler.relative = RelativeReward(of=self.relative, decay=self.decay)
        return sampler

    def _communication(self, space: SearchSpace) -> Communication | None:
        if self.communication == "shared":
            return SharedValues(
                space,
                weight=self.communication_weight,
                decay=self.communication_decay,
                node_decay=self.decay,
                initial=self.initial_value,
            )
        if self.communication == "broadcast":
            return Broadcast(
                decay=self.communication_decay, node_decay=self.decay, initial=self.initial_value
            )
        return None

"""Settings of the strategies whose samplers learn from rewards."""

from __future__ import annotations

from dataclasses import dataclass

from nas_ext.oneshot import SampledStrategy, accuracy
from nas_ext.reward_shaping import Quantity, RelativeReward
from nas_ext.search import Setting

__all__ = ["RewardedStrategy"]


@dataclass(kw_only=True, eq=False)
class RewardedStrategy(SampledStrategy):
    """A strategy that draws by the rewards of what it drew before.

    The rewards of Table I-2 are {absolute, relative} x {accuracy, loss} x {validation, training}.
    `reward` says which quantity on which data: `accuracy`, `likelihood` for a loss, and
    `OnTrainingBatch(...)` around either for training data. `relative` puts each reward against
    the running mean of all, see `RelativeReward`: "accuracy" any share, "loss" one that is
    exp(-loss), as `likelihood` is. Its values are a quarter as far apart as the published ratios,
    and so is the temperature that sharpens them alike. The mean moves by `decay`, goes on from
    phase to phase of a search and starts again with the weights. Final rankings are by the reward
    itself. Section 1.3. Absolute accuracy on validation data is the default, as there.
    """

    relative: Quantity | None = None
    decay: float = 0.95

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay must lie in [0, 1), got {self.decay}")
        if self.relative not in (None, "accuracy", "loss"):
            raise ValueError(f"relative must be accuracy, loss or None, got {self.relative!r}")
        if self.relative == "loss" and _is_accuracy(self.reward):
            raise ValueError("reward must be exp(-loss) for relative='loss', got accuracy")

    def shaping(self, setting: Setting) -> RelativeReward | None:
        """Return what makes the rewards of a phase relative: that of the phase before, or new."""
        if self.relative is None:
            return None
        before = None if setting.previous is None else setting.previous.relative
        return before or RelativeReward(of=self.relative, decay=self.decay)


def _is_accuracy(reward: object) -> bool:
    """Say whether a reward is the accuracy, on validation or on training data."""
    return getattr(reward, "reward", reward) is accuracy

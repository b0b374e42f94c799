"""The only code that touches NNI's one-shot machinery."""

from nas_ext.oneshot.checkpoints import last_checkpoint
from nas_ext.oneshot.differentiable import DifferentiableModule, DifferentiableStrategy
from nas_ext.oneshot.diverging import SearchDiverged
from nas_ext.oneshot.experiment import SearchExperiment
from nas_ext.oneshot.mixed import MixedLayer
from nas_ext.oneshot.module import SearchModule
from nas_ext.oneshot.progress import SearchProgress
from nas_ext.oneshot.quiet import quiet
from nas_ext.oneshot.resuming import SearchCheckpoint
from nas_ext.oneshot.reward_variants import OnTrainingBatch, likelihood
from nas_ext.oneshot.rewards import Reward, accuracy, logged
from nas_ext.oneshot.spaces import search_space
from nas_ext.oneshot.strategy import SampledStrategy
from nas_ext.oneshot.supernet import Supernet
from nas_ext.oneshot.training import SupernetTraining

__all__ = [
    "DifferentiableModule",
    "DifferentiableStrategy",
    "MixedLayer",
    "OnTrainingBatch",
    "Reward",
    "SampledStrategy",
    "SearchCheckpoint",
    "SearchDiverged",
    "SearchExperiment",
    "SearchModule",
    "SearchProgress",
    "Supernet",
    "SupernetTraining",
    "accuracy",
    "last_checkpoint",
    "likelihood",
    "logged",
    "quiet",
    "search_space",
]

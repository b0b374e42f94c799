"""What is taken from NNI, imported in the one order and silence that works.

`nni.nas.strategy` comes before anything under `nni.nas.oneshot`: the other order leaves stand-ins
where NNI's own strategies were. Two warnings of NNI about classes that torch gained later are
dropped; they say nothing about a user's code. The first import of all holds a lock.
"""

from __future__ import annotations

import logging
import warnings
from importlib import import_module, reload

from nas_ext.first_import import alone_at_first

with alone_at_first(), warnings.catch_warnings():
    warnings.filterwarnings("ignore", message=".*is found to be not a nn.Module.*")
    _strategies = import_module("nni.nas.strategy")
    if _strategies.DARTS.__name__ != "DARTS":  # a stand-in: somebody imported in the other order
        reload(import_module("nni.nas.strategy.oneshot"))
        reload(_strategies)

from nni.mutable import Categorical, CategoricalMultiple, SampleValidationError
from nni.nas.evaluator.pytorch.lightning import Lightning, LightningModule, Trainer
from nni.nas.experiment import NasExperiment, NasExperimentConfig
from nni.nas.nn.pytorch import Cell, LayerChoice, ModelSpace, MutableModule
from nni.nas.oneshot.pytorch.base_lightning import BaseOneShotLightningModule
from nni.nas.oneshot.pytorch.strategy import OneShotStrategy
from nni.nas.oneshot.pytorch.supermodule.base import BaseSuperNetModule
from nni.nas.oneshot.pytorch.supermodule.operation import (
    MixedBatchNorm2d,
    MixedConv2d,
    MixedLinear,
)
from nni.nas.oneshot.pytorch.supermodule.sampling import PathSamplingLayer
from nni.nas.space import RawFormatModelSpace, current_model
from nni.nas.strategy import DARTS, RandomOneShot

__all__ = [
    "DARTS",
    "BaseOneShotLightningModule",
    "BaseSuperNetModule",
    "Categorical",
    "CategoricalMultiple",
    "Cell",
    "LayerChoice",
    "Lightning",
    "LightningModule",
    "MixedBatchNorm2d",
    "MixedConv2d",
    "MixedLinear",
    "ModelSpace",
    "MutableModule",
    "NasExperiment",
    "NasExperimentConfig",
    "OneShotStrategy",
    "PathSamplingLayer",
    "RandomOneShot",
    "RawFormatModelSpace",
    "SampleValidationError",
    "Trainer",
    "current_model",
]


class _Once(logging.Filter):
    """Let each text through one time: NNI repeats some for every copy of a configuration."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        new = text not in self._seen
        self._seen.add(text)
        return new


logging.getLogger("nni.nas.experiment.config.experiment").addFilter(_Once())

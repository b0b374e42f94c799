"""The hooks of a user's Lightning module, called though another module wraps it."""

from __future__ import annotations

from types import MethodType
from typing import Any

from pytorch_lightning.utilities.model_helpers import is_overridden

from nas_ext.nni import LightningModule

__all__ = ["adopt_hooks"]

_NAMES = (
    "backward",
    "configure_callbacks",
    "configure_gradient_clipping",
    "configure_model",
    "configure_sharded_model",
    "lr_scheduler_step",
    "on_after_batch_transfer",
    "on_before_batch_transfer",
    "on_before_optimizer_step",
    "on_before_zero_grad",
    "on_predict_batch_end",
    "on_predict_batch_start",
    "on_predict_end",
    "on_predict_epoch_end",
    "on_predict_epoch_start",
    "on_predict_model_eval",
    "on_predict_start",
    "on_test_batch_end",
    "on_test_batch_start",
    "on_test_end",
    "on_test_epoch_end",
    "on_test_epoch_start",
    "on_test_model_eval",
    "on_test_model_train",
    "on_test_start",
    "on_validation_batch_end",
    "on_validation_batch_start",
    "on_validation_epoch_end",
    "on_validation_epoch_start",
    "on_validation_model_eval",
    "on_validation_model_train",
    "on_validation_model_zero_grad",
    "optimizer_zero_grad",
    "predict_step",
    "prepare_data",
    "test_step",
    "transfer_batch_to_device",
)
"""The hooks that NNI's base module does not pass on to the user's."""


def adopt_hooks(wrapper: Any, module: Any) -> None:
    """Let a wrapper have the hooks that the module overrides.

    Only those: Lightning looks whether some are overridden, and does its own when they are not.
    A wrapper's `validation_step` goes away when the module has none, so that Lightning says that
    there is nothing to validate with.
    """
    for name in _NAMES:
        if is_overridden(name, module):
            setattr(wrapper, name, getattr(module, name))
    if not is_overridden("validation_step", module):
        wrapper.validation_step = MethodType(LightningModule.validation_step, wrapper)

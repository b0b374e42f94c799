"""What Lightning does at every step for nobody, left out."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, TypeVar

import torch
from pytorch_lightning.profilers import PassThroughProfiler

from nas_ext.nni import BaseOneShotLightningModule, LightningModule

__all__ = ["LeanModule", "signed"]

Function = TypeVar("Function", bound=Callable[..., Any])

_PLAIN = frozenset({"_asked", "_current_fx_name", "_undrawn"})
"""Attributes that are no module, parameter or buffer and are set at every step."""

_TRANSFER = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")

_NOTHING = nullcontext()


def signed(function: Function) -> Function:
    """Let a function carry its signature, which Lightning makes anew at every step otherwise."""
    function.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return function


class LeanModule(BaseOneShotLightningModule):  # type: ignore[misc]  # NNI has no types
    """Skip what would change nothing, and only then.

    Batches that lie where they should, when nobody wrote a hook that moves them; clipping without
    a bound; the sections of a profiler that notes none; torch's search for parameters among the
    attributes of every step.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _PLAIN:
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def setup(self, stage: str = "fit") -> None:
        super().setup(stage)
        if type(profiler := self.trainer.profiler) is PassThroughProfiler:
            vars(profiler)["profile"] = _no_section

    def _on_before_batch_transfer(self, batch: Any, dataloader_idx: int = 0) -> Any:
        if self._stays(batch):
            return batch
        return super()._on_before_batch_transfer(batch, dataloader_idx)

    def _apply_batch_transfer_handler(
        self, batch: Any, device: torch.device | None = None, dataloader_idx: int = 0
    ) -> Any:
        if (device or self.device).type == "cpu" and self._stays(batch):
            return batch
        return super()._apply_batch_transfer_handler(batch, device, dataloader_idx)

    def _stays(self, batch: Any) -> bool:
        """Say whether a batch is made of tensors on the processor and no hook asks for it."""
        if type(batch) not in (tuple, list) or self.device.type != "cpu":
            return False
        if not all(type(part) is torch.Tensor and part.is_cpu for part in batch):
            return False
        own, kind = vars(self), type(self)
        return self.trainer.datamodule is None and not any(
            name in own or getattr(kind, name) is not getattr(LightningModule, name)
            for name in _TRANSFER
        )

    def clip_gradients(
        self,
        optimizer: Any,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        asked = gradient_clip_val, gradient_clip_algorithm, self.trainer.gradient_clip_val
        if self.fabric is not None or any(value is not None for value in asked):
            super().clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)


def _no_section(name: str) -> Any:
    return _NOTHING

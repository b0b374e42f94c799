"""Mixed precision: which numbers a network computes with, and gradients that do not vanish."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

_KINDS = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def precision(amp: bool | str, device: torch.device) -> torch.dtype | None:
    """Return the numbers that `amp` asks for on a device, None for float32.

    True is bfloat16 on GPUs that compute with it, and float16 on others. Raises ValueError for
    other devices, where it was measured to be slower: a CPU takes `"bfloat16"`, by that name.
    """
    if amp is False:
        return None
    if amp is not True and amp not in _KINDS:
        raise ValueError(f"amp must be False, True, 'bfloat16' or 'float16', got {amp!r}")
    if device.type == "cuda":
        if amp is not True:
            return _KINDS[amp]
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float16
    if device.type == "cpu" and amp == "bfloat16":
        return torch.bfloat16
    raise ValueError(
        f"amp must be False on {device.type}: it is for GPUs (a CPU, slower with it, takes "
        f"'bfloat16'), got {amp!r}"
    )


class Precision:
    """Run forward passes in `dtype` (None: as they are) and scale float16's gradients."""

    def __init__(self, dtype: torch.dtype | None, device: torch.device) -> None:
        self._dtype = dtype
        self._device = device.type
        self._scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)

    def forward(self) -> AbstractContextManager[object]:
        """Return the context of a forward pass."""
        if self._dtype is None:
            return nullcontext()
        return torch.autocast(self._device, self._dtype)

    def update(
        self, loss: Tensor, optimizer: Optimizer, model: nn.Module, clip_grad: float | None
    ) -> None:
        """Make one optimizer step; float16's is left out where a gradient is not finite."""
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        if clip_grad is not None:
            self._scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), clip_grad)
        self._scaler.step(optimizer)
        self._scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """Return the scale and how long it has held; empty unless float16."""
        return dict(self._scaler.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the scale of `state_dict`'s state."""
        if state:
            self._scaler.load_state_dict(state)

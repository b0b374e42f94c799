"""Losses and weights that are no numbers any more: found out early, and named."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from nas_ext.architecture import Architecture

__all__ = ["FiniteLosses", "SearchDiverged"]

EVERY = 50
"""The most losses that are not looked at yet: looking makes a GPU wait."""

REMEDY = (
    "lower the learning rate, or clip gradients (gradient_clip_val of the trainer); no checkpoint "
    "holds such weights, the last one is from before"
)


_Place = tuple[int, float, str] | None


class SearchDiverged(FloatingPointError):
    """Report losses, outputs or weights that became infinite or NaN: at which step, by what."""


class FiniteLosses:
    """Watch that losses stay finite, so that no sampler and no checkpoint learns from others.

    On a processor every loss is looked at as it comes, before its gradients are. On a GPU that
    would make every step wait, so losses are looked at together: after the rewards of a step, for
    which it waits anyhow, and without rewards every 50, at the ends of phases and of training,
    and before a checkpoint. Before checkpoints and the ranking the weights are looked at, too.
    `describe` names an architecture in messages.
    """

    def __init__(self, describe: Callable[[Architecture], str]) -> None:
        self._describe = describe
        self._held: list[tuple[Tensor, _Place, Architecture]] = []
        self._place: _Place = None

    def at(self, step: int, steps: float, phase: str) -> None:
        """Note the step that begins, for messages."""
        self._place = step, steps, phase

    def noted(self, given: Any, architecture: Architecture = ()) -> Any:
        """Return what a training step gave, once its loss is looked at, or kept for that.

        Raises SearchDiverged.
        """
        loss = given.get("loss") if isinstance(given, Mapping) else given
        if isinstance(loss, Tensor):
            if loss.device.type != "cpu":
                self._held.append((loss.detach(), self._place, architecture))
                if len(self._held) >= EVERY:
                    self.check()
            elif not math.isfinite(value := float(loss.detach())):
                raise self._became(value, self._place, architecture)
        return given

    def check(self, weights: Iterable[Tensor] = ()) -> None:
        """Look at all losses since the last time, and at weights; raise SearchDiverged."""
        held, self._held = self._held, []
        if held:
            values = torch.stack([loss.float().sum() for loss, _, _ in held]).tolist()
            for value, (_, place, architecture) in zip(values, held, strict=True):
                if not math.isfinite(value):
                    raise self._became(value, place, architecture)
        finite = [weight.isfinite().all() for weight in weights if weight.is_floating_point()]
        if finite and not bool(torch.stack(finite).all()):
            raise self.diverged("weights")

    def diverged(self, what: str, architecture: Architecture = ()) -> SearchDiverged:
        """Return the error of something else that became infinite or NaN, to be raised."""
        return self._error(f"{what} became infinite or NaN", self._place, architecture)

    def _became(self, loss: float, place: _Place, architecture: Architecture) -> SearchDiverged:
        return self._error(f"the loss became {loss}", place, architecture)

    def _error(self, said: str, place: _Place, architecture: Architecture) -> SearchDiverged:
        if place is not None:
            said += " at step {} of {:.0f}, in phase {!r}".format(*place)
        if architecture:
            said += f", architecture {self._describe(architecture)}"
        return SearchDiverged(f"{said}: {REMEDY}")

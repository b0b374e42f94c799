"""Calling a user's step with as many arguments as it takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

__all__ = ["call_step"]


def call_step(step: Callable[..., Any], batch: Any, *rest: Any) -> Any:
    """Call `training_step` or `validation_step`; Lightning lets both leave out the batch index."""
    kinds = [parameter.kind for parameter in inspect.signature(step).parameters.values()]
    takes = sum(kind in (_POSITIONAL, inspect.Parameter.POSITIONAL_ONLY) for kind in kinds)
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        takes = len(rest) + 1
    return step(batch, *rest[: max(0, takes - 1)])


_POSITIONAL = inspect.Parameter.POSITIONAL_OR_KEYWORD

"""Calling a user's step with as many arguments as it takes."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any

__all__ = ["call_step"]


def call_step(step: Callable[..., Any], batch: Any, *rest: Any) -> Any:
    """Call `training_step` or `validation_step`; Lightning lets both leave out the batch index."""
    takes = _positional(getattr(step, "__func__", step))
    bound = hasattr(step, "__func__")
    return step(batch, *rest[: max(0, takes - bound - 1)])


@lru_cache(maxsize=64)
def _positional(function: Callable[..., Any]) -> int:
    """Return how many positional arguments a function takes; looked up once, for speed."""
    kinds = [parameter.kind for parameter in inspect.signature(function).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return sys.maxsize
    return sum(kind in (_POSITIONAL, inspect.Parameter.POSITIONAL_ONLY) for kind in kinds)


_POSITIONAL = inspect.Parameter.POSITIONAL_OR_KEYWORD

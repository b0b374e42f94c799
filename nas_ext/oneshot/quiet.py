"""Runs without the messages of NNI and Lightning that tell a user nothing."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quiet"]

_LOGGERS = ("pytorch_lightning", "pytorch_lightning.utilities.rank_zero")

_WARNINGS = (
    "When using training service to spawn trials.*",  # no training service is used
    ".*LeafSpec.* is deprecated.*",  # Lightning's own use of torch
    ".*does not have many workers.*",  # the images lie in memory
    "Direct export from RandomOneShot.*",  # said in the documentation of whoever calls it
)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep NNI from printing, Lightning to warnings, and drop their warnings about themselves.

    NNI prints to standard output, where results go. Its log file keeps everything, and errors are
    raised all the same. Restores what it found.
    """
    handlers = [
        handler
        for handler in logging.getLogger("nni").handlers
        if type(handler) is logging.StreamHandler
    ]
    levels = [handler.level for handler in handlers]
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [logger.level for logger in loggers]
    try:
        for handler in handlers:
            handler.setLevel(logging.CRITICAL + 1)
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        with warnings.catch_warnings():
            for message in _WARNINGS:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        for handler, level in zip(handlers, levels, strict=True):
            handler.setLevel(level)
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)

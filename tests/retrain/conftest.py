"""A small task and a small network for the tests of retraining."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from nas_ext.data import ImageData, digits
from nas_ext.retrain import Recipe


def small_digits() -> ImageData:
    """Digits, with 150 of the training images."""
    everything = digits(seed=0)
    return replace(everything, train=everything.train.select(torch.arange(150)))


def tiny_network() -> nn.Module:
    """A network with batch norm and dropout, so that running statistics and draws matter."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(64, 10),
    )


@pytest.fixture(scope="session")
def data() -> ImageData:
    """The small task."""
    return small_digits()


@pytest.fixture
def build() -> Callable[[], nn.Module]:
    """What makes the small network, as `fit` calls it."""
    return tiny_network


@pytest.fixture
def build_from() -> Callable[[Recipe], nn.Module]:
    """What makes the small network, as a study calls it."""
    return lambda recipe: tiny_network()

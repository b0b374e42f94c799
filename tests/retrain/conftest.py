"""A small task and small networks for the tests of retraining."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from nas_ext.data import ImageData, digits
from nas_ext.retrain import Recipe


@pytest.fixture(scope="session")
def data() -> ImageData:
    """Digits, with 150 of the training images."""
    everything = digits(seed=0)
    return replace(everything, train=everything.train.select(torch.arange(150)))


@pytest.fixture
def build() -> Callable[[], nn.Module]:
    """A network with batch norm and dropout, so that running statistics and draws matter."""

    def tiny() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.1),
            nn.Linear(64, 10),
        )

    return tiny


@pytest.fixture
def build_from(build: Callable[[], nn.Module]) -> Callable[[Recipe], nn.Module]:
    """The same network, as a study builds it."""
    return lambda recipe: build()

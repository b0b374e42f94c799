"""Model spaces, one file a family."""

from nas_ext.spaces.blocks import PathSamplingPoolSlot, PoolSlot, supernet_norm
from nas_ext.spaces.pooling_resnet import PoolingNetwork, PoolingResNet
from nas_ext.spaces.registry import SPACES, Space, SpaceEntry, create
from nas_ext.spaces.resolution_resnet import (
    AtResolution,
    ResolutionNetwork,
    ResolutionResNet,
)

__all__ = [
    "SPACES",
    "AtResolution",
    "PathSamplingPoolSlot",
    "PoolSlot",
    "PoolingNetwork",
    "PoolingResNet",
    "ResolutionNetwork",
    "ResolutionResNet",
    "Space",
    "SpaceEntry",
    "create",
    "supernet_norm",
]

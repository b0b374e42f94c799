"""Model spaces, one file a family."""

from nas_ext.spaces.blocks import PathSamplingPoolSlot, PoolSlot, supernet_norm
from nas_ext.spaces.pooling_resnet import PoolingNetwork, PoolingResNet
from nas_ext.spaces.registry import SPACES, Space, SpaceEntry, create

__all__ = [
    "SPACES",
    "PathSamplingPoolSlot",
    "PoolSlot",
    "PoolingNetwork",
    "PoolingResNet",
    "Space",
    "SpaceEntry",
    "create",
    "supernet_norm",
]

"""Model spaces, one file a family."""

from nas_ext.spaces.autodeeplab import AutoDeepLabMacro
from nas_ext.spaces.blocks import PathSamplingPoolSlot, PoolSlot, supernet_norm
from nas_ext.spaces.chain_network import ChainNetwork
from nas_ext.spaces.chain_space import ChainModelSpace
from nas_ext.spaces.deeplab_network import DeepLabNetwork
from nas_ext.spaces.limits import limit_macs
from nas_ext.spaces.mobilenet import MobileNetV2Space
from nas_ext.spaces.nasbench201 import NASBench201, NASBench201Network
from nas_ext.spaces.nasbench_macro import NASBenchMacro
from nas_ext.spaces.pooling_resnet import PoolingNetwork, PoolingResNet
from nas_ext.spaces.registry import SPACES, Space, SpaceEntry, create
from nas_ext.spaces.resolution_resnet import (
    AtResolution,
    ResolutionNetwork,
    ResolutionResNet,
)
from nas_ext.spaces.strided_network import StridedNetwork
from nas_ext.spaces.strided_resnet import StridedResNet
from nas_ext.spaces.timm_models import build_found
from nas_ext.spaces.timm_network import TimmNetwork

__all__ = [
    "SPACES",
    "AtResolution",
    "AutoDeepLabMacro",
    "ChainModelSpace",
    "ChainNetwork",
    "DeepLabNetwork",
    "MobileNetV2Space",
    "NASBench201",
    "NASBench201Network",
    "NASBenchMacro",
    "PathSamplingPoolSlot",
    "PoolSlot",
    "PoolingNetwork",
    "PoolingResNet",
    "ResolutionNetwork",
    "ResolutionResNet",
    "Space",
    "SpaceEntry",
    "StridedNetwork",
    "StridedResNet",
    "TimmNetwork",
    "build_found",
    "create",
    "limit_macs",
    "supernet_norm",
]

"""Layers with searched arguments, in a form that leaves a supernet with its weights."""

from __future__ import annotations

from typing import Any

from nas_ext.nni import MixedBatchNorm2d, MixedConv2d, MixedLinear

__all__ = ["MIXED_OPERATION_HOOKS"]


class _OnlyWhatThereIs:
    """Leave out of a frozen layer's weights what the layer has none of."""

    def freeze_weight(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the part of the weights that a layer with these arguments has."""
        weights: dict[str, Any] = super().freeze_weight(*args, **kwargs)  # type: ignore[misc]  # NNI's
        return {name: value for name, value in weights.items() if value is not None}


class _Conv2d(_OnlyWhatThereIs, MixedConv2d):  # type: ignore[misc]  # NNI has no types
    """Stand for NNI's `MutableConv2d`."""


class _Linear(_OnlyWhatThereIs, MixedLinear):  # type: ignore[misc]  # NNI has no types
    """Stand for NNI's `MutableLinear`."""


class _BatchNorm2d(_OnlyWhatThereIs, MixedBatchNorm2d):  # type: ignore[misc]  # NNI has no types
    """Stand for NNI's `MutableBatchNorm2d`."""


MIXED_OPERATION_HOOKS = (_Conv2d.mutate, _Linear.mutate, _BatchNorm2d.mutate)
"""NNI's mutation hooks of such layers, to be called before its own.

Its own mixed layers give a frozen layer without a bias the bias None, which torch refuses to
load: no architecture of `ProxylessNAS` or `MobileNetV3Space` could leave a supernet with weights.
"""

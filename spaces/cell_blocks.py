"""What cells of NAS-Bench-201 are made of: operations, the sums at their nodes, reductions."""

from __future__ import annotations

from collections.abc import Sequence

from timm.layers.conv_bn_act import ConvNormAct
from timm.layers.drop import DropPath
from torch import Tensor, nn

from nas_ext.cell import EDGES, KERNELS
from nas_ext.spaces.blocks import NormLayer

__all__ = ["Cell", "ReLUConvNorm", "Reduction", "Zero", "operation_layer"]


class Zero(nn.Module):
    """Return zeros of the input's shape, through which nothing flows back."""

    def forward(self, x: Tensor) -> Tensor:
        return x.new_zeros(x.shape)


class ReLUConvNorm(ConvNormAct):
    """Apply ReLU, convolution and norm, in this order; drop all of it for some images."""

    def __init__(
        self,
        in_chs: int,
        out_chs: int,
        kernel_size: int,
        stride: int = 1,
        *,
        norm_layer: NormLayer,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__(
            in_chs, out_chs, kernel_size, stride, norm_layer=norm_layer, apply_act=False
        )
        self.act = nn.ReLU()  # not in place: other edges read the same node
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        convolved: Tensor = super().forward(self.act(x))  # type: ignore[no-untyped-call]  # timm's
        dropped: Tensor = self.drop_path(convolved)
        return dropped


def operation_layer(
    name: str, chs: int, *, norm_layer: NormLayer, drop_path: float = 0.0
) -> nn.Module:
    """Return what an edge with this operation is."""
    if name == "none":
        return Zero()
    if name == "skip_connect":
        return nn.Identity()
    if name == "avg_pool_3x3":
        return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    return ReLUConvNorm(chs, chs, KERNELS[name], norm_layer=norm_layer, drop_path=drop_path)


class Cell(nn.Module):
    """Sum at every node what its edges bring from the nodes before; put out the last node."""

    def __init__(self, edges: Sequence[nn.Module]) -> None:
        super().__init__()
        if len(edges) != len(EDGES):
            raise ValueError(f"edges must be {len(EDGES)} layers, got {len(edges)}")
        self.edges = nn.ModuleList(edges)

    def forward(self, x: Tensor) -> Tensor:
        nodes = [x]
        incoming: list[Tensor] = []
        for (into, source), edge in zip(EDGES, self.edges, strict=True):
            incoming.append(edge(nodes[source]))
            if len(incoming) == into:  # all edges of the node
                nodes.append(sum(incoming[1:], incoming[0]))
                incoming = []
        return nodes[-1]


class Reduction(nn.Module):
    """Halve the resolution and change the channels: two convolutions, and a pooled shortcut.

    The shortcut is 2x2 averaging and a 1x1 convolution without norm. Departure: sides that are
    odd are rounded up there too, where the published block fails.
    """

    def __init__(
        self, in_chs: int, out_chs: int, *, norm_layer: NormLayer, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        self.conv_a = ReLUConvNorm(in_chs, out_chs, 3, stride=2, norm_layer=norm_layer)
        self.conv_b = ReLUConvNorm(out_chs, out_chs, 3, norm_layer=norm_layer, drop_path=drop_path)
        self.pool = nn.AvgPool2d(2, stride=2, ceil_mode=True, count_include_pad=False)
        self.conv_skip = nn.Conv2d(in_chs, out_chs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        shortcut: Tensor = self.conv_skip(self.pool(x))
        residual: Tensor = self.conv_b(self.conv_a(x))
        return shortcut + residual

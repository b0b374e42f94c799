"""The model space of a chain: every layer chooses among the same options."""

from __future__ import annotations

from typing import Any

from torch import nn

from nas_ext.additive_cost import AdditiveCost
from nas_ext.architecture import Architecture
from nas_ext.chain import ChainSpace
from nas_ext.chain_costs import macs_table, parameter_table
from nas_ext.nni import LayerChoice, ModelSpace, current_model
from nas_ext.spaces.blocks import supernet_norm
from nas_ext.spaces.chain_network import Activation, ChainLayers, ChainNetwork, chain_layer
from nas_ext.spaces.checks import check_positive

__all__ = ["ChainModelSpace"]


class ChainModelSpace(ChainLayers, ModelSpace):  # type: ignore[misc]  # NNI has no types
    """Search the layers of a chain; every layer is one of NNI's `LayerChoice`s.

    Built to be searched, its norm layers are `supernet_norm`: batch statistics, no parameters.
    Built under NNI's `model_context(sample)`, it is that architecture with ordinary batch norm,
    ready for training from scratch. `network` gives the same without NNI. NNI's `freeze(sample)`
    keeps the supernet's weights and norm. Subclasses say which plan.
    """

    def __init__(
        self,
        search_space: ChainSpace,
        *,
        activation: Activation,
        num_classes: int,
        in_chs: int,
    ) -> None:
        super().__init__()
        check_positive(num_classes=num_classes, in_chs=in_chs)
        self.search_space = search_space
        self.plan = plan = search_space.plan
        self.activation: Activation = activation
        self.num_classes = num_classes
        self.in_chs = in_chs
        norm_layer = supernet_norm if current_model() is None else nn.BatchNorm2d
        layers = (
            LayerChoice(
                {
                    name: chain_layer(layer, option, activation=activation, norm_layer=norm_layer)
                    for name, option in zip(plan.names, plan.options, strict=True)
                },
                label=choice.label,
            )
            for layer, choice in zip(plan.layers, search_space.choices, strict=True)
        )
        self.build(
            plan,
            layers,
            num_classes=num_classes,
            in_chs=in_chs,
            activation=activation,
            norm_layer=norm_layer,
        )

    @property
    def default_architecture(self) -> Architecture | None:
        """Return None: no chain is the usual one."""
        return None

    @property
    def arguments(self) -> dict[str, Any]:
        """Return, for JSON, the arguments of `nas_ext.spaces.create` that rebuild the space."""
        plan = self.plan
        return {
            "name": self.search_space.name,
            "stem": plan.stem,
            "widths": [stage.width for stage in plan.stages],
            "layers": [stage.layers for stage in plan.stages],
            "head": plan.head,
            "num_classes": self.num_classes,
            "in_chs": self.in_chs,
        }

    def forward_chain(self) -> list[tuple[nn.Module, int]]:
        """Return the layers whose composition is the forward, and how many choices set each.

        The number is that of the leading choices which determine all up to and including the
        layer. The layers are those of now: a supernet's once a strategy has made one.
        """
        choices = len(self.search_space.choices)
        fixed = len(self.blocks) - choices
        blocks = [(block, max(0, at + 1 - fixed)) for at, block in enumerate(self.blocks)]
        tail = [part for part in (self.conv_head, self.head) if part is not None]
        return [(self.stem, 0), *blocks, *((part, choices) for part in tail)]

    def network(
        self,
        architecture: Architecture,
        *,
        num_classes: int | None = None,
        in_chs: int | None = None,
        drop_path_rate: float = 0.0,
    ) -> ChainNetwork:
        """Return one architecture as a fresh, ordinary network with affine, tracked batch norm.

        Its state-dict keys are those of the space under `model_context`, and hold those of the
        frozen space. The space's numbers of classes and channels apply where none is given.
        """
        return ChainNetwork(
            self.plan,
            self.search_space.check(architecture),
            num_classes=self.num_classes if num_classes is None else num_classes,
            in_chs=self.in_chs if in_chs is None else in_chs,
            activation=self.activation,
            drop_path_rate=drop_path_rate,
        )

    def check_image_size(
        self, image_size: tuple[int, int], architecture: Architecture | None = None
    ) -> None:
        """Raise ValueError unless (H, W) are positive: padding keeps the smallest images alive."""
        height, width = image_size
        if min(height, width) < 1:
            raise ValueError(
                f"image_size must be at least 1x1 for space {self.search_space.name!r}, "
                f"got {height}x{width}"
            )

    def macs_table(self, image_size: tuple[int, int]) -> AdditiveCost:
        """Return the multiply-accumulates of every option for one image of (H, W) pixels.

        Convolutions and linear layers count; norm, activations, gates' products, sums and means
        do not.
        """
        self.check_image_size(image_size)
        return macs_table(
            self.plan,
            in_chs=self.in_chs,
            num_classes=self.num_classes,
            image_size=image_size,
        )

    def parameter_table(self) -> AdditiveCost:
        """Return the parameters of every option in `network(architecture)`."""
        return parameter_table(self.plan, in_chs=self.in_chs, num_classes=self.num_classes)

    def macs(self, architecture: Architecture, *, image_size: tuple[int, int]) -> int:
        """Count the multiply-accumulates for one image of (H, W) pixels, exactly."""
        return self.macs_table(image_size)(self.search_space.check(architecture))

    def parameter_count(self, architecture: Architecture) -> int:
        """Count the parameters of `network(architecture)`."""
        return self.parameter_table()(self.search_space.check(architecture))

"""Segmentation networks whose question is at which resolution each layer runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from torch import nn

from nas_ext.architecture import Architecture
from nas_ext.nni import ModelSpace, current_model
from nas_ext.spaces.blocks import MutationHook, supernet_norm
from nas_ext.spaces.checks import check_positive
from nas_ext.spaces.deeplab_network import (
    DeepLabNetwork,
    LayerMaker,
    PyramidMaker,
    TrellisModules,
)
from nas_ext.spaces.walk_slots import Walk, WalkSlot, walk_slot_hooks
from nas_ext.trellis import RATES, DeepLabPlan, TrellisSpace

__all__ = ["AUTODEEPLAB", "AutoDeepLabMacro"]

AUTODEEPLAB = "autodeeplab-macro"


class AutoDeepLabMacro(TrellisModules, ModelSpace):  # type: ignore[misc]  # NNI has no types
    """Search at which rate, 4, 8, 16 or 32, each layer of a segmentation network runs.

    A network is a walk over the rates that moves by one level at most, layer 1 at rate 4; it has
    `filters` rate / 4 channels there. Two convolutions of stride 2 lead to rate 4, and atrous
    spatial pyramid pooling and the decoder of DeepLabV3+ make logits of the image's size. In
    the supernet a layer has one residual block for each rate, shared by all walks that come by,
    one convolution for each move, and a pyramid for each rate that the last layer can have.
    Source: chapter 4, Table 4.5, after Auto-DeepLab, whose macro space this is. What its cells
    are fixed to, how rates are changed and all widths are ours: see `nas_ext.trellis.DeepLabPlan`.

    The choices "layer2", "layer3", ... depend on each other. One-shot strategies, NNI's
    RandomOneShot among them, draw walks; what else draws them one by one gets NNI's
    SampleValidationError for those that are none, and draws again.

    Built to be searched, its norm layers are `supernet_norm`: batch statistics, no parameters, so
    batches have two images or more. Built under NNI's `model_context(sample)`, it is that
    architecture with ordinary batch norm. `network` gives the same without NNI.
    """

    task: ClassVar[str] = "segmentation"

    if TYPE_CHECKING:
        # NNI's __new__ may return a fixed module instead, but not for model spaces.
        def __new__(cls, **arguments: Any) -> AutoDeepLabMacro: ...

    def __init__(
        self,
        *,
        layers: int = 12,
        filters: int = 32,
        decoder_chs: int = 256,
        low_level_chs: int = 48,
        num_classes: int = 19,
        in_chs: int = 3,
    ) -> None:
        super().__init__()
        check_positive(num_classes=num_classes, in_chs=in_chs)
        self.search_space = TrellisSpace(layers=layers, name=AUTODEEPLAB)
        self.plan = DeepLabPlan(
            filters=filters, decoder_chs=decoder_chs, low_level_chs=low_level_chs
        )
        self.num_classes = num_classes
        self.in_chs = in_chs
        norm_layer = supernet_norm if current_model() is None else nn.BatchNorm2d
        made, walk = LayerMaker(self.plan, norm_layer), Walk(self.search_space)
        last = layers - 2
        self.build(
            self.plan,
            (
                WalkSlot(walk, layer - 2, made) if layer > 1 else made.alone(0, 0)
                for layer in range(1, layers + 1)
            ),
            lambda: WalkSlot(walk, last, PyramidMaker(self.plan, norm_layer)),
            num_classes=num_classes,
            in_chs=in_chs,
            norm_layer=norm_layer,
        )

    @property
    def default_architecture(self) -> Architecture | None:
        """Return None: no walk is the usual one."""
        return None

    @property
    def arguments(self) -> dict[str, Any]:
        """Return, for JSON, the arguments of `nas_ext.spaces.create` that rebuild the space."""
        return {
            "name": AUTODEEPLAB,
            "layers": self.search_space.layers,
            "filters": self.plan.filters,
            "decoder_chs": self.plan.decoder_chs,
            "low_level_chs": self.plan.low_level_chs,
            "num_classes": self.num_classes,
            "in_chs": self.in_chs,
        }

    def extra_oneshot_hooks(self, strategy: object) -> list[MutationHook]:
        """Tell NNI's one-shot strategies how to make a supernet of the slots.

        Raises TypeError for those that cannot: DARTS, GumbelDARTS and Proxyless.
        """
        return walk_slot_hooks(strategy)

    def network(
        self,
        architecture: Architecture,
        *,
        num_classes: int | None = None,
        in_chs: int | None = None,
        drop_path_rate: float = 0.0,
    ) -> DeepLabNetwork:
        """Return one architecture as a fresh, ordinary network with affine, tracked batch norm.

        Its state-dict keys are those of the space under `model_context`, and hold those of the
        frozen space. The space's numbers of classes and channels apply where none is given.
        """
        return DeepLabNetwork(
            self.plan,
            self.search_space.levels(architecture),
            num_classes=self.num_classes if num_classes is None else num_classes,
            in_chs=self.in_chs if in_chs is None else in_chs,
            drop_path_rate=drop_path_rate,
        )

    def check_image_size(
        self, image_size: tuple[int, int], architecture: Architecture | None = None
    ) -> None:
        """Raise ValueError when (H, W) does not fill one pixel at the highest rate.

        It is that of the architecture, where there is one, else the highest there can be.
        """
        space, (height, width) = self.search_space, image_size
        if architecture is None:
            rate, whose = RATES[min(space.layers - 1, 3)], f"space {space.name!r}"
        else:
            rate = max(space.rates(architecture))
            whose = f"architecture {space.describe(architecture)}"
        if min(height, width) < rate:
            raise ValueError(
                f"image_size must be at least {rate}x{rate} for {whose}, got {height}x{width}"
            )

    def macs(self, architecture: Architecture, *, image_size: tuple[int, int]) -> int:
        """Count the multiply-accumulates of all convolutions for one image, exactly.

        `image_size` is (H, W). A layer's cost depends on the rate before it too. Raises ValueError
        for images too small.
        """
        self.check_image_size(image_size, architecture)
        return self.plan.macs(
            self.search_space.levels(architecture),
            in_chs=self.in_chs,
            num_classes=self.num_classes,
            image_size=image_size,
        )

    def parameter_count(self, architecture: Architecture) -> int:
        """Count the parameters of `network(architecture)`."""
        return self.plan.parameter_count(
            self.search_space.levels(architecture),
            in_chs=self.in_chs,
            num_classes=self.num_classes,
        )

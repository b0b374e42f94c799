"""What timm expects of a network, for the plain networks that leave the model spaces."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from operator import mul
from typing import Any

from timm.layers.classifier import ClassifierHead
from timm.layers.conv_bn_act import ConvNormAct
from timm.models._features import feature_take_indices
from timm.models._manipulate import checkpoint
from torch import Tensor, nn

__all__ = ["TimmNetwork"]


class TimmNetwork(nn.Module):
    """Give a chain of `stem`, `blocks`, optionally `conv_head`, and `head` timm's interface.

    A subclass builds these modules and then calls `finish`. It overrides `run_block` when more
    than `blocks[index]` stands at a place of the chain. Features are the outputs of the last layer
    at each resolution, as in timm's residual networks. Mixins that share a forward with a model
    space stand behind this class, whose forward knows about checkpointing.
    """

    stem: ConvNormAct
    blocks: nn.ModuleList
    conv_head: nn.Module | None
    head: ClassifierHead
    num_classes: int
    num_features: int
    head_hidden_size: int
    in_chans: int
    in_chs: int
    feature_info: list[dict[str, Any]]
    grad_checkpointing: bool = False
    _depth: int
    _ends: list[int]

    def finish(
        self, *, channels: Sequence[int], strides: Sequence[int], num_classes: int, in_chs: int
    ) -> None:
        """Say what the chain is: call this at the end of `__init__`.

        `channels` and `strides` are those of the stem and of every block in turn.
        """
        if not hasattr(self, "conv_head"):
            self.conv_head = None
        self.num_classes = num_classes
        self.in_chs = self.in_chans = in_chs
        self._depth = len(channels) - 1
        reductions = list(accumulate(strides, mul))
        following = [*reductions[1:], 0]
        self._ends = [at for at, r in enumerate(reductions) if following[at] != r]
        self.feature_info = [
            {
                "num_chs": channels[at],
                "reduction": reductions[at],
                "module": f"blocks.{at - 1}" if at else "stem",
            }
            for at in self._ends
        ]
        self.note_widths()

    def note_widths(self) -> None:
        """Set the widths that `forward_features` and `forward_head(pre_logits=True)` put out."""
        self.num_features = self.head.in_features
        self.head_hidden_size = self.head.num_features

    def run_block(self, index: int, x: Tensor) -> Tensor:
        """Return what the block at `index`, and whatever stands in front of it, makes of x."""
        found: Tensor = self.blocks[index](x)
        return found

    def _block(self, index: int, x: Tensor) -> Tensor:
        if self.grad_checkpointing and self.training:
            kept: Tensor = checkpoint(self.run_block, index, x)
            return kept
        return self.run_block(index, x)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last feature maps, `[B, num_features, H, W]`."""
        x = self.stem(x)
        for index in range(self._depth):
            x = self._block(index, x)
        return x if self.conv_head is None else self.conv_head(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return logits of feature maps, or what the last linear layer would see."""
        found: Tensor = self.head(x, pre_logits=pre_logits)
        return found

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[B, num_classes]` of images `[B, in_chs, H, W]`."""
        return self.forward_head(self.forward_features(x))

    def get_classifier(self, name_only: bool = False) -> nn.Module | str:
        """Return the layer that makes the logits, or its name."""
        classifier: nn.Module = self.head.fc
        return "head.fc" if name_only else classifier

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the layer that makes the logits by a fresh one, by none for 0 classes.

        `global_pool` is one of timm's poolings, "" for none.
        """
        self.num_classes = num_classes
        self.head.reset(num_classes, pool_type=global_pool)
        self.head_hidden_size = self.head.num_features

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Return feature maps of some entries of `feature_info`, after those of the last layer.

        `indices` are entries, or how many of the last ones; `norm` changes nothing: blocks end
        with their own. `intermediates_only` leaves the last layer's maps out.
        """
        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt must be 'NCHW', got {output_fmt!r}")
        wanted, last = feature_take_indices(len(self.feature_info), indices)
        taken = {self._ends[at] for at in wanted}
        x = self.stem(x)
        found = [x] if 0 in taken else []
        for index in range(self._ends[last] if stop_early else self._depth):
            x = self._block(index, x)
            if index + 1 in taken:
                found.append(x)
        if intermediates_only:
            return found
        if self.conv_head is not None and not stop_early:
            x = self.conv_head(x)
        return x, found

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop the blocks behind the last wanted entry of `feature_info`; return the entries.

        With blocks the head goes, which was made for what they put out.
        """
        wanted, last = feature_take_indices(len(self.feature_info), indices)
        shortened = last < len(self.feature_info) - 1
        if shortened or prune_head:
            self.reset_classifier(0, "")
        if shortened:
            self._depth = self._ends[last]
            self.blocks = self.blocks[: self._depth]
        if shortened or prune_norm:
            self.conv_head = None
            self.num_features = self.head_hidden_size = self.feature_info[last]["num_chs"]
        return list(wanted)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return the patterns of layer-wise learning rates: stem, each block, head.

        A block is the coarsest group too: what a stage is depends on the architecture.
        """
        return {"stem": r"^stem", "blocks": [(r"^blocks\.(\d+)", None), (r"^conv_head", (99999,))]}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute the blocks a second time in the backward pass, and keep less in between."""
        self.grad_checkpointing = enable

    def no_weight_decay(self) -> set[str]:
        """Return the parameters without weight decay beside biases and norms: none."""
        return set()

"""Model spaces whose search is kept within a budget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from nas_ext.budget import BudgetedSpace

if TYPE_CHECKING:
    from nas_ext.spaces.protocol import Space

__all__ = ["limit_macs"]

Limited = TypeVar("Limited", bound="Space")


def limit_macs(
    model_space: Limited, *, low: int, high: int, image_size: tuple[int, int]
) -> Limited:
    """Keep every search of a model space to architectures of `low` to `high` macs, and return it.

    Macs are those of one image of (H, W) pixels. The model space gets a `BudgetedSpace` as its
    search space; layers and weights stay as they are, so that strategies, selection and exports
    of ours work as before. NNI's own strategies draw from the labelled choices, and do not see
    the limit. `nas_ext.budget.arguments_of` says the limit, as results do, and
    `nas_ext.spaces.create` takes it. To be called before a search begins.

    Raises ValueError when no architecture costs so much, for a model space that is limited
    already, and for images that are too small.
    """
    given: Any = model_space
    if isinstance(given.search_space, BudgetedSpace):
        raise ValueError(f"model_space must not be limited already: {given.search_space.name!r}")
    height, width = image_size
    given.check_image_size((height, width))
    cost = (
        given.macs_table((height, width))
        if hasattr(given, "macs_table")
        else lambda architecture: given.macs(architecture, image_size=(height, width))
    )
    given.search_space = BudgetedSpace(
        given.search_space,
        cost,
        low=low,
        high=high,
        name=given.search_space.name,  # by which the registry knows the model space
        limits={"macs": [low, high], "image_size": [height, width]},
    )
    return model_space

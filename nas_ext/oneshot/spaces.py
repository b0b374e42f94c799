"""The search space of any NNI model space."""

from __future__ import annotations

from nas_ext.architecture import Choice, SearchSpace
from nas_ext.nni import Categorical, ModelSpace

__all__ = ["search_space"]


def search_space(model_space: ModelSpace) -> SearchSpace:
    """Return the search space of a model space that has not become a supernet yet.

    A model space with a `search_space` of its own (those of `nas_ext.spaces`) says it itself.
    Any other is the free product of its labelled choices, in the order NNI lists them. Raises
    TypeError for a mutable that is no plain choice.
    """
    own = getattr(model_space, "search_space", None)
    if isinstance(own, SearchSpace):
        return own
    choices = []
    for label, mutable in model_space.simplify().items():
        if not isinstance(mutable, Categorical):
            raise TypeError(
                f"mutable {label!r} must be a plain choice, got {type(mutable).__name__}"
            )
        choices.append(Choice(label, tuple(mutable.values)))
    if not choices:
        raise TypeError(f"model_space must have a choice, {type(model_space).__name__} has none")
    return SearchSpace(type(model_space).__name__, choices)

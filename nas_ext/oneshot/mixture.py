"""Several supernets of one model space, and the strategies that train them side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from nas_ext.architecture import Architecture, SearchSpace
from nas_ext.nni import BaseSuperNetModule, ModelSpace, OneShotStrategy
from nas_ext.oneshot.module import SearchModule
from nas_ext.oneshot.strategy import SampledStrategy
from nas_ext.results import SearchResult
from nas_ext.samplers.mixture import MixtureSampler
from nas_ext.samplers.mixture_space import SUPERNET, MixtureSpace

__all__ = ["MixtureModel", "MixtureStrategy"]


class MixtureModel(ModelSpace, BaseSuperNetModule):  # type: ignore[misc]  # NNI has no types
    """Hold M supernets and run one of them, the one that the sample's "supernet" names.

    One optimizer serves all: parameters that take no part in a step have no gradient, so that
    momentum and weight decay leave them alone (as long as gradients are set to None, not to zero,
    which is torch's default), and optimizer state exists only for what was trained. Memory is
    that of M supernets; activations and gradients are those of one.

    `macs`, `parameter_count`, `arguments` and `search_space` are those of the one model space.
    """

    def __init__(self, members: Sequence[ModelSpace]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.active: int | None = None
        _check_separate(self.members)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the active supernet; RuntimeError before one was chosen."""
        if self.active is None:
            raise RuntimeError("a supernet must be chosen before the mixture's forward")
        return self.members[self.active](*args, **kwargs)

    def resample(self, memo: dict[str, Any]) -> dict[str, Any]:
        """Follow `memo["supernet"]`; ValueError when there is none: a mixture never draws."""
        self.active = self._named(memo)
        return {}

    def export(self, memo: dict[str, Any]) -> dict[str, Any]:
        return {}

    def export_probs(self, memo: dict[str, Any]) -> dict[str, Any]:
        return {}

    def freeze(self, sample: dict[str, Any]) -> Any:
        """Return the network of a sample, with the weights of the supernet that it names."""
        inner = {label: option for label, option in sample.items() if label != SUPERNET}
        member: Any = self.members[self._named(sample)]
        return member.freeze(inner)

    def _named(self, sample: dict[str, Any]) -> int:
        found = sample.get(SUPERNET)
        if type(found) is not int or not 0 <= found < len(self.members):
            raise ValueError(
                f"sample must have a {SUPERNET!r} below {len(self.members)}, got {found!r}"
            )
        return found

    def _first(self, name: str) -> Any:
        return getattr(self.members[0], name)

    @property
    def macs(self) -> Any:
        """Return the model space's function from an architecture to its macs."""
        return self._first("macs")

    @property
    def parameter_count(self) -> Any:
        """Return the model space's function from an architecture to its parameters."""
        return self._first("parameter_count")

    @property
    def arguments(self) -> Any:
        """Return the arguments that rebuild the model space."""
        return self._first("arguments")

    @property
    def search_space(self) -> Any:
        """Return the search space of the model space, without the supernets."""
        return self._first("search_space")


def _check_separate(members: nn.ModuleList) -> None:
    """Raise ValueError when supernets share a parameter: training one would move another."""
    owner: dict[int, int] = {}
    for number, member in enumerate(members):
        for name, parameter in member.named_parameters():
            if owner.setdefault(id(parameter), number) != number:
                raise ValueError(
                    "model_space must build its layers itself: its arguments hold parameter "
                    f"{name!r}, which all supernets of a mixture would share"
                )


@dataclass(kw_only=True, eq=False)
class MixtureStrategy(SampledStrategy):
    """A strategy that trains `models` supernets of the same model space.

    The searched space is a `MixtureSpace`; what users see, in results and exports, are the
    architectures of their own space, each with the weights of the supernet that took it over. The
    first supernet is the model space that was given, weights included. The others are built from
    the same arguments, and their initial weights depend on `seed` alone. With one model nothing
    is wrapped.
    """

    models: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.models < 1:
            raise ValueError(f"models must be at least 1, got {self.models}")
        self._mixture: MixtureSpace | None = None

    def mutate_model(self, model: ModelSpace) -> ModelSpace:
        """Make supernets of the model space, in place, and of the copies built beside it."""
        first = super().mutate_model(model)
        if self.models == 1:
            return first
        seeds = np.random.SeedSequence(self.seed).generate_state(self.models - 1)
        self._mixture = MixtureSpace(self.search_space, self.models)
        others = [self._another(first, int(s)) for s in seeds]
        mixture: Any = MixtureModel([first, *others])
        self._model = mixture
        return mixture

    def _another(self, model: ModelSpace, seed: int) -> ModelSpace:
        """Return a supernet of the same model space, built and initialised anew."""
        given: Any = model
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            fresh = type(given)(*given.trace_args, **given.trace_kwargs)
        return OneShotStrategy.mutate_model(self, fresh)

    def _renewed(self, seed: int) -> dict[str, Any]:
        if self._mixture is None:
            return super()._renewed(seed)
        model: Any = self._mutated_model()
        seeds = np.random.SeedSequence(seed).generate_state(self.models)
        members = [self._another(model.members[0], int(s)) for s in seeds]
        return dict(MixtureModel(members).state_dict())

    def _collect(self) -> SearchResult:
        """Return the result with the mixture in it, as `nas_ext.saved_mixture` reads it."""
        result, sampler = super()._collect(), self._search_module.search.sampler
        if not isinstance(sampler, MixtureSampler):
            return result
        return replace(result, mixture=sampler.learned())

    @property
    def searched_space(self) -> SearchSpace:
        """Return the product of architectures and supernets; with one model, the search space."""
        return self.search_space if self._mixture is None else self._mixture

    def exported(self, architecture: Architecture) -> Architecture:
        """Return the architecture without its supernet."""
        return architecture if self._mixture is None else self._mixture.split(architecture)[0]

    @property
    def evaluated(self) -> int | None:
        """Return `candidates`, with the number of architectures for None: each in one supernet."""
        if self._mixture is None or self.candidates is not None:
            return self.candidates
        return self._mixture.base.size

    def weights_of(self, architecture: Architecture) -> ModelSpace:
        """Return the supernet that an architecture of the ranking was evaluated in."""
        model: Any = self._mutated_model()
        if self._mixture is None:
            return model
        return model.members[self.supernets[architecture]]

    @property
    def supernets(self) -> dict[Architecture, int]:
        """Return for each ranked architecture the supernet it was evaluated in, from 0.

        Raises RuntimeError before the search has ended.
        """
        module = self.oneshot_module
        if not isinstance(module, SearchModule) or not module.ranking:
            raise RuntimeError("a strategy has no ranking before it has run")
        if self._mixture is None:
            return {ranked.architecture: 0 for ranked in module.ranking}
        return dict(self._mixture.split(ranked.architecture) for ranked in module.ranking)

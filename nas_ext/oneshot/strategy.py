"""What every sampling strategy shares: NNI's side of a search."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch

from nas_ext.architecture import ENUMERABLE, Architecture, SearchSpace
from nas_ext.cost_aware import Cost, constraint_of
from nas_ext.manifest import manifest
from nas_ext.nni import ModelSpace, RandomOneShot
from nas_ext.oneshot.costs import CostAwareSupernet
from nas_ext.oneshot.depthwise import lighten_depthwise
from nas_ext.oneshot.layout import MemoryFormat, arrange, check_memory_format
from nas_ext.oneshot.mixed_operations import MIXED_OPERATION_HOOKS
from nas_ext.oneshot.module import SearchModule
from nas_ext.oneshot.spaces import search_space
from nas_ext.oneshot.strategy_base import OneShotBase
from nas_ext.oneshot.supernet import Supernet
from nas_ext.results import Budget, SearchResult
from nas_ext.samplers import TreeSampler
from nas_ext.search import Draw, Phase, Search, Setting

__all__ = ["SampledStrategy"]


@dataclass(kw_only=True, eq=False)
class SampledStrategy(OneShotBase):
    """A one-shot strategy of NNI that trains what a sampler draws.

    A method is a subclass whose fields are its settings and whose one method is `phases`. It
    runs under `NasExperiment` or any sequential engine of NNI, and its phases run against a
    table too.

    `candidates` are evaluated on the whole validation set at the end, and
    `export_top_models(k)` returns the k best of them.

    `memory_format` is the layout of convolutions: "channels_last" is the faster one on processors,
    1.1 to 2 times in all spaces here. "measure" tries both before the first step; the result then
    names the faster one, and two runs of one seed may differ in their last bits.

    A `cost`, "macs", "parameters" or a function of the user's architectures such as a
    `LatencyTable`, discounts what samplers are told by (cost_target / cost)^cost_weight where it
    is above the target: `SoftConstraint`. The final ranking stays one by accuracy, see
    `nas_ext.pareto.front`.

    On several devices every process trains the same architectures on its own batches, by the mean
    of all rewards: see docs/scaling.md. The budget is then what all of them spent together.
    """

    candidates: int | None = 50
    cost: Cost | str | None = None
    cost_target: float | None = None
    cost_weight: float = 0.07
    memory_format: MemoryFormat | Literal["measure"] = "channels_last"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.candidates is not None and self.candidates < 1:
            raise ValueError(f"candidates must be at least 1, got {self.candidates}")
        self._constraint = constraint_of(self.cost, self.cost_target, self.cost_weight)
        check_memory_format(self.memory_format)

    @abstractmethod
    def phases(self, steps: int) -> tuple[Phase, ...]:
        """Divide a number of steps into the phases of the method."""

    # NNI's side.

    def default_mutation_hooks(self) -> list[Any]:
        """Replace choices by single paths: the hooks of NNI's RandomOneShot, mended."""
        return [*MIXED_OPERATION_HOOKS, *RandomOneShot().default_mutation_hooks()]

    def run_hook(self, hook: Any, name: str, module: Any, memo: dict[str, Any]) -> Any:
        return RandomOneShot().run_hook(hook, name, module, memo)

    def mutate_model(self, model: ModelSpace) -> ModelSpace:
        """Make a supernet of the model space, in place.

        Raises ValueError for one that is a supernet already, or too large to be ranked whole.
        """
        self.check_plain(model)
        self._space = search_space(model)
        if self.candidates is None and self._space.size > ENUMERABLE:
            raise ValueError(
                f"candidates must be a number in a space of {self._space.size:,} architectures, "
                f"more than {ENUMERABLE:,} are not ranked, got None"
            )
        self._model = super().mutate_model(model)
        lighten_depthwise(self._model)
        return self._model

    def _renewed(self, seed: int) -> dict[str, Any]:
        """Return the weights of the same model space, built and initialised anew.

        Raises ValueError when the new space has parameters of the old one.
        """
        model = self._mutated_model()
        known = {id(parameter) for parameter in model.parameters()}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            fresh: Any = type(model)(*model.trace_args, **model.trace_kwargs)
        if any(id(parameter) in known for parameter in fresh.parameters()):
            raise ValueError(
                "model_space must build all its layers itself, so that they can start again: "
                f"{type(model).__name__} was given some as arguments"
            )
        return dict(super().mutate_model(fresh).state_dict())

    def configure_oneshot_module(self, training_module: Any) -> SearchModule:
        training_module.set_model(self._mutated_model())
        if self.memory_format != "measure":
            arrange(self._mutated_model(), self.memory_format)
        rng = np.random.default_rng(self.seed)
        asked: dict[str, Any] = {
            "loader": self._validation_loader,
            "reward": self._reward(),
            "renew": self._renewed,
            "rng": rng,
            "ranks": self._ranks,
        }
        if self._constraint is None:
            supernet = Supernet(self.searched_space, training_module, **asked)
        else:
            asked |= {"cost": self._cost, "constraint": self._constraint}
            supernet = CostAwareSupernet(self.searched_space, training_module, **asked)

        def make(steps: int) -> Search:
            phases = self.phases(steps)
            if any(phase.reinitialise for phase in phases):
                self._renewed(0)  # what cannot be built anew says so before the first step
            return Search(phases, Setting(self.searched_space, supernet, rng))

        return SearchModule(
            training_module,
            supernet,
            make,
            candidates=self.evaluated,
            randomness=self._randomness,
            memory_format=self.memory_format,
        )

    # What a method that searches more than the user's architectures overrides.

    @property
    def searched_space(self) -> SearchSpace:
        """Return the space that samplers draw from: the search space, or more than that."""
        return self.search_space

    def exported(self, architecture: Architecture) -> Architecture:
        """Return the architecture of the search space in one of the searched space."""
        return architecture

    @property
    def evaluated(self) -> int | None:
        """Return how many candidates are ranked at the end, None for the whole searched space."""
        return self.candidates

    # What was found.

    @property
    def _search_module(self) -> SearchModule:
        module = self.oneshot_module
        if not isinstance(module, SearchModule):
            raise RuntimeError(f"the one-shot module must be a SearchModule, got {type(module)}")
        return module

    def _collect(self) -> SearchResult:
        module = self._search_module
        search, size = module.search, module.supernet.image_size
        tree = search.sampler.tree if isinstance(search.sampler, TreeSampler) else None
        return SearchResult(
            strategy=type(self).__name__,
            settings={**self.settings, "memory_format": module.memory_format},
            seed=self.seed,
            space=self._described_space(),
            phases=tuple((phase.name, phase.steps) for phase in search.phases),
            draws=tuple(self._draw(draw) for draw in search.draws),
            ranking=tuple(
                self._line(
                    self.exported(r.architecture), r.accuracy, size, self._extra(r.architecture)
                )
                for r in module.ranking
            ),
            budget=self._budget(module),
            tree=None if tree is None else tree.state_dict(),
            manifest=manifest(seeds=[self.seed], data=None),
            diagnostics=search.sampler.diagnostics(),
        )

    def _extra(self, architecture: Architecture) -> dict[str, Any]:
        """Return what an architecture of the searched space has beside the user's sample."""
        own = self.search_space.decode(self.exported(architecture))
        searched = self.searched_space.decode(architecture)
        return {label: option for label, option in searched.items() if label not in own}

    def _cost(self, architecture: Architecture) -> float:
        """Return the cost of one in the searched space; ValueError where nobody knows it."""
        own = self.exported(architecture)
        if callable(self.cost):
            return float(self.cost(own))
        known = self._parameters(own)
        if self.cost == "macs":
            known = self._macs(own, self._search_module.supernet.image_size)
        if known is None:
            raise ValueError(
                f"cost must be a function for {type(self._mutated_model()).__name__}, which has "
                f"no closed form for such inputs, got {self.cost!r}"
            )
        return float(known)

    def _draw(self, draw: Draw) -> Draw:
        return replace(draw, architecture=self.exported(draw.architecture))

    def _budget(self, module: SearchModule) -> Budget:
        supernet, search, spent = module.supernet, module.search, module.spent
        images = {a: 3 * n for a, n in spent.trained.items()}
        for architecture, count in spent.images.items():
            images[architecture] = images.get(architecture, 0) + count
        costs = {a: self._macs(self.exported(a), supernet.image_size) for a in images}
        return Budget(
            steps=search.step,
            train_passes=spent.passes["train"],
            reward_passes=spent.passes["reward"],
            evaluated=len(module.ranking),
            output_passes=spent.passes["outputs"],
            seconds=module.seconds,
            macs=None
            if None in costs.values()
            else sum((costs[a] or 0) * n for a, n in images.items()),
        )

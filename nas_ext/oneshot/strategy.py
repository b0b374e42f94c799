"""What every sampling strategy shares: NNI's side of a search."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from nas_ext.architecture import ENUMERABLE, Architecture, SearchSpace
from nas_ext.cost_aware import Cost, constraint_of
from nas_ext.nni import (
    BaseSuperNetModule,
    ModelSpace,
    OneShotStrategy,
    RandomOneShot,
    RawFormatModelSpace,
)
from nas_ext.oneshot.costs import CostAwareSupernet
from nas_ext.oneshot.module import SearchModule
from nas_ext.oneshot.randomness import Randomness
from nas_ext.oneshot.rewards import Reward, accuracy, logged
from nas_ext.oneshot.spaces import search_space
from nas_ext.oneshot.supernet import Supernet
from nas_ext.results import Budget, RankedArchitecture, SearchResult, installed_versions
from nas_ext.samplers import TreeSampler
from nas_ext.search import Draw, Phase, Search, Setting

__all__ = ["SampledStrategy"]


@dataclass(kw_only=True, eq=False)
class SampledStrategy(OneShotStrategy):  # type: ignore[misc]  # NNI has no types
    """A one-shot strategy of NNI that trains what a sampler draws.

    A method is a subclass whose fields are its settings and whose one method is `phases`. It
    runs under `NasExperiment` or any sequential engine of NNI, and its phases run against a
    table too.

    `seed` leads every draw; the initial weights are drawn by whoever built the model space.
    `candidates` are evaluated on the whole validation set at the end, and
    `export_top_models(k)` returns the k best of them. `reward` is a function of module and batch,
    or the name of a metric that the module's `validation_step` logs. `out` is a folder that
    receives `search.json` when the search ends.

    A `cost`, "macs", "parameters" or a function of the user's architectures such as a
    `LatencyTable`, discounts what samplers are told by (cost_target / cost)^cost_weight where it
    is above the target: `SoftConstraint`. The final ranking stays one by accuracy, see
    `nas_ext.pareto.front`.
    """

    seed: int = 0
    candidates: int | None = 50
    cost: Cost | str | None = None
    cost_target: float | None = None
    cost_weight: float = 0.07
    reward: Reward | str = field(default=accuracy, repr=False)
    out: str | Path | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        super().__init__()
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")
        if self.candidates is not None and self.candidates < 1:
            raise ValueError(f"candidates must be at least 1, got {self.candidates}")
        if not (callable(self.reward) or (isinstance(self.reward, str) and self.reward)):
            raise ValueError(f"reward must be a function or a metric's name, got {self.reward!r}")
        self._constraint = constraint_of(self.cost, self.cost_target, self.cost_weight)
        self._space: SearchSpace | None = None
        self._model: ModelSpace | None = None
        self._val_fn: Callable[[], Any] | None = None
        self._result: SearchResult | None = None
        self._randomness = Randomness()

    @abstractmethod
    def phases(self, steps: int) -> tuple[Phase, ...]:
        """Divide a number of steps into the phases of the method."""

    # NNI's side.

    def default_mutation_hooks(self) -> list[Any]:
        """Replace choices by single paths: the hooks of NNI's RandomOneShot."""
        return list(RandomOneShot().default_mutation_hooks())

    def run_hook(self, hook: Any, name: str, module: Any, memo: dict[str, Any]) -> Any:
        return RandomOneShot().run_hook(hook, name, module, memo)

    def mutate_model(self, model: ModelSpace) -> ModelSpace:
        """Make a supernet of the model space, in place.

        Raises ValueError for one that is a supernet already, or too large to be ranked whole.
        """
        if any(isinstance(module, BaseSuperNetModule) for module in model.modules()):
            raise ValueError(
                "model_space must not be a supernet already: build a new one for each run"
            )
        self._space = search_space(model)
        if self.candidates is None and self._space.size > ENUMERABLE:
            raise ValueError(
                f"candidates must be a number in a space of {self._space.size:,} architectures, "
                f"more than {ENUMERABLE:,} are not ranked, got None"
            )
        self._model = super().mutate_model(model)
        return self._model

    def mutate_evaluator(self, evaluator: Any) -> Any:
        """Wrap the evaluator's module; ValueError for a trainer on several devices."""
        trainer = getattr(evaluator, "trainer", None)
        if trainer is not None and trainer.num_devices * trainer.num_nodes > 1:
            raise ValueError(
                "trainer must run on one device: every process would draw and reward its own "
                f"architectures, got devices={trainer.num_devices}, num_nodes={trainer.num_nodes}"
            )
        return super().mutate_evaluator(evaluator)

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

    def _mutated_model(self) -> ModelSpace:
        if self._model is None:
            raise RuntimeError("a strategy has no supernet before it is initialized")
        return self._model

    def configure_oneshot_module(self, training_module: Any) -> SearchModule:
        training_module.set_model(self._mutated_model())
        rng = np.random.default_rng(self.seed)
        asked: dict[str, Any] = {
            "loader": self._validation_loader,
            "reward": logged(self.reward) if isinstance(self.reward, str) else self.reward,
            "renew": self._renewed,
            "rng": rng,
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
        )

    def train_dataloader(
        self, train_dataloader_fn: Callable[[], Any], val_dataloader_fn: Callable[[], Any]
    ) -> Any:
        """Train on the user's loader as it is; rewards read the validation loader beside it."""
        self._val_fn = val_dataloader_fn
        loader = train_dataloader_fn()
        self._randomness.watch(loader)
        return loader

    def _validation_loader(self) -> Iterable[Any]:
        loader = None if self._val_fn is None else self._val_fn()
        if isinstance(loader, list | tuple) and len(loader) == 1:
            loader = loader[0]
        if loader is None or isinstance(loader, list | tuple):
            raise ValueError(f"val_dataloaders must be one loader, got {loader!r}")
        return cast("Iterable[Any]", loader)

    def _run(self) -> None:
        super()._run()
        self._result = self._collect()
        if self.out is not None:
            self._result.save(Path(self.out) / "search.json")

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

    def weights_of(self, architecture: Architecture) -> ModelSpace:
        """Return the supernet whose weights an architecture of the ranking goes out with."""
        return self._mutated_model()

    # What was found.

    @property
    def search_space(self) -> SearchSpace:
        """Return the space of the model space; RuntimeError before the strategy has one."""
        if self._space is None:
            raise RuntimeError("a strategy has no search space before it is initialized")
        return self._space

    @property
    def result(self) -> SearchResult:
        """Return what the search left behind; RuntimeError before it has ended."""
        if self._result is None:
            raise RuntimeError("a strategy has no result before it has run")
        return self._result

    @property
    def settings(self) -> dict[str, Any]:
        """Return the fields of the strategy as JSON values; a reward function by its name."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "out"}
        if not isinstance(self.reward, str):
            values["reward"] = getattr(self.reward, "__qualname__", repr(self.reward))
        if callable(self.cost):
            values["cost"] = getattr(self.cost, "__qualname__", repr(self.cost))
        return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}

    def list_models(
        self, sort: bool = True, limit: int | None = 1
    ) -> Iterator[RawFormatModelSpace]:
        """Yield the best `limit` architectures of the final ranking, best first, with scores.

        As NNI samples (`formatter="dict"`) or as networks with the supernet's weights
        (`formatter="instance"`), which are copies: training one leaves the supernet as it is.
        """
        if limit is not None and limit < 1:
            raise ValueError(f"limit must be at least 1, got {limit}")
        for ranked in self.result.ranking[:limit]:
            given: Any = self.model_space
            space = _Found(self.weights_of(ranked.architecture), given.evaluator)
            found = space.freeze(dict(ranked.sample))
            found.metrics.final = ranked.accuracy
            yield found

    def _collect(self) -> SearchResult:
        module = self.oneshot_module
        if not isinstance(module, SearchModule):
            raise RuntimeError(f"the one-shot module must be a SearchModule, got {type(module)}")
        search, model = module.search, self._mutated_model()
        tree = search.sampler.tree if isinstance(search.sampler, TreeSampler) else None
        return SearchResult(
            strategy=type(self).__name__,
            settings=self.settings,
            seed=self.seed,
            space={
                "name": self.search_space.name,
                "size": self.search_space.size,
                "arguments": getattr(model, "arguments", None),
            },
            phases=tuple((phase.name, phase.steps) for phase in search.phases),
            draws=tuple(self._draw(draw) for draw in search.draws),
            ranking=tuple(
                replace(
                    self._line(module, self.exported(r.architecture), r.accuracy),
                    extra=self._extra(r.architecture),
                )
                for r in module.ranking
            ),
            budget=self._budget(module),
            tree=None if tree is None else tree.state_dict(),
            versions=installed_versions(),
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
        model, module = self._mutated_model(), self.oneshot_module
        count = getattr(model, "parameter_count", None)
        known = None if count is None else int(count(own))
        if self.cost == "macs":
            known = _macs(model, own, cast("SearchModule", module).supernet.image_size)
        if known is None:
            raise ValueError(
                f"cost must be a function for {type(model).__name__}, which has no closed form "
                f"for such inputs, got {self.cost!r}"
            )
        return float(known)

    def _draw(self, draw: Draw) -> Draw:
        return replace(draw, architecture=self.exported(draw.architecture))

    def _line(
        self, module: SearchModule, architecture: Architecture, accuracy: float
    ) -> RankedArchitecture:
        model = self._mutated_model()
        count = getattr(model, "parameter_count", None)
        return RankedArchitecture(
            architecture=architecture,
            name=self.search_space.describe(architecture),
            sample=self.search_space.decode(architecture),
            accuracy=accuracy,
            macs=_macs(model, architecture, module.supernet.image_size),
            parameters=None if count is None else int(count(architecture)),
        )

    def _budget(self, module: SearchModule) -> Budget:
        supernet, search = module.supernet, module.search
        images = {a: 3 * n for a, n in module.trained.items()}
        for architecture, count in supernet.images.items():
            images[architecture] = images.get(architecture, 0) + count
        model, size = self._mutated_model(), supernet.image_size
        costs = {a: _macs(model, self.exported(a), size) for a in images}
        known = [costs[a] for a in images]
        return Budget(
            steps=search.step,
            train_passes=supernet.passes["train"],
            reward_passes=supernet.passes["reward"],
            evaluated=len(module.ranking),
            output_passes=supernet.passes["outputs"],
            seconds=module.seconds,
            macs=None if None in known else sum((costs[a] or 0) * n for a, n in images.items()),
        )


class _Found(RawFormatModelSpace):  # type: ignore[misc]  # NNI has no types
    """A found architecture whose network does not share layers with the supernet."""

    def executable_model(self) -> Any:
        return copy.deepcopy(super().executable_model())


def _macs(
    model: ModelSpace, architecture: Architecture, image_size: tuple[int, int] | None
) -> int | None:
    """Return the macs of one image, None where the model space has no closed form."""
    closed_form = getattr(model, "macs", None)
    if closed_form is None or image_size is None:
        return None
    return int(closed_form(architecture, image_size=image_size))

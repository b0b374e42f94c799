"""What all strategies share, whatever they train: loaders, settings, results, exports."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, cast

from nas_ext.architecture import Architecture, SearchSpace
from nas_ext.budget import arguments_of
from nas_ext.field_types import check_fields
from nas_ext.nni import BaseSuperNetModule, ModelSpace, OneShotStrategy, RawFormatModelSpace
from nas_ext.oneshot.distributed import ALONE, Ranks, ranks_of, shared
from nas_ext.oneshot.faults import naming_faults
from nas_ext.oneshot.randomness import Randomness
from nas_ext.oneshot.reward_variants import OnTrainingBatch
from nas_ext.oneshot.rewards import Reward, accuracy, logged
from nas_ext.results import RankedArchitecture, SearchResult

__all__ = ["OneShotBase"]


@dataclass(kw_only=True, eq=False)
class OneShotBase(OneShotStrategy):  # type: ignore[misc]  # NNI has no types
    """A one-shot strategy of NNI that leaves a `SearchResult`.

    `seed` leads every draw; the initial weights are drawn by whoever built the model space.
    `reward` is a function of module and batch, or the name of a metric that the module's
    `validation_step` logs. `out` is a folder that receives `search.json` when the search ends.
    """

    seed: int = 0
    reward: Reward | str = field(default=accuracy, repr=False)
    out: str | Path | None = field(default=None, repr=False)

    asks_rewards: ClassVar[bool] = True
    """Whether a reward is asked for while the supernet trains, and not for the ranking alone."""

    several_devices: ClassVar[str] = ""
    """What would go wrong on several devices: ends the message that refuses them. Empty where
    nothing would, under a trainer that `ranks_of` accepts."""

    def __post_init__(self) -> None:
        super().__init__()
        check_fields(self, kinds_only=True)
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")
        if not (callable(self.reward) or (isinstance(self.reward, str) and self.reward)):
            raise ValueError(f"reward must be a function or a metric's name, got {self.reward!r}")
        if isinstance(self.reward, OnTrainingBatch) and not self.asks_rewards:
            raise ValueError(
                f"reward must be on validation data for {type(self).__name__}, whose draws no "
                f"reward changes, got {self.reward!r}"
            )
        self._space: SearchSpace | None = None
        self._model: ModelSpace | None = None
        self._val_fn: Callable[[], Any] | None = None
        self._result: SearchResult | None = None
        self._randomness = Randomness()
        self._ranks: Ranks = ALONE

    # NNI's side.

    def check_plain(self, model: ModelSpace) -> None:
        """Raise ValueError for a model space that is a supernet already."""
        if any(isinstance(module, BaseSuperNetModule) for module in model.modules()):
            raise ValueError(
                "model_space must not be a supernet already: build a new one for each run"
            )

    def mutate_evaluator(self, evaluator: Any) -> Any:
        """Wrap the evaluator's module; ValueError for a trainer that would go wrong."""
        trainer = getattr(evaluator, "trainer", None)
        if trainer is not None:
            if self.several_devices and trainer.num_devices * trainer.num_nodes > 1:
                raise ValueError(
                    f"trainer must run on one device: every process would {self.several_devices},"
                    f" got devices={trainer.num_devices}, num_nodes={trainer.num_nodes}"
                )
            self._ranks = ranks_of(trainer, self._mutated_model())
        return super().mutate_evaluator(evaluator)

    def train_dataloader(
        self, train_dataloader_fn: Callable[[], Any], val_dataloader_fn: Callable[[], Any]
    ) -> Any:
        """Train on the user's loader, or this process's share of it.

        The validation loader is read beside it.
        """
        self._val_fn = val_dataloader_fn
        loader = train_dataloader_fn()
        if loader is None:
            return None
        self._randomness.watch(loader)
        return self._randomness.ordered(shared(loader, self._ranks))

    def _validation_loader(self) -> Iterable[Any]:
        loader = None if self._val_fn is None else self._val_fn()
        if isinstance(loader, list | tuple) and len(loader) == 1:
            loader = loader[0]
        if loader is None or isinstance(loader, list | tuple):
            raise ValueError(f"val_dataloaders must be one loader, got {loader!r}")
        return cast("Iterable[Any]", loader)

    def _mutated_model(self) -> ModelSpace:
        if self._model is None:
            raise RuntimeError("a strategy has no supernet before it is initialized")
        return self._model

    def _reward(self) -> Reward:
        return logged(self.reward) if isinstance(self.reward, str) else self.reward

    def _run(self) -> None:
        with naming_faults(self._ranks, self._in_training):
            super()._run()
        self._result = self._collect()
        if self.out is not None and self._ranks.first:
            self._result.save(Path(self.out) / "search.json")

    def _in_training(self) -> list[str]:
        """Return the architectures of the step, as messages name them."""
        module: Any = self.oneshot_module
        asked = getattr(module, "_asked", None)
        if asked is None:
            return ["the mixture of all architectures"]
        return [f"architecture {module.supernet.space.describe(one)}" for one in asked]

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
        """Return the fields of the strategy as JSON values; functions by their names."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "out"}
        for name in ("reward", "cost"):
            if callable(values.get(name)):
                values[name] = getattr(values[name], "__qualname__", repr(values[name]))
        return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}

    def list_models(
        self, sort: bool = True, limit: int | None = 1
    ) -> Iterator[RawFormatModelSpace]:
        """Yield the first `limit` architectures of the ranking, with their accuracies.

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

    def weights_of(self, architecture: Architecture) -> ModelSpace:
        """Return the supernet whose weights an architecture of the ranking goes out with."""
        return self._mutated_model()

    @abstractmethod
    def _collect(self) -> SearchResult:
        """Return what the search left behind, once it has ended."""

    def _described_space(self) -> dict[str, Any]:
        """Return what a result says of its space."""
        return {
            "name": self.search_space.name,
            "size": self.search_space.size,
            "arguments": arguments_of(self._mutated_model()),
        }

    def _macs(self, architecture: Architecture, image_size: tuple[int, int] | None) -> int | None:
        """Return the macs of one image, None where the model space has no closed form."""
        closed_form = getattr(self._mutated_model(), "macs", None)
        if closed_form is None or image_size is None:
            return None
        return int(closed_form(architecture, image_size=image_size))

    def _parameters(self, architecture: Architecture) -> int | None:
        """Return the parameters of the network, None where nobody can tell without building it."""
        count = getattr(self._mutated_model(), "parameter_count", None)
        return None if count is None else int(count(architecture))

    def _line(
        self,
        architecture: Architecture,
        accuracy: float,
        image_size: tuple[int, int] | None,
        extra: dict[str, Any],
    ) -> RankedArchitecture:
        """Return the line of an architecture of the search space in a ranking."""
        return RankedArchitecture(
            architecture=architecture,
            name=self.search_space.describe(architecture),
            sample=self.search_space.decode(architecture),
            accuracy=accuracy,
            macs=self._macs(architecture, image_size),
            parameters=self._parameters(architecture),
            extra=extra,
        )


class _Found(RawFormatModelSpace):  # type: ignore[misc]  # NNI has no types
    """A found architecture whose network does not share layers with the supernet."""

    def executable_model(self) -> Any:
        return copy.deepcopy(super().executable_model())

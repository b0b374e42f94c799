"""Differentiable searches: the Lightning step of a mixture, and what its strategies share."""

from __future__ import annotations

import copy
import math
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from pytorch_lightning.core.hooks import CheckpointHooks, DataHooks, ModelHooks
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.flop_counter import FlopCounterMode

from nas_ext.architecture import SearchSpace
from nas_ext.files import write_json
from nas_ext.nni import (
    BaseOneShotLightningModule,
    BaseSuperNetModule,
    LightningModule,
    ModelSpace,
    OneShotStrategy,
    RawFormatModelSpace,
)
from nas_ext.oneshot.mixed import ArchitectureWeights, ExpectedMacs, MixedLayer, most_probable
from nas_ext.oneshot.randomness import Randomness
from nas_ext.oneshot.rewards import Reward, accuracy, logged
from nas_ext.oneshot.spaces import search_space
from nas_ext.oneshot.steps import call_step
from nas_ext.oneshot.supernet import Supernet, batch_size
from nas_ext.results import Budget, RankedArchitecture, SearchResult, installed_versions
from nas_ext.search import Ranked

__all__ = ["STATE_KEY", "DifferentiableModule", "DifferentiableStrategy"]

STATE_KEY = "nas_ext_differentiable"
"""Where a Lightning checkpoint keeps what the state dict does not: place, time, randomness."""


class _Rounds:
    """Go round and round a loader; batches smaller than the first one are left out.

    Every batch is normalised by its own statistics. `consumed` batches of the round are over: a
    resumed search reads them again and goes on behind them.
    """

    def __init__(self, make: Callable[[], Iterable[Any]]) -> None:
        self.consumed = 0
        self.make = make
        self._stream: Iterator[Any] | None = None

    def __next__(self) -> Any:
        if self._stream is None and self.consumed:
            with torch.random.fork_rng(devices=[]):
                self._stream = self._whole()
                for _ in islice(self._stream, self.consumed):
                    pass
        for batch in self._stream or ():
            self.consumed += 1
            return batch
        self._stream, self.consumed = self._whole(), 1
        batch = next(self._stream, None)
        if batch is None:
            raise ValueError("validation set must fill at least one batch, got no batch")
        return batch

    def _whole(self) -> Iterator[Any]:
        first = 0
        for batch in self.make():
            first = first or batch_size(batch)
            if batch_size(batch) == first:
                yield batch


class DifferentiableModule(BaseOneShotLightningModule):  # type: ignore[misc]  # NNI has no types
    """Train the user's module on a mixture of all architectures, and the mixture itself.

    First order: a step of the weights on a training batch, then a step of the architecture
    weights on the next validation batch. Neither touches what the other trains: the mixture is a
    constant in the first, and the second takes no gradient with respect to the weights, does not
    count in running statistics and logs nothing. Optimization of the weights stays automatic, so
    clipping, accumulation and schedules are Lightning's; every hook that the user's module
    overrides is called. The architecture weights are part of the module's state dict.

    The loss of the second step is that of the user's `training_step` plus `penalty` times the
    expected macs as a share of the largest; `cost` makes the expectation for images of a size.
    Raises ValueError for a module that optimizes by hand, and for 16-bit training with scaled
    losses, whose scale is that of the weights' loss alone.
    """

    def __init__(
        self,
        training_module: LightningModule,
        supernet: Supernet,
        architecture: ArchitectureWeights,
        *,
        validation: Callable[[], Iterable[Any]],
        candidates: int,
        penalty: float,
        cost: Callable[[tuple[int, int] | None], ExpectedMacs],
        randomness: Randomness,
    ) -> None:
        super().__init__(training_module)
        if not training_module.automatic_optimization:
            raise ValueError(
                "training module must optimize automatically, got automatic_optimization=False"
            )
        self._forward_hooks_of(training_module)
        self.architecture = architecture
        self.supernet = supernet
        self.ranking: tuple[Ranked, ...] = ()
        self.seconds = 0.0
        self.steps = 0
        self.passes = 0
        self.trained = 0
        self.validated = 0
        self.macs: int | None = None
        self.layers = [m for m in training_module.modules() if isinstance(m, MixedLayer)]
        self._validation = _Rounds(validation)
        self._candidates = candidates
        self._penalty = penalty
        self._make_cost = cost
        self._cost: ExpectedMacs | None = None
        self._randomness = randomness
        self._undrawn: dict[str, Any] | None = None
        self._began = 0.0
        self.mix()

    def _forward_hooks_of(self, module: LightningModule) -> None:
        """Take over the hooks that the user's module overrides, and neither this one nor NNI's."""
        mine = {n for cls in type(self).__mro__[: _depth(type(self))] for n in vars(cls)}
        for name in sorted(_HOOKS - mine):
            if is_overridden(name, module):
                setattr(self, name, getattr(module, name))
        if not is_overridden("validation_step", module):
            # Lightning's own, which says that there is nothing to validate with
            self.__dict__["validation_step"] = super().validation_step

    @property
    def automatic_optimization(self) -> bool:
        return True

    # The mixture.

    def mix(self, weights: Sequence[Tensor] | None = None) -> None:
        """Weigh all candidates, by the architecture weights as they stand where none are given."""
        given = self.architecture.weights() if weights is None else weights
        choices = self.supernet.space.choices
        rows = {choice.label: row for choice, row in zip(choices, given, strict=True)}
        for layer in self.layers:
            layer.mix(rows[layer.choice.label])

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        """Return the user's loss of the mixture, whose weights are constants here."""
        self.mix()
        self.passes += 1
        self.trained += batch_size(batch)
        return call_step(self.training_module.training_step, batch, batch_idx)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step the weights, then the architecture weights."""
        self.training_module.optimizer_step(*args, **kwargs)
        batch = self._to_device(next(self._validation))
        self.validated += batch_size(batch)
        self.architecture.update(self.architecture_gradients(batch))
        self.mix()
        self.steps += 1

    def architecture_gradients(self, batch: Any) -> list[Tensor]:
        """Return the gradient of a batch's loss with respect to the architecture's values.

        Raises ValueError when the user's step returns no loss, or a gradient is not finite.
        """
        values = [value.detach().clone().requires_grad_() for value in self.architecture.values]
        weights = self.architecture.relax(values)
        try:
            self.mix(weights)
            with _untouched(self.training_module), self.supernet.precision():
                loss = call_step(self.training_module.training_step, batch, 0)
            loss = loss["loss"] if isinstance(loss, Mapping) else loss
            if not isinstance(loss, Tensor):
                raise ValueError("training_step must return a loss for a validation batch")
            if self._cost is not None:
                loss = loss + self._penalty * self._cost.share(weights)
            gradients = list(torch.autograd.grad(loss, values))
        finally:
            self.mix()
        if not all(bool(gradient.isfinite().all()) for gradient in gradients):
            raise ValueError(f"architecture gradients must be finite, got {gradients}")
        return gradients

    def validation_step(self, batch: Any, *rest: Any) -> Any:
        """Validate the mixture."""
        self.mix()
        return call_step(self.training_module.validation_step, batch, *rest)

    # Begin and end.

    def setup(self, stage: str = "fit") -> None:
        super().setup(stage)
        plugin = self.trainer.precision_plugin
        if getattr(plugin, "scaler", None) is not None:
            raise ValueError(
                f"trainer precision must need no loss scale, got {self.trainer.precision!r}: "
                "use 'bf16-mixed' or '32-true'"
            )
        self.supernet.to_device = self._to_device
        self.supernet.precision = plugin.forward_context

    def _to_device(self, batch: Any) -> Any:
        """Do with a validation batch what the trainer's loops do with theirs."""
        batch = self.trainer.precision_plugin.convert_input(batch)
        batch = self._on_before_batch_transfer(batch, dataloader_idx=0)
        return self.trainer.strategy.batch_to_device(batch, self.device, dataloader_idx=0)

    def on_train_start(self) -> None:
        self._began = time.monotonic()
        self.supernet.check()
        if self._penalty:
            self._cost = self._make_cost(self.supernet.image_size)
        super().on_train_start()

    def on_train_epoch_end(self) -> None:
        """Go back to the random state of a checkpoint that was saved while validating."""
        if self._undrawn is not None:
            self._randomness.load_state_dict(self._undrawn)
        super().on_train_epoch_end()

    def on_train_batch_start(self, batch: Any, batch_idx: int, *args: Any, **kwargs: Any) -> Any:
        self._undrawn = None
        return super().on_train_batch_start(batch, batch_idx, *args, **kwargs)

    def on_train_end(self) -> None:
        self._rank()
        self.seconds += time.monotonic() - self._began
        super().on_train_end()

    def on_fit_end(self) -> None:
        if not self.ranking:  # went on from the last step: nothing to train, no on_train_end
            self._rank()
        super().on_fit_end()

    def _rank(self) -> None:
        """Evaluate the most probable architectures, in that order, and weigh the mixture."""
        found = most_probable(
            self.supernet.space, self.architecture.probabilities(), self._candidates
        )
        accuracies = self.supernet.accuracies(found).tolist()
        self.ranking = tuple(Ranked(a, value) for a, value in zip(found, accuracies, strict=True))
        self.mix()
        self.macs = self._macs_of_mixture()

    def _macs_of_mixture(self) -> int:
        """Count the macs of one sample's pass through all candidates, by running a batch."""
        with torch.random.fork_rng(devices=[]), _untouched(self.training_module), torch.no_grad():
            batch = self._to_device(next(_Rounds(self._validation.make)))
            with FlopCounterMode(display=False) as counter:
                call_step(self.training_module.training_step, batch, 0)
        return int(counter.get_total_flops()) // (2 * batch_size(batch))

    # What a checkpoint keeps beside the state dict: plain values, so that it loads weights-only.

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[STATE_KEY] = {
            "seconds": self.seconds + time.monotonic() - self._began,
            "steps": self.steps,
            "passes": self.passes,
            "trained": self.trained,
            "validated": self.validated,
            "consumed": self._validation.consumed,
            "randomness": self._randomness.state_dict(),
        }
        self.training_module.on_save_checkpoint(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if STATE_KEY not in checkpoint:
            raise ValueError(f"checkpoint must come from a mixture, it has no {STATE_KEY!r}")
        state = checkpoint[STATE_KEY]
        self.seconds = float(state["seconds"])
        for name in ("steps", "passes", "trained", "validated"):
            setattr(self, name, int(state[name]))
        self._validation.consumed = int(state["consumed"])
        self._undrawn = state["randomness"]
        self._randomness.load_state_dict(state["randomness"])
        self.training_module.on_load_checkpoint(checkpoint)


@dataclass(kw_only=True, eq=False)
class DifferentiableStrategy(OneShotStrategy):  # type: ignore[misc]  # NNI has no types
    """A one-shot strategy of NNI that trains a mixture of all candidates of each layer choice.

    A method is a subclass whose one method is `relax`. Serves every model space that is a plain
    product of NNI's `LayerChoice`s. There is no sampler and no draw, so a table cannot be
    searched so; `seed` is recorded, initial weights are drawn by whoever built the model space.

    The answer is the option of the largest weight in each layer. The ranking has the
    `candidates` architectures of the largest product of weights in that order, the answer first,
    each with its accuracy on the validation set under the shared weights (`reward`, as in
    `SampledStrategy`): an order by accuracy would be another method. `penalty` times the expected
    macs, as a share of those of the most expensive architecture, is added to the loss of the
    architecture weights; the model space then needs a closed form `macs` that is a sum over its
    choices. The penalty is ours, as is ranking more than one.

    `out` is a folder that receives `search.json` and `probabilities.json` when the search ends.
    A pass of the mixture counts as one of every candidate in the budget: `train_passes` are
    those on training batches, `reward_passes` those of the architecture steps, whose backward
    passes are in `macs`.
    """

    seed: int = 0
    candidates: int = 50
    penalty: float = 0.0
    reward: Reward | str = field(default=accuracy, repr=False)
    out: str | Path | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        super().__init__()
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")
        if self.candidates < 1:
            raise ValueError(f"candidates must be at least 1, got {self.candidates}")
        if not 0 <= self.penalty < math.inf:
            raise ValueError(f"penalty must not be negative, got {self.penalty}")
        if not (callable(self.reward) or (isinstance(self.reward, str) and self.reward)):
            raise ValueError(f"reward must be a function or a metric's name, got {self.reward!r}")
        self._space: SearchSpace | None = None
        self._model: ModelSpace | None = None
        self._val_fn: Callable[[], Any] | None = None
        self._result: SearchResult | None = None
        self._randomness = Randomness()

    @abstractmethod
    def relax(self, space: SearchSpace) -> ArchitectureWeights:
        """Return the weights of the method at their start."""

    # NNI's side.

    def default_mutation_hooks(self) -> list[Any]:
        """Replace layer choices by mixed layers; refuse everything else that is mutable."""
        return [MixedLayer.mutate, *super().default_mutation_hooks()]

    def mutate_model(self, model: ModelSpace) -> ModelSpace:
        """Make a mixture of the model space, in place.

        Raises ValueError for one that is a supernet already, or no plain product of its choices,
        TypeError for choices that are not between layers.
        """
        if any(isinstance(module, BaseSuperNetModule) for module in model.modules()):
            raise ValueError(
                "model_space must not be a supernet already: build a new one for each run"
            )
        space = search_space(model)
        if space.size != math.prod(len(choice.options) for choice in space.choices):
            raise ValueError(
                f"model_space must be a plain product of choices for {type(self).__name__}, which "
                f"weighs each layer by itself; in {space.name!r} one choice limits another"
            )
        mutated = super().mutate_model(model)
        paths = [m for m in mutated.modules() if isinstance(m, BaseSuperNetModule)]
        labels = {m.choice.label for m in paths if isinstance(m, MixedLayer)}
        if labels != {choice.label for choice in space.choices} or not all(
            isinstance(module, MixedLayer) for module in paths
        ):
            raise TypeError(
                f"choices of the model space must all be between layers for {type(self).__name__},"
                f" got {sorted({type(module).__name__ for module in paths})}"
            )
        self._space, self._model = space, mutated
        return mutated

    def mutate_evaluator(self, evaluator: Any) -> Any:
        """Wrap the evaluator's module; ValueError for a trainer on several devices."""
        trainer = getattr(evaluator, "trainer", None)
        if trainer is not None and trainer.num_devices * trainer.num_nodes > 1:
            raise ValueError(
                "trainer must run on one device: every process would step architecture weights "
                f"of its own, got devices={trainer.num_devices}, num_nodes={trainer.num_nodes}"
            )
        return super().mutate_evaluator(evaluator)

    def configure_oneshot_module(self, training_module: Any) -> DifferentiableModule:
        training_module.set_model(self._mutated_model())
        supernet = Supernet(
            self.search_space,
            training_module,
            loader=self._validation_loader,
            reward=logged(self.reward) if isinstance(self.reward, str) else self.reward,
            renew=_never,
            rng=np.random.default_rng(self.seed),
        )
        return DifferentiableModule(
            training_module,
            supernet,
            self.relax(self.search_space),
            validation=self._validation_loader,
            candidates=self.candidates,
            penalty=self.penalty,
            cost=self._expected_macs,
            randomness=self._randomness,
        )

    def _mutated_model(self) -> ModelSpace:
        if self._model is None:
            raise RuntimeError("a strategy has no supernet before it is initialized")
        return self._model

    def _expected_macs(self, image_size: tuple[int, int] | None) -> ExpectedMacs:
        closed_form = getattr(self._mutated_model(), "macs", None)
        if closed_form is None or image_size is None:
            raise ValueError(
                f"penalty must be 0 for {type(self._mutated_model()).__name__}, which has no "
                f"closed form of macs for such inputs, got {self.penalty}"
            )
        return ExpectedMacs.of(self.search_space, lambda a: closed_form(a, image_size=image_size))

    def train_dataloader(
        self, train_dataloader_fn: Callable[[], Any], val_dataloader_fn: Callable[[], Any]
    ) -> Any:
        """Train on the user's loader as it is; the validation loader is read beside it."""
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
            named = {
                label: {str(option): share for option, share in row.items()}
                for label, row in self.probabilities.items()
            }
            write_json(Path(self.out) / "probabilities.json", named)

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
    def probabilities(self) -> dict[str, dict[Any, float]]:
        """Return the weight of each option as it stands, by label: a row sums to 1."""
        rows = self._module.architecture.probabilities()
        return {
            choice.label: dict(zip(choice.options, row, strict=True))
            for choice, row in zip(self.search_space.choices, rows, strict=True)
        }

    @property
    def settings(self) -> dict[str, Any]:
        """Return the fields of the strategy as JSON values; a reward function by its name."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "out"}
        if not isinstance(self.reward, str):
            values["reward"] = getattr(self.reward, "__qualname__", repr(self.reward))
        return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}

    def list_models(
        self, sort: bool = True, limit: int | None = 1
    ) -> Iterator[RawFormatModelSpace]:
        """Yield the `limit` most probable architectures, with their validation accuracies.

        As NNI samples (`formatter="dict"`) or as networks with the supernet's weights
        (`formatter="instance"`), which are copies: training one leaves the supernet as it is.
        """
        if limit is not None and limit < 1:
            raise ValueError(f"limit must be at least 1, got {limit}")
        for ranked in self.result.ranking[:limit]:
            given: Any = self.model_space
            found = _Found(given.model_space, given.evaluator).freeze(dict(ranked.sample))
            found.metrics.final = ranked.accuracy
            yield found

    @property
    def _module(self) -> DifferentiableModule:
        module = self.oneshot_module
        if not isinstance(module, DifferentiableModule):
            raise RuntimeError(f"the one-shot module must be a mixture, got {type(module)}")
        return module

    def _collect(self) -> SearchResult:
        module, model = self._module, self._mutated_model()
        return SearchResult(
            strategy=type(self).__name__,
            settings=self.settings,
            seed=self.seed,
            space={
                "name": self.search_space.name,
                "size": self.search_space.size,
                "arguments": getattr(model, "arguments", None),
            },
            phases=(("mixture", module.steps),),
            draws=(),
            ranking=tuple(self._line(module, ranked) for ranked in module.ranking),
            budget=self._budget(module),
            versions=installed_versions(),
            diagnostics=self._diagnostics(module),
        )

    def _diagnostics(self, module: DifferentiableModule) -> dict[str, float]:
        """Return mean and minimum over the choices of the largest weight: 1 is decided."""
        largest = [float(max(row)) for row in module.architecture.probabilities()]
        return {
            "mean_largest_weight": float(np.mean(largest)),
            "smallest_largest_weight": min(largest),
        }

    def _macs(self, module: DifferentiableModule, architecture: tuple[int, ...]) -> int | None:
        closed_form = getattr(self._mutated_model(), "macs", None)
        image_size = module.supernet.image_size
        if closed_form is None or image_size is None:
            return None
        return int(closed_form(architecture, image_size=image_size))

    def _line(self, module: DifferentiableModule, ranked: Ranked) -> RankedArchitecture:
        count = getattr(self._mutated_model(), "parameter_count", None)
        return RankedArchitecture(
            architecture=ranked.architecture,
            name=self.search_space.describe(ranked.architecture),
            sample=self.search_space.decode(ranked.architecture),
            accuracy=ranked.accuracy,
            macs=self._macs(module, ranked.architecture),
            parameters=None if count is None else int(count(ranked.architecture)),
            extra={"weight": self._weight(module, ranked.architecture)},
        )

    def _weight(self, module: DifferentiableModule, architecture: tuple[int, ...]) -> float:
        """Return the product of the weights of an architecture's options."""
        rows = module.architecture.probabilities()
        return math.prod(float(row[k]) for row, k in zip(rows, architecture, strict=True))

    def _budget(self, module: DifferentiableModule) -> Budget:
        evaluated = [(self._macs(module, a), n) for a, n in module.supernet.images.items()]
        known = module.macs is not None and all(macs is not None for macs, _ in evaluated)
        mixed = 3 * (module.trained + module.validated) * (module.macs or 0)
        widest = max(len(choice.options) for choice in self.search_space.choices)
        return Budget(
            steps=module.steps,
            train_passes=widest * module.passes,
            reward_passes=widest * module.steps,
            evaluated=len(module.ranking),
            output_passes=0,
            seconds=module.seconds,
            macs=mixed + sum((macs or 0) * n for macs, n in evaluated) if known else None,
        )


class _Found(RawFormatModelSpace):  # type: ignore[misc]  # NNI has no types
    """A found architecture whose network does not share layers with the supernet."""

    def executable_model(self) -> Any:
        return copy.deepcopy(super().executable_model())


@contextmanager
def _untouched(module: Any) -> Iterator[None]:
    """Keep a validation batch out of running statistics and of what the module logs.

    Norms then take the statistics of the batch, as they do in training.
    """
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm)]
    tracked = [norm.track_running_stats for norm in norms]
    log = module.log
    module.log = _dropped
    try:
        for norm in norms:
            norm.track_running_stats = False
        yield
    finally:
        module.log = log
        for norm, track in zip(norms, tracked, strict=True):
            norm.track_running_stats = track


def _dropped(*args: Any, **kwargs: Any) -> None:
    """Take the place of `log` for a batch that is not trained on."""


def _never(seed: int) -> dict[str, Any]:
    raise RuntimeError("the weights of a mixture are not started again")


def _depth(module: type[nn.Module]) -> int:
    """Return how many classes come before Lightning's own module."""
    import pytorch_lightning as pl

    return module.__mro__.index(pl.LightningModule)


_LOADERS = {"predict_dataloader", "test_dataloader", "train_dataloader", "val_dataloader"}
_HOOKS = {
    *(
        "backward",
        "configure_callbacks",
        "configure_gradient_clipping",
        "lr_scheduler_step",
        "optimizer_zero_grad",
        "predict_step",
        "test_step",
    ),
    *(n for hooks in (ModelHooks, DataHooks, CheckpointHooks) for n in vars(hooks) if n[0] != "_"),
} - _LOADERS
"""What a user's module may override, but for steps and optimizers, which are called by name."""

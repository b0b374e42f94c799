"""The Lightning step of a mixture of all architectures, and of the mixture's own weights."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.flop_counter import FlopCounterMode

from nas_ext.nni import BaseOneShotLightningModule, LightningModule
from nas_ext.oneshot.hooks import adopt_hooks
from nas_ext.oneshot.mixed import ArchitectureWeights, ExpectedMacs, MixedLayer, most_probable
from nas_ext.oneshot.randomness import Randomness
from nas_ext.oneshot.resuming import batch_over, begin_next_epoch, epoch_over
from nas_ext.oneshot.rounds import Rounds
from nas_ext.oneshot.steps import call_step
from nas_ext.oneshot.supernet import Supernet, batch_size
from nas_ext.search import Ranked

__all__ = ["STATE_KEY", "DifferentiableModule"]

STATE_KEY = "nas_ext_differentiable"
"""Where a Lightning checkpoint keeps what the state dict does not: place, time, randomness."""


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
        adopt_hooks(self, training_module)
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
        self._validation = Rounds(validation)
        self._candidates = candidates
        self._penalty = penalty
        self._make_cost = cost
        self._cost: ExpectedMacs | None = None
        self._randomness = randomness
        self._undrawn: dict[str, Any] | None = None
        self._began = 0.0
        self._total = math.inf
        self.mix()

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
        given = call_step(self.training_module.training_step, batch, batch_idx)
        return self.supernet.losses.noted(given)

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

        Raises ValueError when the user's step returns no loss, SearchDiverged when a gradient is
        not finite.
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
            raise self.supernet.losses.diverged("gradients of the architecture weights")
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
        self._total = self.trainer.estimated_stepping_batches
        self.supernet.check()
        if self._penalty:
            self._cost = self._make_cost(self.supernet.image_size)
        super().on_train_start()

    def on_train_epoch_end(self) -> None:
        """Go back to the random state of a checkpoint that was saved while validating."""
        if self._undrawn is not None:
            self._randomness.load_state_dict(self._undrawn, place=False)
        super().on_train_epoch_end()
        epoch_over(self)

    def on_train_batch_start(self, batch: Any, batch_idx: int, *args: Any, **kwargs: Any) -> Any:
        self._undrawn = None
        self.supernet.losses.at(self.steps + 1, self._total, "mixture")
        return super().on_train_batch_start(batch, batch_idx, *args, **kwargs)

    def on_train_batch_end(
        self, outputs: Any, batch: Any, batch_idx: int, *args: Any, **kwargs: Any
    ) -> None:
        super().on_train_batch_end(outputs, batch, batch_idx, *args, **kwargs)
        batch_over(self)

    @property
    def at_phase_end(self) -> bool:
        """Say whether the last step was the last of all: a moment to keep a checkpoint."""
        return self.steps >= self._total

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
            batch = self._to_device(next(Rounds(self._validation.make)))
            with FlopCounterMode(display=False) as counter:
                call_step(self.training_module.training_step, batch, 0)
        return int(counter.get_total_flops()) // (2 * batch_size(batch))

    # What a checkpoint keeps beside the state dict: plain values, so that it loads weights-only.

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.supernet.losses.check(self.parameters())
        checkpoint[STATE_KEY] = {
            "seconds": self.seconds + time.monotonic() - self._began,
            "steps": self.steps,
            "passes": self.passes,
            "trained": self.trained,
            "validated": self.validated,
            "consumed": self._validation.consumed,
            "randomness": self._randomness.state_dict(
                self.trainer.fit_loop.batch_idx + 1, ended=self.at_phase_end
            ),
        }
        self.training_module.on_save_checkpoint(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if STATE_KEY not in checkpoint:
            raise ValueError(f"checkpoint must come from a mixture, it has no {STATE_KEY!r}")
        begin_next_epoch(checkpoint, self.trainer)
        state = checkpoint[STATE_KEY]
        self.seconds = float(state["seconds"])
        for name in ("steps", "passes", "trained", "validated"):
            setattr(self, name, int(state[name]))
        self._validation.consumed = int(state["consumed"])
        self._undrawn = state["randomness"]
        self._randomness.load_state_dict(state["randomness"])
        self.training_module.on_load_checkpoint(checkpoint)


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

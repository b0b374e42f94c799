"""The Lightning step of a search: which architecture, its loss, its reward."""

from __future__ import annotations

import copy
import math
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch

from nas_ext.architecture import Architecture
from nas_ext.oneshot.nni import BaseOneShotLightningModule, LightningModule
from nas_ext.oneshot.supernet import Supernet, batch_size
from nas_ext.search import Ranked, Search

__all__ = ["STATE_KEY", "SearchModule"]

STATE_KEY = "nas_ext_search"
"""Where a Lightning checkpoint keeps the state of the search."""


class SearchModule(BaseOneShotLightningModule):  # type: ignore[misc]  # NNI has no types
    """Train the user's module on one architecture after another.

    Optimization stays automatic, so clipping, accumulation, AMP and schedulers are Lightning's.
    Architectures are asked for when an accumulation window begins; rewards are computed after
    the optimizer stepped and before any callback sees the step. Every hook that the user's
    module overrides is called; NNI's own modules drop most of them.

    `make_search` gets the number of optimizer steps, known only once Lightning is set up.
    `candidates` go to the final ranking (None: the whole space). `trained` counts the images that
    each architecture was trained on.
    """

    def __init__(
        self,
        training_module: LightningModule,
        supernet: Supernet,
        make_search: Callable[[int], Search],
        *,
        candidates: int | None,
    ) -> None:
        super().__init__(training_module)
        self.supernet = supernet
        self.ranking: tuple[Ranked, ...] = ()
        self.seconds = 0.0
        self.average_reward = math.nan
        self.trained: Counter[Architecture] = Counter()
        self._candidates = candidates
        self._make_search = make_search
        self._search: Search | None = None
        self._restored: dict[str, Any] | None = None
        self._asked: tuple[Architecture, ...] = ()
        self._fresh_schedulers: list[Any] = []
        self._fresh_groups: list[list[dict[str, Any]]] = []
        self._began = 0.0

    @property
    def automatic_optimization(self) -> bool:
        return True

    @property
    def search(self) -> Search:
        """Return the search, made when first asked for, from the trainer's number of steps.

        Raises ValueError when the trainer has no end.
        """
        if self._search is None:
            steps = self.trainer.estimated_stepping_batches
            if not math.isfinite(steps) or steps < 1:
                raise ValueError(
                    f"the trainer must end after a number of steps, got {steps}: "
                    "set max_epochs or max_steps"
                )
            self._search = self._make_search(int(steps))
            if self._restored is not None:
                self._search.load_state_dict(self._restored)
        return self._search

    @property
    def segment_steps(self) -> int:
        """Return the steps until the weights start again or the search ends.

        A module that anneals its learning rate over these steps anneals once for each start.
        """
        first, last = self.search.segment
        return last - first

    # One step.

    def on_train_batch_start(self, batch: Any, batch_idx: int, *args: Any, **kwargs: Any) -> Any:
        answer = super().on_train_batch_start(batch, batch_idx, *args, **kwargs)
        if answer != -1 and batch_idx % self.trainer.accumulate_grad_batches == 0:
            self._asked = self.search.ask()
        return answer

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """Return the user's loss of the architecture, or the sum when a method asks for several.

        A sum, not a mean: strict fairness accumulates the gradients of its architectures.
        """
        losses = []
        size = batch_size(args[0])
        for architecture in self._asked:
            self.supernet.activate(architecture)
            self.trained[architecture] += size
            losses.append(self.training_module.training_step(*args, **kwargs))
        if len(losses) == 1:
            return losses[0]
        return torch.stack([x["loss"] if isinstance(x, dict) else x for x in losses]).sum()

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        self.training_module.optimizer_step(*args, **kwargs)
        if not self.search.sampler.needs_reward:
            return
        for architecture in self._asked:
            reward = self.supernet.reward(architecture)
            self.search.tell(architecture, reward)
            old = self.average_reward
            self.average_reward = reward if math.isnan(old) else 0.95 * old + 0.05 * reward

    def on_train_batch_end(
        self, outputs: Any, batch: Any, batch_idx: int, *args: Any, **kwargs: Any
    ) -> None:
        super().on_train_batch_end(outputs, batch, batch_idx, *args, **kwargs)
        if self.trainer.loggers and not math.isnan(self.average_reward):
            self.log("search_reward", self.average_reward)

    def validation_step(self, *args: Any, **kwargs: Any) -> Any:
        """Validate what was trained last; before any step, the first of the space."""
        space = self.supernet.space
        self.supernet.activate(self._asked[0] if self._asked else space.at(0))
        return self.training_module.validation_step(*args, **kwargs)

    # Begin and end.

    def setup(self, stage: str = "fit") -> None:
        super().setup(stage)
        strategy = self.trainer.strategy
        self.supernet.to_device = lambda batch: strategy.batch_to_device(
            self._on_before_batch_transfer(batch, dataloader_idx=0), dataloader_idx=0
        )
        self.supernet.precision = self.trainer.precision_plugin.forward_context
        bar = self.trainer.progress_bar_callback
        if bar is not None:
            _show_search(bar, self)

    def on_train_start(self) -> None:
        self._began = time.monotonic()
        self._fresh_schedulers = [
            copy.deepcopy(config.scheduler.state_dict())
            for config in self.trainer.lr_scheduler_configs
        ]
        self._fresh_groups = [_settings(optimizer) for optimizer in self.trainer.optimizers]
        self.supernet.reinitialised = [self._forget]
        super().on_train_start()

    def _forget(self) -> None:
        """Clear momenta and put learning rates and schedules back to where they started."""
        for optimizer, groups in zip(self.trainer.optimizers, self._fresh_groups, strict=True):
            optimizer.state.clear()
            for group, settings in zip(optimizer.param_groups, groups, strict=True):
                group.update(settings)
        configs = self.trainer.lr_scheduler_configs
        for config, state in zip(configs, self._fresh_schedulers, strict=True):
            config.scheduler.load_state_dict(copy.deepcopy(state))

    def on_train_end(self) -> None:
        self.ranking = self.search.rank(self._candidates)
        self.seconds += time.monotonic() - self._began
        super().on_train_end()

    # What a checkpoint keeps: numbers, strings, lists and dicts, so that it loads weights-only.

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[STATE_KEY] = {
            "search": self.search.state_dict(),
            "seconds": self.seconds + time.monotonic() - self._began,
            "average_reward": self.average_reward,
            "trained": _rows(self.trained),
            "images": _rows(self.supernet.images),
            "passes": dict(self.supernet.passes),
        }
        self.training_module.on_save_checkpoint(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if STATE_KEY not in checkpoint:
            raise ValueError(f"checkpoint must come from a search, it has no {STATE_KEY!r}")
        state = checkpoint[STATE_KEY]
        self._restored = state["search"]
        self.seconds = float(state["seconds"])
        self.average_reward = float(state["average_reward"])
        self.trained = Counter({tuple(a): n for a, n in state["trained"]})
        self.supernet.images = Counter({tuple(a): n for a, n in state["images"]})
        self.supernet.passes = Counter(state["passes"])
        self.training_module.on_load_checkpoint(checkpoint)


def _rows(counts: Counter[Architecture]) -> list[list[Any]]:
    return [[list(architecture), count] for architecture, count in counts.items()]


def _settings(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """Return a copy of each parameter group without its parameters."""
    groups = optimizer.param_groups
    return [copy.deepcopy({k: v for k, v in g.items() if k != "params"}) for g in groups]


def _show_search(bar: Any, module: SearchModule) -> None:
    """Add phase and average reward to what the trainer's progress bar shows."""
    shown = bar.get_metrics

    def get_metrics(trainer: Any, pl_module: Any) -> dict[str, Any]:
        metrics = {"phase": module.search.phase.name}
        if not math.isnan(module.average_reward):
            metrics["reward"] = f"{module.average_reward:.3f}"
        return {**metrics, **shown(trainer, pl_module)}

    bar.get_metrics = get_metrics


_FORWARDED = (
    "backward",
    "configure_callbacks",
    "configure_gradient_clipping",
    "lr_scheduler_step",
    "on_after_batch_transfer",
    "on_before_batch_transfer",
    "on_before_optimizer_step",
    "on_before_zero_grad",
    "on_test_batch_end",
    "on_test_batch_start",
    "on_test_end",
    "on_test_epoch_end",
    "on_test_epoch_start",
    "on_test_start",
    "on_validation_batch_end",
    "on_validation_batch_start",
    "on_validation_epoch_end",
    "on_validation_epoch_start",
    "optimizer_zero_grad",
    "prepare_data",
    "test_step",
    "transfer_batch_to_device",
)
"""The hooks that NNI's base module does not pass on to the user's."""


def _forward(name: str) -> Callable[..., Any]:
    def call(self: SearchModule, *args: Any, **kwargs: Any) -> Any:
        return getattr(self.training_module, name)(*args, **kwargs)

    call.__name__ = name
    call.__doc__ = f"Call `{name}` of the user's module."
    return call


for _name in _FORWARDED:
    setattr(SearchModule, _name, _forward(_name))

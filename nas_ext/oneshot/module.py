"""The Lightning step of a search: which architecture, its loss, its reward."""

from __future__ import annotations

import copy
import math
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from pytorch_lightning.utilities import rank_zero_info

from nas_ext.architecture import Architecture
from nas_ext.nni import LightningModule
from nas_ext.oneshot.hooks import adopt_hooks
from nas_ext.oneshot.layout import MemoryFormat, arrange, faster_layout
from nas_ext.oneshot.lean import LeanModule, signed
from nas_ext.oneshot.randomness import Randomness
from nas_ext.oneshot.resuming import batch_over, begin_next_epoch, epoch_over
from nas_ext.oneshot.spent import Spent, together
from nas_ext.oneshot.steps import call_step
from nas_ext.oneshot.supernet import Supernet, batch_size
from nas_ext.search import Ranked, Search

__all__ = ["STATE_KEY", "SearchModule"]

STATE_KEY = "nas_ext_search"
"""Where a Lightning checkpoint keeps the state of the search."""


class SearchModule(LeanModule):
    """Train the user's module on one architecture after another.

    Optimization stays automatic, so clipping, accumulation, AMP and schedulers are Lightning's.
    Architectures are asked for when an accumulation window begins; rewards are computed after
    the optimizer stepped and before any callback sees the step. Every hook that the user's
    module overrides is called; NNI's own modules drop most of them.

    `make_search` gets the number of optimizer steps, known only once Lightning is set up.
    `candidates` go to the final ranking (None: the whole space). `trained` counts the images that
    each architecture was trained on; `spent` is what all processes did together, known once the
    search has ended. `randomness` is what a checkpoint restores besides; `memory_format` the
    layout that the supernet has, or "measure" to choose it before the first step. Raises
    ValueError for a module that optimizes by hand: the search counts the trainer's steps.
    """

    def __init__(
        self,
        training_module: LightningModule,
        supernet: Supernet,
        make_search: Callable[[int], Search],
        *,
        candidates: int | None,
        randomness: Randomness | None = None,
        memory_format: MemoryFormat | Literal["measure"] = "contiguous",
    ) -> None:
        super().__init__(training_module)
        if not training_module.automatic_optimization:
            raise ValueError(
                "training module must optimize automatically, got automatic_optimization=False"
            )
        adopt_hooks(self, training_module)
        self.supernet = supernet
        self.ranking: tuple[Ranked, ...] = ()
        self.seconds = 0.0
        self.average_reward = math.nan
        self.trained: Counter[Architecture] = Counter()
        self.spent = Spent()
        self._candidates = candidates
        self._make_search = make_search
        self._search: Search | None = None
        self._restored: dict[str, Any] | None = None
        self._randomness = randomness or Randomness()
        self.memory_format = memory_format
        self._undrawn: dict[str, Any] | None = None
        self._asked: tuple[Architecture, ...] = ()
        self._fresh_schedulers: list[Any] = []
        self._fresh_groups: list[list[dict[str, Any]]] = []
        self._began: float | None = None

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
                    "set max_steps, or max_epochs where the training loader has a length"
                )
            self._search = self._make_search(int(steps))
            self._restore()
        return self._search

    def _restore(self) -> None:
        """Load what a checkpoint kept, once both are there; ValueError for other phases."""
        if self._search is None or self._restored is None:
            return
        phases = _lengths(self._search)
        if self._restored["phases"] != phases:
            raise ValueError(
                "strategy and trainer must be those of the checkpoint, whose phases are "
                f"{self._restored['phases']}, got {phases}"
            )
        self._search.load_state_dict(self._restored["search"])

    @property
    def segment_steps(self) -> int:
        """Return the steps until the weights start again or the search ends.

        A module that anneals its learning rate over these steps anneals once for each start.
        """
        first, last = self.search.segment
        return last - first

    # One step.

    def on_train_batch_start(self, batch: Any, batch_idx: int, *args: Any, **kwargs: Any) -> Any:
        self._undrawn = None
        answer = super().on_train_batch_start(batch, batch_idx, *args, **kwargs)
        if answer != -1 and batch_idx % self.trainer.accumulate_grad_batches == 0:
            if self.search.at_phase_end:
                self.supernet.losses.check()
            self._asked = self.search.ask()
            self.supernet.losses.at(self.search.step, self.search.steps, self.search.phase.name)
        return answer

    @signed
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        """Return the user's loss of the architecture, or the sum when a method asks for several.

        A sum, not a mean: strict fairness accumulates the gradients of its architectures.
        """
        losses = []
        size = batch_size(batch)
        for architecture in self._asked:
            self.supernet.activate(architecture)
            self.trained[architecture] += size
            self.supernet.passes["train"] += 1
            given = call_step(self.training_module.training_step, batch, batch_idx)
            losses.append(self.supernet.losses.noted(given, architecture))
        if len(losses) == 1:
            return losses[0]
        each = [x["loss"] if isinstance(x, Mapping) else x for x in losses if x is not None]
        return torch.stack(each).sum() if each else None

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        self.training_module.optimizer_step(*args, **kwargs)
        if not self.search.sampler.needs_reward:
            return
        for architecture in self._asked:
            reward = self.supernet.reward(architecture)
            self.supernet.losses.check()
            self.search.tell(architecture, reward)
            old = self.average_reward
            self.average_reward = reward if math.isnan(old) else 0.95 * old + 0.05 * reward

    def on_train_batch_end(
        self, outputs: Any, batch: Any, batch_idx: int, *args: Any, **kwargs: Any
    ) -> None:
        super().on_train_batch_end(outputs, batch, batch_idx, *args, **kwargs)
        if self.trainer.loggers:
            self._log()
        batch_over(self)

    def _log(self) -> None:
        if not math.isnan(self.average_reward):
            self.log("search_reward", self.average_reward)
        every = self.trainer.log_every_n_steps
        if every and self.search.step % every == 0:  # when Lightning writes: not for nothing
            for name, value in self.search.sampler.diagnostics().items():
                self.log(f"search_{name}", value)

    @property
    def at_phase_end(self) -> bool:
        """Say whether the last step was the last of its phase: a moment to keep a checkpoint."""
        return self.search.at_phase_end

    def validation_step(self, batch: Any, *rest: Any) -> Any:
        """Validate what was trained last; before any step, the first of the space."""
        space = self.supernet.space
        self.supernet.activate(self._asked[0] if self._asked else space.at(0))
        return call_step(self.training_module.validation_step, batch, *rest)

    def on_train_epoch_end(self) -> None:
        """Go back to the random state of a checkpoint that was saved while validating.

        Lightning, resumed from one, starts the epoch's loader again only to find it has ended.
        """
        if self._undrawn is not None:
            self._randomness.load_state_dict(self._undrawn, place=False)
        self._check_agreement()
        super().on_train_epoch_end()
        epoch_over(self)

    def _check_agreement(self) -> None:
        """Raise RuntimeError when the processes drew different architectures."""
        if self.supernet.ranks.size > 1:
            self.supernet.ranks.agree("draws", self.search.draws.fingerprint())

    # Begin and end.

    def setup(self, stage: str = "fit") -> None:
        super().setup(stage)
        self.supernet.to_device = self._to_device
        self.supernet.precision = self.trainer.precision_plugin.forward_context
        bar = self.trainer.progress_bar_callback
        if bar is not None and stage == "fit":
            _show_search(bar, self)

    def _to_device(self, batch: Any) -> Any:
        """Do with a validation batch what the trainer's loops do with theirs."""
        batch = self.trainer.precision_plugin.convert_input(batch)
        batch = self._on_before_batch_transfer(batch, dataloader_idx=0)
        return self.trainer.strategy.batch_to_device(batch, self.device, dataloader_idx=0)

    def on_fit_start(self) -> None:
        """Note how optimizers and schedules begin; a checkpoint moves them only after this."""
        self._fresh_schedulers = [
            copy.deepcopy(config.scheduler.state_dict())
            for config in self.trainer.lr_scheduler_configs
        ]
        self._fresh_groups = [_settings(optimizer) for optimizer in self.trainer.optimizers]
        super().on_fit_start()

    def on_train_start(self) -> None:
        self._began = time.monotonic()
        self.supernet.reinitialised = [self._forget]
        self.supernet.begin()
        if self.memory_format == "measure":
            self.memory_format = self._measured()
        super().on_train_start()

    def _measured(self) -> MemoryFormat:
        """Lay out the supernet in the faster way, and say which that is."""
        inputs, space = self.supernet.inputs, self.supernet.space
        if self.supernet.ranks.size > 1 or inputs is None:
            raise ValueError(
                "memory_format must be named on several devices, and for batches that are not "
                "(inputs, ...), got 'measure'"
            )
        self.supernet.activate(space.at(space.size // 2))
        found, ratio = faster_layout(self.training_module.model, inputs)
        arrange(self.training_module.model, found)
        rank_zero_info("memory format %s, %.2f times as fast as the other", found, ratio)
        return found

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
        self.supernet.losses.check(self.parameters())
        if self.search.step < self.search.steps:
            warnings.warn(
                f"training ended after {self.search.step} of {self.search.steps} steps, in phase "
                f"{self.search.phase.name!r}: the ranking is that of an unfinished search",
                stacklevel=2,
            )
        self._rank()
        super().on_train_end()

    def on_fit_end(self) -> None:
        if not self.ranking:  # went on from the last step: nothing to train, no on_train_end
            self._rank()
        super().on_fit_end()

    def _rank(self) -> None:
        """Rank the candidates, and add up what all processes did."""
        self._check_agreement()
        self.ranking = self.search.rank(self._candidates)
        seconds, self._began = self._elapsed(), None
        ended = self.supernet.ranks.gathered((seconds, self._spent))
        self.seconds = max(seconds for seconds, _ in ended)
        self.spent = together([spent for _, spent in ended])

    @property
    def _spent(self) -> Spent:
        return Spent(self.trained, self.supernet.images, self.supernet.passes)

    def _elapsed(self) -> float:
        running = 0.0 if self._began is None else time.monotonic() - self._began
        return self.seconds + running

    # What a checkpoint keeps: numbers, strings, lists and dicts, so that it loads weights-only.

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.supernet.losses.check(self.parameters())
        own = {
            "trained": _rows(self.trained),
            "images": _rows(self.supernet.images),
            "passes": dict(self.supernet.passes),
            "layers": dict(self.supernet.layers),
            "consumed": self.supernet.consumed,
            "randomness": self._randomness.state_dict(
                self.trainer.fit_loop.batch_idx + 1, ended=self.search.step >= self.search.steps
            ),
        }
        checkpoint[STATE_KEY] = {
            "phases": _lengths(self.search),
            "search": self.search.state_dict(),
            "asked": [list(architecture) for architecture in self._asked],
            "seconds": self._elapsed(),
            "average_reward": self.average_reward,
            "memory_format": self.memory_format,
            "ranks": self.supernet.ranks.gathered(own),
        }
        self.training_module.on_save_checkpoint(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if STATE_KEY not in checkpoint:
            raise ValueError(f"checkpoint must come from a search, it has no {STATE_KEY!r}")
        state = checkpoint[STATE_KEY]
        self._restored = state
        self._restore()
        self._asked = tuple(tuple(architecture) for architecture in state["asked"])
        self.seconds = float(state["seconds"])
        self.average_reward = float(state["average_reward"])
        self.memory_format = state.get("memory_format", "contiguous")  # the only one before
        if self.memory_format != "measure":
            arrange(self.training_module.model, self.memory_format)
        self._restore_own(state.get("ranks", [state]))  # one device had no list before
        begin_next_epoch(checkpoint, self.trainer)
        self.training_module.on_load_checkpoint(checkpoint)

    def _restore_own(self, states: Sequence[dict[str, Any]]) -> None:
        """Load what this process kept; ValueError when there were more or fewer of them."""
        ranks = self.supernet.ranks
        if len(states) != ranks.size:
            raise ValueError(
                f"trainer must run on the {len(states)} devices of the checkpoint, "
                f"got {ranks.size}"
            )
        own = states[ranks.rank]
        self.trained = Counter({tuple(a): n for a, n in own["trained"]})
        self.supernet.images = Counter({tuple(a): n for a, n in own["images"]})
        self.supernet.passes = Counter(own["passes"])
        self.supernet.layers = Counter(own.get("layers", {}))
        self.supernet.consumed = int(own["consumed"])
        self._undrawn = own["randomness"]
        self._randomness.load_state_dict(own["randomness"])


def _lengths(search: Search) -> list[list[Any]]:
    return [[phase.name, phase.steps] for phase in search.phases]


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

"""Watching gradients and errors of a training, and making the next epoch's laws of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from pytorch_lightning import Callback
from torch import nn

from nas_ext.architecture import SearchSpace
from nas_ext.oneshot.data_order import DataOrder, reordered
from nas_ext.oneshot.module import SearchModule
from nas_ext.oneshot.option_parameters import (
    OptionParameters,
    gradient_norms,
    option_parameters,
)
from nas_ext.samplers.data_importance import error_norms
from nas_ext.samplers.path_importance import PathImportanceSampler

__all__ = ["ImportanceObserver"]


class ImportanceObserver(Callback):
    """Collect gradient norms of options and scores of samples; end their epochs.

    `watch_paths` and `watch_data` say what is collected. Gradients are read when all of an
    accumulation window are there, unscaled, before they are clipped; a step with a gradient that
    is not finite teaches nothing. Scores are read from the model's output of the training step.
    At the end of epoch e = 0, 1, ... of E, tau is e / E. Section 4.3.
    """

    def __init__(self) -> None:
        super().__init__()
        self._parameters: OptionParameters | None = None
        self._order: DataOrder | None = None
        self._waiting: dict[str, Any] | None = None
        self._epochs = 0
        self._ended = 0
        self._taken = 0
        self._hook: Any = None
        self._watching = False
        self._output: Any = None

    def watch_paths(self, model: nn.Module, space: SearchSpace) -> None:
        """Collect the gradients of a supernet; ValueError for choices without layers."""
        self._parameters = option_parameters(model, space)

    def watch_data(self, loader: Any, *, seed: int) -> Any:
        """Return a loader that draws by the scores of its samples; ValueError if none can."""
        changed, self._order = reordered(loader, seed=seed)
        self._restore()
        return changed

    def attach(self, module: SearchModule) -> None:
        """Become a callback of whatever trainer gets the module, beside the module's own."""
        own = module.configure_callbacks

        def configure_callbacks() -> list[Callback]:
            given = own() or []
            return [*(given if isinstance(given, Sequence) else [given]), self]

        module.configure_callbacks = configure_callbacks

    @property
    def order(self) -> DataOrder:
        """Return the order of the training samples; RuntimeError when nothing draws them."""
        if self._order is None:
            raise RuntimeError("an observer has no order before it watches a training loader")
        return self._order

    # What Lightning calls.

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        batches = self._count_epochs(trainer, pl_module)
        if trainer.current_epoch > self._ended:
            # Lightning, resumed from the last batch of an epoch, does not end that epoch
            self._end_epoch(trainer.current_epoch - 1, pl_module)
        if self._order is not None:
            inside = 0 < trainer.fit_loop.batch_idx + 1 < batches
            self._order.go_on(self._taken if inside else 0)
            self._hook = pl_module.training_module.model.register_forward_hook(self._keep)

    def _count_epochs(self, trainer: Any, pl_module: Any) -> int:
        """Return the batches of an epoch; ValueError when there is no such number."""
        batches = trainer.num_training_batches
        if not math.isfinite(batches):
            raise ValueError(f"training loader must have a length, got {batches} batches")
        steps = math.ceil(batches / trainer.accumulate_grad_batches)
        self._epochs = math.ceil(pl_module.search.steps / steps)
        return int(batches)

    def _keep(self, model: nn.Module, inputs: Any, output: Any) -> None:
        """Keep the output of a training step, which has gradients; not that of an evaluation."""
        if self._watching and torch.is_grad_enabled():
            self._output = output

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        self._watching, self._output = True, None

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        if self._parameters is None:
            return
        search = pl_module.search
        architecture = search.draws[-1].architecture
        norms = gradient_norms(self._parameters, architecture)
        if all(map(math.isfinite, norms)):
            _paths(search.sampler).learn(architecture, norms)

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        output, self._output, self._watching = self._output, None, False
        if self._order is None:
            return
        logits, labels = _classified(output, batch)
        scores = error_norms(logits.detach().double().cpu().numpy(), labels.cpu().numpy())
        self._order.importance.learn(self._order.take(len(scores)), scores)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self._end_epoch(trainer.current_epoch, pl_module)

    def _end_epoch(self, epoch: int, pl_module: Any) -> None:
        tau = epoch / self._epochs
        if self._parameters is not None:
            _paths(pl_module.search.sampler).end_epoch(tau)
        if self._order is not None:
            self._order.importance.end_epoch(tau)
        self._ended = epoch + 1

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self._release()

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        begun = trainer.fit_loop.epoch_progress.current.ready
        if begun > self._ended:  # went on from the last step, inside an epoch: it is not ended
            self._count_epochs(trainer, pl_module)
            self._end_epoch(begun - 1, pl_module)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._release()

    def _release(self) -> None:
        self._watching, self._output = False, None
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    # What a checkpoint keeps; the paths are in the search.

    def state_dict(self) -> dict[str, Any]:
        data = None if self._order is None else self._order.importance.state_dict()
        taken = 0 if self._order is None else self._order.taken
        return {"ended": self._ended, "data": data, "taken": taken}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._ended = int(state_dict["ended"])
        self._waiting = state_dict["data"]
        self._taken = int(state_dict.get("taken", 0))  # older checkpoints: of whole epochs
        self._restore()

    def _restore(self) -> None:
        if self._order is not None and self._waiting is not None:
            self._order.importance.load_state_dict(self._waiting)
            self._waiting = None


def _paths(sampler: Any) -> PathImportanceSampler:
    if not isinstance(sampler, PathImportanceSampler):
        raise TypeError(f"sampler must be a PathImportanceSampler, got {type(sampler).__name__}")
    return sampler


def _classified(output: Any, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits and labels of a batch; ValueError when it is no classification."""
    labels = batch[1] if isinstance(batch, list | tuple) and len(batch) == 2 else None
    if not isinstance(labels, torch.Tensor):
        raise ValueError(
            f"batch must be (inputs, labels) for data sampling, got {type(batch).__name__}"
        )
    if not isinstance(output, torch.Tensor):
        raise ValueError(
            "training step must call the model and get logits [B, C] for data sampling, got "
            f"{type(output).__name__}"
        )
    return output, labels

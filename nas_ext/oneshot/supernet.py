"""A model space with shared weights, as an estimator of its architectures."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from nas_ext.architecture import Architecture, SearchSpace
from nas_ext.estimation import FloatArray, ProxyName, check_reward
from nas_ext.nni import BaseSuperNetModule, LightningModule, PathSamplingLayer
from nas_ext.oneshot.distributed import ALONE, Ranks, summary
from nas_ext.oneshot.diverging import FiniteLosses
from nas_ext.oneshot.rewards import Reward
from nas_ext.oneshot.sharing import Visits, sharing
from nas_ext.oneshot.stacking import Proofs
from nas_ext.out_of_memory import naming_memory

__all__ = ["Supernet", "batch_size"]


class Supernet:
    """Activate architectures on shared weights and run them on validation batches.

    Evaluation is in eval mode, without gradients, and normalises every batch with its own
    statistics, whether or not the layers track any: running statistics of a supernet mix all
    architectures, and ranking by them is near chance (section 1.5). Batches smaller than the
    first are left out for the same reason. `to_device` moves a batch, `precision` opens the
    trainer's autocast; `renew` makes a freshly initialised state dict from a seed. `passes` and
    `images` count the forward passes by purpose and the images by architecture, as if each ran
    alone; `consumed` the batches that rewards took since the validation set last began.

    A model with a `forward_chain` (see `PrefixWalk`) runs each layer that architectures share
    once, in `accuracies` and `outputs`; user's module and reward are called for each of them all
    the same, in sorted order, and get what the model's own forward would have given, to the bit.
    `layers` counts the layers that were run so, by purpose.

    Outputs that are infinite or NaN raise SearchDiverged, and memory that runs out
    OutOfMemory; both name the architecture. `losses` watches those of the training.

    Of several processes, `ranks`, each rewards on batches of its own and all get the mean; they
    share the architectures of `accuracies`, `outputs` and `proxy` among them, and each counts what
    it ran itself.
    """

    def __init__(
        self,
        space: SearchSpace,
        module: LightningModule,
        *,
        loader: Callable[[], Iterable[Any]],
        reward: Reward,
        renew: Callable[[int], dict[str, Any]],
        rng: np.random.Generator,
        ranks: Ranks = ALONE,
    ) -> None:
        self.space = space
        self.ranks = ranks
        self.module = module
        self.to_device: Callable[[Any], Any] = lambda batch: batch
        self.precision: Callable[[], Any] = torch.no_grad
        self.reinitialised: list[Callable[[], None]] = []
        self._make_loader = loader
        self._loader: Iterable[Any] | None = None
        self._stream: Iterator[Any] | None = None
        self._fixed: Any = None
        self._reward = reward
        self._renew = renew
        self._paths: list[tuple[Any, str]] = [
            (part, str(part.label) if type(part) is PathSamplingLayer else "")
            for part in module.modules()
            if isinstance(part, BaseSuperNetModule)
        ]
        self._rng = rng
        self.passes: Counter[str] = Counter()
        self.images: Counter[Architecture] = Counter()
        self.layers: Counter[str] = Counter()
        self.consumed = 0
        self.losses = FiniteLosses(space.describe)
        self._proofs: dict[int, Proofs] = {}
        self._active: Architecture = ()

    # Which architecture runs.

    def activate(self, architecture: Architecture) -> None:
        """Route the supernet through an architecture.

        Raises RuntimeError when a module of the supernet chose for itself: then something else
        would be trained than what the search thinks.
        """
        sample = self.space.decode(architecture)
        for module, label in self._paths:
            if label and label in sample:
                vars(module)["_sampled"] = sample[label]  # all that its `resample` does, and fast
                continue
            taken = module.resample(memo=dict(sample))
            if any(label not in sample or sample[label] != taken[label] for label in taken):
                raise RuntimeError(
                    f"supernet module {type(module).__name__} must take the sample {sample}, "
                    f"it took {taken}"
                )
        self._active = architecture

    # What it is worth.

    def reward(self, architecture: Architecture) -> float:
        """Return the reward on the next validation batch, beginning again after the last."""
        batch = self._next_batch()
        with self._evaluating():
            reward = self._value(architecture, batch, "reward")
        return self.ranks.mean_reward(architecture, reward)

    def accuracies(
        self, architectures: Sequence[Architecture], *, batches: int | None = None
    ) -> FloatArray:
        """Return `[N]` rewards on the validation set, every batch seen by all alike.

        `batches` takes so many from its beginning, and no more than there are; None takes all.
        """
        if batches is not None and batches < 1:
            raise ValueError(f"batches must be at least 1, got {batches}")
        return self.ranks.spread(architectures, lambda some: self._accuracies(some, batches))

    def _accuracies(
        self, architectures: Sequence[Architecture], batches: int | None
    ) -> FloatArray:
        totals, weight = np.zeros(len(architectures)), 0
        with self._evaluating(), self._sharing(architectures, "accuracies") as visits:
            for batch in itertools.islice(self._batches(), batches):
                size = batch_size(batch)
                for place in visits:
                    value = self._value(architectures[place], batch, "accuracies")
                    totals[place] += size * value
                weight += size
        return totals / weight

    def _value(self, architecture: Architecture, batch: Any, purpose: str) -> float:
        self._route(architecture, batch, purpose)
        try:
            return check_reward(self._reward(self.module, batch))
        except FloatingPointError as error:
            raise self.losses.diverged("outputs on validation data", architecture) from error

    def _route(self, architecture: Architecture, batch: Any, purpose: str) -> None:
        """Activate an architecture, and count what is about to run."""
        self.activate(architecture)
        self.passes[purpose] += 1
        self.images[architecture] += batch_size(batch)

    def outputs(self, architectures: Sequence[Architecture]) -> FloatArray:
        """Return `[N, S, C]` logits on the first validation batch, the same one at every call.

        Raises ValueError when the module's output is not `[S, C]`, or the batch no sequence.
        """
        fixed: Any = next(self._batches()) if self._fixed is None else self._fixed
        if not isinstance(fixed, list | tuple):
            raise ValueError(
                f"batch must be (inputs, ...) for outputs, got {type(fixed).__name__}"
            )
        return self.ranks.spread(architectures, lambda some: self._outputs(some, fixed))

    def _outputs(self, architectures: Sequence[Architecture], fixed: Any) -> FloatArray:
        rows: FloatArray | None = None
        with self._evaluating(), self._sharing(architectures, "outputs") as visits:
            for place in visits:
                self._route(architectures[place], fixed, "outputs")
                logits = self.module(fixed[0])
                if not isinstance(logits, torch.Tensor) or logits.ndim != 2:
                    shape = tuple(getattr(logits, "shape", ())) or type(logits).__name__
                    raise ValueError(f"outputs must be [S, C], got {shape}")
                if rows is None:
                    rows = np.empty((len(architectures), *logits.shape))
                rows[place] = logits.float().cpu().numpy()
                if not np.isfinite(rows[place]).all():
                    raise self.losses.diverged("outputs on validation data", architectures[place])
        return np.empty(0) if rows is None else rows

    def _sharing(
        self, architectures: Sequence[Architecture], purpose: str
    ) -> AbstractContextManager[Visits]:
        return sharing(
            getattr(self.module, "model", None),
            self.space,
            architectures,
            activate=self.activate,
            active=lambda: self._active,
            count=lambda layers: self.layers.update({purpose: layers}),
            proofs=self._proofs,
        )

    def proxy(self, name: ProxyName, architectures: Sequence[Architecture]) -> FloatArray:
        """Return `[N]` zero-cost scores, higher meaning better, of the weights as they stand.

        The weights stay as they are, bit for bit. Raises ValueError for a name without a proxy.
        """
        from nas_ext.oneshot.proxies import PROXIES  # here: proxies are made of a supernet

        if name not in PROXIES:
            raise ValueError(f"name must be one of {list(PROXIES)}, got {name!r}")
        return self.ranks.spread(architectures, lambda some: PROXIES[name](self, some))

    def reinitialise(self) -> None:
        """Give the model fresh weights, and tell the training loop to forget its momenta."""
        self.module.model.load_state_dict(self._renew(int(self._rng.integers(2**31))))
        for forget in self.reinitialised:
            forget()

    @property
    def inputs(self) -> Any:
        """Return those of the first validation batch; None for a batch that is no sequence."""
        return self._fixed[0] if isinstance(self._fixed, list | tuple) else None

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Return height and width of the validation images, None for inputs of another form."""
        inputs = self.inputs
        if not isinstance(inputs, torch.Tensor) or inputs.ndim != 4:
            return None
        return int(inputs.shape[2]), int(inputs.shape[3])

    # The validation batches.

    def _batches(self) -> Iterator[Any]:
        """Yield the validation batches on the device, all of the size of the first one."""
        if self._loader is None:
            self._loader = self._make_loader()
        first = 0
        for batch in self._loader:
            moved = self.to_device(batch)
            self._fixed = moved if self._fixed is None else self._fixed
            first = first or self._check_first(batch_size(moved))
            if batch_size(moved) == first:
                yield moved
        if not first:
            raise ValueError("validation set must fill at least one batch, got no batch")

    def _check_first(self, size: int) -> int:
        sampler = getattr(self._loader, "sampler", None)
        wanted = getattr(self._loader, "batch_size", None) or getattr(sampler, "batch_size", None)
        if wanted is not None and size < wanted:
            raise ValueError(
                f"validation set must fill at least one batch of {wanted}, got {size} samples"
            )
        return size

    def check(self) -> None:
        """Read one validation batch: what is wrong with them shows before anything is trained.

        Moves no global random generator.
        """
        with torch.random.fork_rng(devices=[]):
            next(self._batches())

    def begin(self) -> None:
        """Read one validation batch; of several processes, begin the rewards at different ones.

        Each has a part of the validation set before it that no other is at. Raises ValueError
        when there are fewer batches than processes, RuntimeError when they do not see the same.
        """
        self.check()
        if self.ranks.size == 1:
            return
        self.ranks.agree("first validation batch", summary(self._fixed))
        count = len(self._loader) if isinstance(self._loader, Sized) else 0
        if count < self.ranks.size:
            raise ValueError(
                f"val_dataloaders must have a length, and a batch for each of {self.ranks.size} "
                f"devices, got {count} batches"
            )
        if not self.passes["reward"]:
            self.consumed = count * self.ranks.rank // self.ranks.size

    def _next_batch(self) -> Any:
        if self._stream is None and self.consumed:
            self._stream = self._resumed()
        for batch in self._stream or ():
            self.consumed += 1
            return batch
        self._stream, self.consumed = self._batches(), 1
        return next(self._stream)

    def _resumed(self) -> Iterator[Any]:
        """Return the validation batches after those that were consumed before a checkpoint."""
        with torch.random.fork_rng(devices=[]):
            stream = self._batches()
            for _ in islice(stream, self.consumed):
                pass
        return stream

    def _evaluation(self) -> str:
        return f"the evaluation of architecture {self.space.describe(self._active)}"

    @cached_property
    def _all(self) -> list[nn.Module]:
        return list(self.module.modules())

    @cached_property
    def _norms(self) -> list[_BatchNorm]:
        return [module for module in self._all if isinstance(module, _BatchNorm)]

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Set eval mode with batch statistics, without gradients; put everything back."""
        modes = [m.training for m in self._all]
        tracked = [norm.track_running_stats for norm in self._norms]
        try:
            for module in self._all:
                module.training = False
            for norm in self._norms:
                norm.training, norm.track_running_stats = True, False
            lower = "the validation batch size or the size of the images"
            with naming_memory(self._evaluation, lower=lower), torch.no_grad(), self.precision():
                yield
        finally:
            for module, mode in zip(self._all, modes, strict=True):
                module.training = mode
            for norm, track in zip(self._norms, tracked, strict=True):
                norm.track_running_stats = track


def batch_size(batch: Any) -> int:
    """Return the number of samples of a batch: the length of its first tensor."""
    if isinstance(batch, torch.Tensor):
        return len(batch)
    values = batch.values() if isinstance(batch, dict) else batch
    if isinstance(values, str | nn.Module) or not isinstance(values, Iterable):
        raise ValueError(f"batch must hold a tensor, got {type(batch).__name__}")
    for value in values:
        if isinstance(value, torch.Tensor | dict | list | tuple):
            return batch_size(value)
    raise ValueError(f"batch must hold a tensor, got {type(batch).__name__}")

"""Sampling paths by their gradients and training samples by their errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from nas_ext.oneshot import SampledStrategy, SearchModule
from nas_ext.oneshot.pada import ImportanceObserver
from nas_ext.samplers import UniformSampler
from nas_ext.samplers.path_importance import PathImportanceSampler
from nas_ext.search import Phase

__all__ = ["PADA"]


@dataclass(kw_only=True, eq=False)
class PADA(SampledStrategy):
    """Train more what has large gradients: options of layers, and samples.

    After each epoch the options of a choice get probabilities by running norms of the gradients
    of their parameters (`path_sampling`), and the training samples by ||softmax - onehot||_2 of
    the network's outputs (`data_sampling`); both are mixed with the uniform law, whose share falls
    from 1 after the first epoch to 1/E after the last of E. A smaller variance of the gradients is
    the aim. The loss stays the plain mean. No rewards are computed; `candidates` are those of
    `Uniform`. With neither, this is `Uniform`.

    Options without parameters have the uniform share only. In pooling spaces both options of a
    layer stand for the block behind it. Data sampling replaces the sampler of the training
    loader, which must be a `DataLoader` over an indexed data set with batches `(inputs, labels)`
    of one class each, and needs a training step that calls the model once a batch. A table has
    neither gradients nor samples, and its accuracies are no stand-in: an option may have large
    gradients because it is good or because it is bad. Phases that run on a table therefore draw
    uniformly, and the bench leaves the method out.

    Source: section 4.3 (PA&DA). Departures: probabilities for each choice apart, where the source
    has one vector for all edges of a cell; conditioned on the architecture's existence; gradients
    are read before they are clipped. The published runs clip at 5, with a learning rate of 0.05
    and batches of 256: `gradient_clip_val` of the trainer and the training module's settings.
    """

    asks_rewards: ClassVar[bool] = False

    several_devices: ClassVar[str] = "draw by the errors of its own samples"

    candidates: int | None = None
    path_sampling: bool = True
    data_sampling: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._observer = ImportanceObserver()

    def phases(self, steps: int) -> tuple[Phase, ...]:
        sampler = PathImportanceSampler if self.path_sampling else UniformSampler
        return (Phase("importance", steps, lambda s: sampler(s.space, s.rng)),)

    def configure_oneshot_module(self, training_module: Any) -> SearchModule:
        module = super().configure_oneshot_module(training_module)
        if self.path_sampling:
            self._observer.watch_paths(self._mutated_model(), self.search_space)
        self._observer.attach(module)
        return module

    def train_dataloader(
        self, train_dataloader_fn: Callable[[], Any], val_dataloader_fn: Callable[[], Any]
    ) -> Any:
        """Train on a loader like the user's, which draws by the scores; see `data_sampling`.

        A supernet that is only ranked has no training loader, None.
        """
        if not self.data_sampling:
            return super().train_dataloader(train_dataloader_fn, val_dataloader_fn)

        def drawing() -> Any:
            loader = train_dataloader_fn()
            return None if loader is None else self._observer.watch_data(loader, seed=self.seed)

        return super().train_dataloader(drawing, val_dataloader_fn)

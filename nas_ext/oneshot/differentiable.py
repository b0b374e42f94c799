"""What differentiable strategies share: NNI's side of a search without a sampler."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from nas_ext.architecture import SearchSpace
from nas_ext.files import write_json
from nas_ext.manifest import manifest
from nas_ext.nni import BaseSuperNetModule, ModelSpace
from nas_ext.oneshot.differentiable_module import STATE_KEY, DifferentiableModule
from nas_ext.oneshot.mixed import ArchitectureWeights, ExpectedMacs, MixedLayer
from nas_ext.oneshot.spaces import search_space
from nas_ext.oneshot.strategy_base import OneShotBase
from nas_ext.oneshot.supernet import Supernet
from nas_ext.results import Budget, SearchResult
from nas_ext.search import Ranked

__all__ = ["STATE_KEY", "DifferentiableModule", "DifferentiableStrategy"]


@dataclass(kw_only=True, eq=False)
class DifferentiableStrategy(OneShotBase):
    """A one-shot strategy of NNI that trains a mixture of all candidates of each layer choice.

    A method is a subclass whose one method is `relax`. Serves every model space that is a plain
    product of NNI's `LayerChoice`s. There is no sampler and no draw, and what moves the mixture
    are gradients of a network's loss: a table has none, so it cannot be searched so, and the
    bench leaves these methods out. `seed` is recorded, initial weights are drawn by whoever built
    the model space.

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

    candidates: int = 50
    penalty: float = 0.0

    asks_rewards: ClassVar[bool] = False
    several_devices: ClassVar[str] = "step architecture weights of its own"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.candidates < 1:
            raise ValueError(f"candidates must be at least 1, got {self.candidates}")
        if not 0 <= self.penalty < math.inf:
            raise ValueError(f"penalty must not be negative, got {self.penalty}")

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
        self.check_plain(model)
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

    def configure_oneshot_module(self, training_module: Any) -> DifferentiableModule:
        training_module.set_model(self._mutated_model())
        supernet = Supernet(
            self.search_space,
            training_module,
            loader=self._validation_loader,
            reward=self._reward(),
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

    def _expected_macs(self, image_size: tuple[int, int] | None) -> ExpectedMacs:
        closed_form = getattr(self._mutated_model(), "macs", None)
        if closed_form is None or image_size is None:
            raise ValueError(
                f"penalty must be 0 for {type(self._mutated_model()).__name__}, which has no "
                f"closed form of macs for such inputs, got {self.penalty}"
            )
        return ExpectedMacs.of(self.search_space, lambda a: closed_form(a, image_size=image_size))

    def _run(self) -> None:
        super()._run()
        if self.out is not None:
            named = {
                label: {str(option): share for option, share in row.items()}
                for label, row in self.probabilities.items()
            }
            write_json(Path(self.out) / "probabilities.json", named)

    # What was found.

    @property
    def probabilities(self) -> dict[str, dict[Any, float]]:
        """Return the weight of each option as it stands, by label: a row sums to 1."""
        rows = self._module.architecture.probabilities()
        return {
            choice.label: dict(zip(choice.options, row, strict=True))
            for choice, row in zip(self.search_space.choices, rows, strict=True)
        }

    @property
    def _module(self) -> DifferentiableModule:
        module = self.oneshot_module
        if not isinstance(module, DifferentiableModule):
            raise RuntimeError(f"the one-shot module must be a mixture, got {type(module)}")
        return module

    def _collect(self) -> SearchResult:
        module = self._module
        size, rows = module.supernet.image_size, module.architecture.probabilities()
        return SearchResult(
            strategy=type(self).__name__,
            settings=self.settings,
            seed=self.seed,
            space=self._described_space(),
            phases=(("mixture", module.steps),),
            draws=(),
            ranking=tuple(
                self._line(r.architecture, r.accuracy, size, {"weight": _weight(rows, r)})
                for r in module.ranking
            ),
            budget=self._budget(module),
            manifest=manifest(seeds=[self.seed], data=None),
            diagnostics=self._diagnostics(module),
        )

    def _diagnostics(self, module: DifferentiableModule) -> dict[str, float]:
        """Return mean and minimum over the choices of the largest weight: 1 is decided."""
        largest = [float(max(row)) for row in module.architecture.probabilities()]
        return {
            "mean_largest_weight": float(np.mean(largest)),
            "smallest_largest_weight": min(largest),
        }

    def _budget(self, module: DifferentiableModule) -> Budget:
        supernet = module.supernet
        evaluated = [(self._macs(a, supernet.image_size), n) for a, n in supernet.images.items()]
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


def _weight(rows: Sequence[Sequence[float]], ranked: Ranked) -> float:
    """Return the product of the weights of an architecture's options."""
    return math.prod(float(row[k]) for row, k in zip(rows, ranked.architecture, strict=True))


def _never(seed: int) -> dict[str, Any]:
    raise RuntimeError("the weights of a mixture are not started again")

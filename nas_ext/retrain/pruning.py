"""Which trials a study ends early."""

from __future__ import annotations

from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    PercentilePruner,
)

FULL_TRIALS = 5


def choose_pruner(pruner: str | BasePruner | None, epochs: int, *, several: bool) -> BasePruner:
    """Return Optuna's pruner of a name, set for trials of so many epochs; None prunes nothing.

    `"percentile"` stops the worst quarter and `"median"` the worse half, both after five full
    trials and not in the first quarter of the epochs, as the ranks of recipes settle late.
    `"hyperband"` begins there too and halves its brackets; as a trial's bracket follows from its
    number, one that is repeated may fall into another. With `several` objectives nothing is
    pruned, as Optuna does not support it.

    Raises ValueError for other names, and for several objectives with a pruner of Optuna's.
    """
    if several:
        if isinstance(pruner, BasePruner) and not isinstance(pruner, NopPruner):
            raise ValueError(f"pruner must be None with several objectives, got {pruner!r}")
        return NopPruner()
    if pruner is None:
        return NopPruner()
    if isinstance(pruner, BasePruner):
        return pruner
    if pruner == "percentile":
        return PercentilePruner(75, n_startup_trials=FULL_TRIALS, n_warmup_steps=epochs // 4)
    if pruner == "median":
        return MedianPruner(n_startup_trials=FULL_TRIALS, n_warmup_steps=epochs // 4)
    if pruner == "hyperband":
        # "auto" for the most would wait until a first trial is complete
        return HyperbandPruner(
            min_resource=max(1, epochs // 4), max_resource=epochs, reduction_factor=2
        )
    raise ValueError(
        f"pruner must be 'percentile', 'median', 'hyperband', None or Optuna's, got {pruner!r}"
    )

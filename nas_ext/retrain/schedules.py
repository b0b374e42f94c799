"""The learning rate of each update."""

from __future__ import annotations

from typing import cast

from timm.scheduler.multistep_lr import MultiStepLRScheduler
from timm.scheduler.scheduler import Scheduler
from timm.scheduler.scheduler_factory import create_scheduler_v2
from timm.scheduler.step_lr import StepLRScheduler
from torch.optim import Optimizer

from nas_ext.retrain.recipe import Recipe

WARMUP_LR = 1e-5  # timm's default: where the warm-up begins


def schedule(optimizer: Optimizer, recipe: Recipe, updates: int) -> Scheduler:
    """Return timm's scheduler for a recipe of `updates` updates an epoch, stepped by updates.

    Built without timm's factory where that would count otherwise: its milestones begin a step
    early, and with the warm-up as a prefix they and `decay_epochs` would begin behind it. The
    cosine does begin behind it; without, timm's never reaches the recipe's rate.
    """
    if recipe.sched == "multistep":
        return MultiStepLRScheduler(
            optimizer,
            # timm compares with the number of the update plus one
            [round(epoch * updates) + 1 for epoch in recipe.decay_milestones],
            decay_rate=recipe.decay_rate,
            warmup_t=recipe.warmup_epochs * updates,
            warmup_lr_init=WARMUP_LR,
            warmup_prefix=False,
            t_in_epochs=False,
        )
    if recipe.sched == "step":
        return StepLRScheduler(
            optimizer,
            max(1, round(recipe.decay_epochs * updates)),
            decay_rate=recipe.decay_rate,
            warmup_t=recipe.warmup_epochs * updates,
            warmup_lr_init=WARMUP_LR,
            warmup_prefix=False,
            t_in_epochs=False,
        )
    scheduler, _ = create_scheduler_v2(
        optimizer,
        sched=recipe.sched,
        num_epochs=recipe.epochs - recipe.warmup_epochs,
        warmup_epochs=recipe.warmup_epochs,
        warmup_lr=WARMUP_LR,
        warmup_prefix=True,
        min_lr=recipe.min_lr,
        step_on_epochs=False,
        updates_per_epoch=updates,
    )
    return cast(Scheduler, scheduler)

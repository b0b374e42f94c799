"""Retraining of found architectures: recipes, one repeatable training, and its Optuna study."""

from nas_ext.retrain.final import FinalResult, final
from nas_ext.retrain.fit import Epoch, FitResult, TrainingDiverged, fit
from nas_ext.retrain.recipe import Recipe
from nas_ext.retrain.sampler import SeededTPE
from nas_ext.retrain.space import default_suggest
from nas_ext.retrain.study import best_recipe, study

__all__ = [
    "Epoch",
    "FinalResult",
    "FitResult",
    "Recipe",
    "SeededTPE",
    "TrainingDiverged",
    "best_recipe",
    "default_suggest",
    "final",
    "fit",
    "study",
]

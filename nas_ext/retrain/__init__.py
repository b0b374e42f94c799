"""Retraining of found architectures: recipes, one repeatable training, and its Optuna study."""

from nas_ext.retrain.candidates import Candidate, TimmEntry, baseline
from nas_ext.retrain.confirm import confirm
from nas_ext.retrain.confirmation import Confirmation, ConfirmedRecipe
from nas_ext.retrain.final import FinalResult, final, train_and_test
from nas_ext.retrain.fit import Epoch, FitResult, TrainingDiverged, fit
from nas_ext.retrain.ranges import find_suggest, suggest_from
from nas_ext.retrain.recipe import Recipe
from nas_ext.retrain.sampler import SeededTPE
from nas_ext.retrain.space import DefaultSpace, default_suggest
from nas_ext.retrain.stages import Retrained, Stages, run_stages
from nas_ext.retrain.study import best_recipe, study

__all__ = [
    "Candidate",
    "Confirmation",
    "ConfirmedRecipe",
    "DefaultSpace",
    "Epoch",
    "FinalResult",
    "FitResult",
    "Recipe",
    "Retrained",
    "SeededTPE",
    "Stages",
    "TimmEntry",
    "TrainingDiverged",
    "baseline",
    "best_recipe",
    "confirm",
    "default_suggest",
    "final",
    "find_suggest",
    "fit",
    "run_stages",
    "study",
    "suggest_from",
    "train_and_test",
]

"""Figures of searches and retrainings, from what they leave behind.

Every function returns a `matplotlib.figure.Figure` that belongs to no window and no global
state. Figures are 6.4 inches wide: at the 110 dots per inch of `to_png`, 704 pixels.
"""

from nas_ext.plots.drawing import save, to_png
from nas_ext.plots.recipes import importances, parallel_coordinates, parameter_importances
from nas_ext.plots.retraining import accuracy_against_macs, seeds, study_history
from nas_ext.plots.searches import pareto_front, ranking, reward_curve, sampling_shares
from nas_ext.plots.trees import dendrogram

__all__ = [
    "accuracy_against_macs",
    "dendrogram",
    "importances",
    "parallel_coordinates",
    "parameter_importances",
    "pareto_front",
    "ranking",
    "reward_curve",
    "sampling_shares",
    "save",
    "seeds",
    "study_history",
    "to_png",
]

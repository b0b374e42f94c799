"""Strategies side by side on real images, seed by seed, against known ground truth."""

from nas_ext.comparison.metrics import METRICS, Judged, judge
from nas_ext.comparison.presets import competitors
from nas_ext.comparison.runner import Comparison, Competitor, compare
from nas_ext.comparison.statistics import Contrast, Summary, contrasts, summaries

__all__ = [
    "METRICS",
    "Comparison",
    "Competitor",
    "Contrast",
    "Judged",
    "Summary",
    "compare",
    "competitors",
    "contrasts",
    "judge",
    "summaries",
]

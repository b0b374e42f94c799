"""Strategies side by side on real images, seed by seed, against known ground truth."""

from nas_ext.comparison.competitor import Competitor
from nas_ext.comparison.metrics import DIAGNOSTICS, METRICS, NUMBERS, Judged, judge
from nas_ext.comparison.presets import competitors
from nas_ext.comparison.runner import Comparison, compare
from nas_ext.comparison.statistics import Contrast, Summary, contrasts, summaries

__all__ = [
    "DIAGNOSTICS",
    "METRICS",
    "NUMBERS",
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

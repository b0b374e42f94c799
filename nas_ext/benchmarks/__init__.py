"""Tables with ground truth, and running strategies and baselines against them in seconds."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from nas_ext.benchmarks.baselines import BASELINES
from nas_ext.benchmarks.nasbench_macro import NASBenchMacroSpace, nasbench_macro_table
from nas_ext.benchmarks.pooling import pooling_table
from nas_ext.benchmarks.run import TableRun, TooFewEvaluations, run, steps_within
from nas_ext.benchmarks.table import Table, TabularEstimator

__all__ = [
    "BASELINES",
    "TABLES",
    "NASBenchMacroSpace",
    "Table",
    "TableRun",
    "TabularEstimator",
    "TooFewEvaluations",
    "nasbench_macro_table",
    "pooling_table",
    "run",
    "steps_within",
]

TABLES: Mapping[str, Callable[[], Table]] = MappingProxyType(
    {"pooling": pooling_table, "nasbench-macro": nasbench_macro_table}
)
"""The tables by the name that `nas-ext bench` takes; NAS_EXT_DATA names files not shipped."""

"""Tables with ground truth, and running strategies and baselines against them in seconds."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

from nas_ext.benchmarks.baselines import BASELINES
from nas_ext.benchmarks.measured import (
    MeasuredTable,
    measured_table,
    mini_macro_table,
    mini_pooling_table,
    narrow_pooling_table,
)
from nas_ext.benchmarks.nasbench201 import nasbench201_table
from nas_ext.benchmarks.nasbench_macro import NASBenchMacroSpace, nasbench_macro_table
from nas_ext.benchmarks.pooling import pooling_table
from nas_ext.benchmarks.run import TableRun, TooFewEvaluations, run, steps_within
from nas_ext.benchmarks.table import Table, TabularEstimator

__all__ = [
    "BASELINES",
    "FROM_FILES",
    "SHIPPED",
    "TABLES",
    "MeasuredTable",
    "NASBenchMacroSpace",
    "Table",
    "TableRun",
    "TabularEstimator",
    "TooFewEvaluations",
    "measured_table",
    "mini_macro_table",
    "mini_pooling_table",
    "narrow_pooling_table",
    "nasbench201_table",
    "nasbench_macro_table",
    "pooling_table",
    "run",
    "steps_within",
]

SHIPPED: Mapping[str, Callable[[], Table]] = MappingProxyType(
    {
        "pooling": pooling_table,
        "mini-pooling": mini_pooling_table,
        "mini-macro": mini_macro_table,
        "narrow-pooling": narrow_pooling_table,
    }
)
"""The tables that come with the package, by the name that `nas-ext bench` takes."""

FROM_FILES: Mapping[str, Callable[[str | Path | None], Table]] = MappingProxyType(
    {
        "nasbench-macro": nasbench_macro_table,
        "nasbench201-cifar10": partial(nasbench201_table, dataset="cifar10"),
        "nasbench201-cifar100": partial(nasbench201_table, dataset="cifar100"),
        "nasbench201-imagenet16": partial(nasbench201_table, dataset="imagenet"),
    }
)
"""The tables that a path, or NAS_EXT_DATA for None, leads to."""

TABLES = (*SHIPPED, *FROM_FILES)
"""The names of all tables."""
